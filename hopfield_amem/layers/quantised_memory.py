"""A memory of many patterns in few bytes: product-quantised slots."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..descent import Descended, Descent, FixedPoint
from ..descent.loop import Landscape
from ..energies import ReadEnergy, checks
from ..kernels import Gates, computation, full_precision
from ..kernels.quantised import ProductCode, Quantised, serves

CENTROIDS = 256  # as many as a byte tells apart


class QuantisedMemory(nn.Module):
    """Patterns as one byte per part, ``ξ̂_μ = (C₁[c_μ1], …, C_P[c_μP])``, read by any energy with ``Dot`` or ``Euclidean`` (Jégou et al. 2011).

    Queries are not quantised, so that ``|x·ξ − x·ξ̂| ≤ ‖x‖ ‖ξ − ξ̂‖``: what ``store`` returns bounds the error of every score. A state rests at quantised
    patterns. Built by ``fit``, which learns the codebooks from a sample; ``store`` then takes any number of patterns.

    Args:
        energy: the read energy; its β is a number.
        codebooks: centroids of every part, (parts, centroids, d / parts), at most 256.

    State: ``codebooks`` and ``codes`` (parts, n), which travel with ``state_dict``, whatever was stored before.

    Raises:
        ValueError: an energy whose scores are no sums over parts, codebooks of a wrong shape.
    """

    codebooks: Tensor
    codes: Tensor

    def __init__(self, energy: ReadEnergy, codebooks: Tensor):
        super().__init__()
        if not isinstance(energy, ReadEnergy) or not serves(energy):
            raise ValueError(f"Scores of quantised slots are sums over parts: give an energy with Dot() or Euclidean() whose beta is a number, got {energy!r}.")
        if codebooks.ndim != 3 or not codebooks.is_floating_point() or not 1 <= codebooks.shape[1] <= CENTROIDS:
            raise ValueError(f"Codebooks are floating-point (parts, centroids ≤ {CENTROIDS}, width of a part), got {tuple(codebooks.shape)}.")
        self.spec = energy
        self.register_buffer("codebooks", codebooks)
        self.register_buffer("codes", torch.zeros(len(codebooks), 0, dtype=torch.uint8, device=codebooks.device), persistent=False)

    @classmethod
    def fit(cls, energy: ReadEnergy, sample: Tensor, parts: int, *, centroids: int = CENTROIDS, seed: int = 0) -> QuantisedMemory:
        """An empty memory whose codebooks are the k-means of every part of a sample (n, d), by scikit-learn; exact where no part has more than
        ``centroids`` different values.

        Raises:
            ValueError, TypeError: a sample that is empty, does not divide into parts, or holds NaN or Inf; a number of centroids outside 1 … 256.
        """
        checks.floating("sample", sample)
        if sample.ndim != 2 or not len(sample) or parts < 1 or sample.shape[1] % parts:
            raise ValueError(f"A sample (n, d) of at least one pattern divides into parts of equal width, got {tuple(sample.shape)} and parts={parts}.")
        if not 1 <= centroids <= CENTROIDS or not bool(sample.isfinite().all()):
            raise ValueError(f"Codebooks need a finite sample and 1 to {CENTROIDS} centroids (one byte), got centroids={centroids}; is there NaN or Inf?")
        sample = sample.detach().to(torch.promote_types(sample.dtype, torch.float32))
        books = [_means(part, centroids, seed) for part in sample.chunk(parts, -1)]
        size = max(map(len, books))
        return cls(energy, torch.stack([torch.cat([book, book[:1].expand(size - len(book), -1)]) for book in books]))

    def __len__(self) -> int:
        return self.codes.shape[1]

    @property
    def dim(self) -> int:
        """Width d of the patterns."""
        return self.codebooks.shape[0] * self.codebooks.shape[2]

    @property
    def code(self) -> ProductCode:
        """Codebooks and codes; ``code.decode()`` puts the quantised patterns together."""
        return ProductCode(self.codebooks, self.codes)

    @property
    def compression(self) -> float:
        """Bytes of the patterns, in the dtype of the codebooks, over bytes of codes and codebooks."""
        size = self.codebooks.element_size()
        return len(self) * self.dim * size / (self.codes.numel() + self.codebooks.numel() * size)

    @torch.no_grad()
    def store(self, patterns: Tensor) -> Tensor:
        """Keep patterns (n, d). -> how far each is moved, ``‖ξ − ξ̂‖``, (n,)

        Raises:
            ValueError, TypeError: patterns that do not fit, or hold NaN or Inf.
        """
        checks.floating("patterns", patterns)
        if patterns.ndim != 2 or patterns.shape[1] != self.dim or not bool(patterns.isfinite().all()):
            raise ValueError(f"This memory stores finite patterns (n, {self.dim}), got {tuple(patterns.shape)}{' with NaN or Inf' * (patterns.ndim == 2)}.")
        patterns = patterns.to(self.codebooks)
        numbers = self.code.encode(patterns)
        self.codes = torch.cat([self.codes, numbers], 1)
        return (patterns - ProductCode(self.codebooks, numbers).decode()).norm(dim=-1)

    def recall(self, query: Tensor, descent: Descent = FixedPoint()) -> Descended:
        """Let queries (..., q, d) descend among the quantised patterns, with a certificate; its margin is between quantised patterns.

        Raises:
            ValueError, TypeError: an empty memory, queries that do not fit, an energy that is unbounded below on these patterns.
        """
        self._asked(query)
        spec = self.spec
        if checks.at_risk(spec):
            checks.bounded(spec, self.code.decode())  # put together, for this alone: their largest eigenvalue decides
        landscape = _Quantised(Quantised(spec, self.code), query)
        with full_precision(query):
            return landscape.descended(descent.run(landscape), descent.tolerance)

    def forward(self, query: Tensor) -> Tensor:
        """The states that are recalled. (..., q, d) -> (..., q, d)"""
        return self.recall(query).state

    def read(self, query: Tensor, values: Tensor) -> Tensor:
        """``Σ p v`` at the queries, for values in the order of storing. (..., q, d), (n, v) -> (..., q, v)

        Raises:
            ValueError, TypeError: queries or values that do not fit.
        """
        self._asked(query)
        if values.ndim != 2 or len(values) != len(self):
            raise ValueError(f"Every stored pattern needs one value: {len(self)} are stored, values are {tuple(values.shape)}.")
        dtype, (query, values) = computation(query, values)
        with full_precision(query):
            return Quantised(self.spec, self.code).read(query, values).to(dtype)

    def nearest(self, query: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
        """Similarities and numbers of the most similar quantised patterns. (..., q, d) -> (..., q, min(count, n)) twice"""
        query = self._asked(query)
        return Quantised(self.spec, self.code).nearest(query, count)

    def energy(self, state: Tensor) -> Tensor:
        """E of every state. (..., q, d) -> (..., q)"""
        state = self._asked(state)
        return Quantised(self.spec, self.code).energy(state)

    def _asked(self, query: Tensor) -> Tensor:
        """The query, at least in float32."""
        checks.floating("query", query)
        if not len(self):
            raise ValueError("This memory is empty. Store patterns first: memory.store(patterns).")
        if query.shape[-1] != self.dim:
            raise ValueError(f"This memory holds patterns of width {self.dim}, got a query {tuple(query.shape)}.")
        return query.to(torch.promote_types(query.dtype, torch.float32))

    def get_extra_state(self) -> dict[str, Any]:
        return {"codes": self.codes}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.codes = state["codes"].to(self.codes.device)

    def extra_repr(self) -> str:
        parts, centroids, _ = self.codebooks.shape
        return f"dim={self.dim}, patterns={len(self)}, parts={parts}, centroids={centroids}\n{self.spec}"


class _Quantised(Landscape):
    """An energy over quantised slots: the same descents, other reads."""

    engine: Quantised  # type: ignore[assignment]

    def __init__(self, engine: Quantised, state: Tensor):
        self.dtype, (self.start,) = computation(state)
        self.spec, self.engine = engine.spec, engine
        self.given = {"query": state}
        self.keys, self.gates, self.backend = engine.code.codebooks, Gates(), "quantised"

    def detached(self) -> Quantised:  # type: ignore[override]
        return self.engine

    def certificate(self, state: Tensor) -> tuple[Tensor | None, Tensor | None]:
        best, _ = self.engine.nearest(state, 2)
        return best[..., 0] - best[..., 1] if best.shape[-1] > 1 else torch.full_like(best[..., 0], math.inf), None


def _means(part: Tensor, count: int, seed: int) -> Tensor:
    """Centroids of rows, (n, w) -> (at most count, w): the rows themselves where no more of them differ."""
    from sklearn.cluster import KMeans

    rows = part.unique(dim=0)
    if len(rows) <= count:
        return rows
    means = KMeans(count, n_init=1, random_state=seed).fit(part.cpu().numpy()).cluster_centers_  # type: ignore[arg-type]
    return torch.from_numpy(means).to(part)
