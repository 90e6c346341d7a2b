"""Approximate reads of many slots: faiss preselects the nearest candidates of every query, and the read among them is exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ..energies import Cosine, Dot, Euclidean, ReadEnergy, checks
from ..kernels import nearest, retrieve
from ..kernels.recomputed import recomputed, version
from ..kernels.rows import fitting

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

    The index holds a copy of the patterns as they were: after they were trained or replaced, ``rebuild`` it, without which reading is refused. Torch takes
    no note of fused optimizers, nor of writing to ``keys.data``; so the bits of patterns that require a gradient are summed at every search, 0.1 ms per MB
    on one core: 5 ms for 100 000 patterns of width 128, of which the search takes 0.15 ms for one query and 9 ms for 64. Give ``keys.detach()`` where nothing
    trains them any more: then only what torch notes is seen.

    Args:
        energy: with ``Dot``, ``Euclidean`` or ``Cosine`` similarity.
        keys: patterns (n, d), float32.
        values: (n, v), or None to read patterns.
        candidates: k, for each query.
        index: of faiss, as its ``index_factory`` spells it, "HNSW32" for example. None: ``IVFc,Flat`` with c ≈ 4√n cells of no fewer than
            40 patterns on average; "Flat" below 4096 patterns.
        effort: cells (IVF) or neighbours (HNSW) that a search looks into, behind whatever transforms them (PCA, OPQ); more find more. Other indexes
            ("Flat", "PQ16", "LSH") look at every pattern, and have no use for it.

    Raises:
        ImportError: faiss is not installed.
        ValueError, TypeError: another similarity, patterns that do not fit, an index that faiss does not know, or one whose
            effort faiss cannot set (NSG, NNDescent).
    """

    def __init__(self, energy: ReadEnergy, keys: Tensor, values: Tensor | None = None, *, candidates: int = 64, index: str | None = None, effort: int = EFFORT):
        _faiss()
        if not isinstance(energy, ReadEnergy) or type(energy.similarity) not in (Dot, Euclidean, Cosine):
            raise ValueError(f"faiss finds the nearest by inner product, distance or angle: use Dot(), Euclidean() or Cosine(), got {energy!r}.")
        if candidates < 1 or effort < 1:
            raise ValueError(f"At least one candidate is read and one cell looked into, got candidates={candidates} and effort={effort}.")
        self.spec, self.keys, self.values = energy, keys, values
        self._asked, self._kind, self._effort = candidates, index, effort
        self.rebuild()

    def rebuild(self) -> None:
        """Index the patterns as they are now, after ``keys`` were trained, or set anew: ``memory.keys = patterns`` (with ``memory.values``).

        Raises:
            ValueError, TypeError: patterns or values that do not fit, as for a new memory.
        """
        keys, faiss = self.keys, _faiss()
        checks.inputs(self.spec, keys, keys, self.values, None)
        checks.contents(None, {"keys": keys}, keys)
        if keys.ndim != 2 or keys.dtype != torch.float32 or not len(keys):
            raise ValueError(f"Patterns are (n, d) in float32, which is what faiss holds, and at least one; got {tuple(keys.shape)} in {keys.dtype}.")
        name = self._kind or ("Flat" if len(keys) < 4096 else f"IVF{min(int(4 * math.sqrt(len(keys))), len(keys) // 40)},Flat")
        metric = faiss.METRIC_L2 if isinstance(self.spec.similarity, Euclidean) else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(keys.shape[1], name, metric)
        except RuntimeError as error:
            raise ValueError(f"faiss knows no index {name!r} for patterns of width {keys.shape[1]}: {error}") from None
        _exert(faiss, index, name, self._effort)
        rows = self._rows(keys)
        if not index.is_trained:
            index.train(rows)
        index.add(rows)
        self.index: Any = index
        self.candidates, self._indexed = min(self._asked, len(keys)), (keys, _state(keys))

    def __len__(self) -> int:
        return len(self.keys)

    @torch.no_grad()
    def select(self, query: Tensor) -> Tensor:
        """Numbers of the candidates of every query, −1 where the index found fewer. (..., q, d) -> (..., q, k)"""
        keys, state = self._indexed
        if keys is not self.keys or state != _state(keys):
            raise ValueError("The patterns were changed since they were indexed, so that the nearest are not found: memory.rebuild() indexes them again.")
        checks.inputs(self.spec, query, keys, None, None)
        checks.contents(None, {"query": query}, query.detach().cpu())
        _, found = self.index.search(self._rows(query.reshape(-1, query.shape[-1])), self.candidates)
        return torch.from_numpy(found).to(query.device).view(*query.shape[:-1], self.candidates)

    def retrieve(self, query: Tensor, *, steps: int = 1) -> Tensor:
        """``hopfield_amem.retrieve`` among the candidates, which are selected anew at every step. (..., q, d) -> (..., q, v), or (..., q, d) without values

        Raises:
            ValueError, TypeError: as in ``hopfield_amem.retrieve``.
            RuntimeError: in ``backward``, where patterns, values, queries or β were written to in between.
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
        """One step of all queries, so many together that their candidates fit; where gradients are on, candidates are gathered again for them."""
        width = self.keys.shape[1] + (0 if values is None else values.shape[1])
        queries, chosen = query.reshape(-1, query.shape[-1]), self.select(query).view(-1, self.candidates)
        together = fitting(self.candidates * width)
        few = partial(_among, self.spec, self.keys, values)
        read = {"query": query, "keys": self.keys, "values": values, "beta": self.spec.beta}
        found = torch.cat([recomputed(few, part, read) for part in zip(queries.split(together), chosen.split(together), strict=True)])
        return found.view(*query.shape[:-1], found.shape[-1])

    def _rows(self, rows: Tensor):
        """What faiss is given: directions for angles."""
        rows = normalize(rows, dim=-1) if isinstance(self.spec.similarity, Cosine) else rows
        return rows.detach().cpu().contiguous().numpy()


def _among(energy: ReadEnergy, keys: Tensor, values: Tensor | None, part: tuple[Tensor, Tensor]) -> Tensor:
    """The reads of queries (q, d), each among its own candidates (q, k)."""
    query, chosen = part
    rows = chosen.clamp_min(0)
    picked = None if values is None else values[rows]
    return retrieve(energy, query.unsqueeze(-2), keys[rows], picked, presence=(chosen >= 0).unsqueeze(-2)).squeeze(-2)


def _state(keys: Tensor) -> tuple[int | None, int | None]:
    """What changes when patterns are written to, by an optimizer that torch takes no note of too."""
    bits = int(keys.detach().view(torch.int32).sum(dtype=torch.int32)) if keys.requires_grad else None
    return version(keys), bits


def _exert(faiss: Any, index: Any, name: str, effort: int) -> None:
    """Set how much a search looks into, through the transforms before it."""
    if "NSG" in name or "NNDescent" in name:
        raise ValueError(f"faiss cannot set the effort of {name!r}, which would be ignored. Use cells (IVF) or neighbours (HNSW).")
    for knob in ("nprobe", "efSearch"):
        try:
            return faiss.ParameterSpace().set_index_parameter(index, knob, effort)
        except RuntimeError:  # an index without this one; those without either look at everything
            continue
    return None


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError:
        raise ImportError("Preselecting candidates needs faiss: pip install 'hopfield_amem[ann]' (faiss-cpu). Without it retrieve reads all slots.") from None
    return faiss
