"""Approximate reads of many slots: faiss preselects the nearest candidates of every query, and the read among them is exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..energies import Cosine, Dot, Euclidean, ReadEnergy, checks
from ..kernels import nearest, retrieve

EFFORT = 16  # cells or neighbours that a search looks into


@dataclass(frozen=True)
class Preselection:
    """What preselecting costs in exactness, measured on some queries.

    Attributes:
        recall: the share of the truly nearest slots that were among the candidates.
        error: the largest ``‖ŷ − y‖ / ‖y‖`` of what is read, y from all slots.
    """

    recall: float
    error: float

    def __str__(self) -> str:
        return f"{self.recall:.1%} of the nearest slots among the candidates, relative error at most {self.error:.1e}"


class PreselectedMemory:
    """Patterns ξ_μ, with values or without, of which every query reads only the ``candidates`` nearest, as an index of faiss finds them.

    The slots left out would have had the smallest scores, so that for energies whose weights fall off (softmax at a large β, separations of finite reach)
    little is lost; ``compared`` says how much on queries of yours. Gradients reach queries, patterns and values through the candidates.

    Args:
        energy: with ``Dot``, ``Euclidean`` or ``Cosine`` similarity.
        keys: patterns (n, d), float32.
        values: (n, v), or None to read patterns.
        candidates: k, for each query.
        index: of faiss, as its ``index_factory`` spells it, "HNSW32" for example. None: ``IVFc,Flat`` with c ≈ 4√n cells of no fewer than
            40 patterns on average; "Flat" below 4096 patterns.
        effort: cells (IVF) or neighbours (HNSW) that a search looks into; more find more.

    Raises:
        ImportError: faiss is not installed.
        ValueError, TypeError: another similarity, patterns that do not fit, an index that faiss does not know.
    """

    def __init__(self, energy: ReadEnergy, keys: Tensor, values: Tensor | None = None, *, candidates: int = 64, index: str | None = None, effort: int = EFFORT):
        faiss = _faiss()
        if not isinstance(energy, ReadEnergy) or type(energy.similarity) not in (Dot, Euclidean, Cosine):
            raise ValueError(f"faiss finds the nearest by inner product, distance or angle: use Dot(), Euclidean() or Cosine(), got {energy!r}.")
        checks.inputs(energy, keys, keys, values, None)
        checks.contents(None, {"keys": keys}, keys)
        if keys.ndim != 2 or keys.dtype != torch.float32 or not len(keys):
            raise ValueError(f"Patterns are (n, d) in float32, which is what faiss holds, and at least one; got {tuple(keys.shape)} in {keys.dtype}.")
        if candidates < 1 or effort < 1:
            raise ValueError(f"At least one candidate is read and one cell looked into, got candidates={candidates} and effort={effort}.")
        self.spec, self.keys, self.values, self.candidates = energy, keys, values, min(candidates, len(keys))
        metric = faiss.METRIC_L2 if isinstance(energy.similarity, Euclidean) else faiss.METRIC_INNER_PRODUCT
        name = index or ("Flat" if len(keys) < 4096 else f"IVF{min(int(4 * math.sqrt(len(keys))), len(keys) // 40)},Flat")
        try:
            self.index: Any = faiss.index_factory(keys.shape[1], name, metric)
        except RuntimeError as error:
            raise ValueError(f"faiss knows no index {name!r} for patterns of width {keys.shape[1]}: {error}") from None
        rows = self._rows(keys)
        if not self.index.is_trained:
            self.index.train(rows)
        self.index.add(rows)
        for knob in ("nprobe", "efSearch"):
            if (inner := getattr(self.index, "hnsw", self.index)) is not None and hasattr(inner, knob):
                setattr(inner, knob, effort)

    def __len__(self) -> int:
        return len(self.keys)

    @torch.no_grad()
    def select(self, query: Tensor) -> Tensor:
        """Numbers of the candidates of every query, −1 where the index found fewer. (..., q, d) -> (..., q, k)"""
        checks.inputs(self.spec, query, self.keys, None, None)
        _, found = self.index.search(self._rows(query.reshape(-1, query.shape[-1])), self.candidates)
        return torch.from_numpy(found).to(query.device).view(*query.shape[:-1], self.candidates)

    def retrieve(self, query: Tensor, *, steps: int = 1) -> Tensor:
        """``hopfield_amem.retrieve`` among the candidates, which are selected anew at every step. (..., q, d) -> (..., q, v), or (..., q, d) without values

        Raises:
            ValueError, TypeError: as in ``hopfield_amem.retrieve``.
        """
        if type(steps) is not int or steps < 1:
            raise ValueError(f"steps must be an integer of at least 1 (one step is attention), got {steps!r}.")
        for _ in range(steps - 1):
            query = self._step(query, None)
        return self._step(query, self.values)

    def compared(self, query: Tensor) -> Preselection:
        """What these queries lose, against an exact search and an exact read of one step."""
        with torch.no_grad():
            chosen, truth = self.select(query), nearest(self.spec, query, self.keys, count=self.candidates)[1]
            hit = (truth.unsqueeze(-1) == chosen.unsqueeze(-2)).any(-1)
            exact = retrieve(self.spec, query, self.keys, self.values)
            error = (self.retrieve(query) - exact).norm(dim=-1) / exact.norm(dim=-1).clamp_min(torch.finfo(exact.dtype).tiny)
        return Preselection(float(hit.float().mean()), float(error.max()))

    def _step(self, query: Tensor, values: Tensor | None) -> Tensor:
        chosen = self.select(query)
        rows = chosen.clamp_min(0)
        picked = None if values is None else values[rows]
        return retrieve(self.spec, query.unsqueeze(-2), self.keys[rows], picked, presence=(chosen >= 0).unsqueeze(-2)).squeeze(-2)

    def _rows(self, rows: Tensor):
        """What faiss is given: directions for angles."""
        rows = normalize(rows, dim=-1) if isinstance(self.spec.similarity, Cosine) else rows
        return rows.detach().cpu().contiguous().numpy()


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError:
        raise ImportError("Preselecting candidates needs faiss: pip install 'hopfield_amem[ann]' (faiss-cpu). Without it retrieve reads all slots.") from None
    return faiss
