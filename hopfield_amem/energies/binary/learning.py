"""Learning rules: patterns of ±1, folded into couplings. ``learning.hebbian(patterns)`` is the network of 1982."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from .couplings import Bidirectional, Couplings, spins


class UnstablePatterns(UserWarning):
    """Couplings at which not every pattern is stable."""


def hebbian(patterns: Tensor, *, diagonal: bool = False) -> Couplings:
    """``W = Σ_μ ξ_μ ξ_μᵀ/d`` (Hopfield 1982); symmetric.

    The energy is ``−(1/2d) Σ_μ (x·ξ_μ)²``, that of ``presets.hopfield(beta=1/d)``, plus ``n/2`` where the diagonal is left out.

    Args:
        patterns: ±1, (n, d).
        diagonal: keep ``W_ii = n/d`` rather than 0.
    """
    patterns = _checked(patterns)
    return Couplings(_with(patterns.mT @ patterns / patterns.shape[1], diagonal))


def pseudo_inverse(patterns: Tensor, *, diagonal: bool = False) -> Couplings:
    """``W = Ξ⁺Ξ``, the projection onto what the patterns span, so that ``W ξ_μ = ξ_μ`` (Personnaz, Guyon & Dreyfus 1986); symmetric, ``0 ≤ W_ii ≤ 1``.

    Correlated patterns are stored as well as random ones, up to d linearly independent ones. Without the diagonal (Kanter & Sompolinsky 1987) every
    pattern stays at rest, with stability ``1 − W_ii``, and basins are wider.

    Args:
        patterns: ±1, (n, d). Computed in float64.
        diagonal: keep W_ii rather than 0.
    """
    patterns = _checked(patterns)
    projection = _mapping(patterns, patterns)
    return Couplings(_with((projection + projection.mT).to(patterns.dtype) / 2, diagonal))


def storkey(patterns: Tensor, *, onto: Couplings | None = None) -> Couplings:
    """Storkey's rule (1997), pattern by pattern: ``ΔW_ij = (ξᵢξⱼ − ξᵢ h_ji − h_ij ξⱼ)/d`` with ``h_ij = Σ_{k≠i,j} W_ik ξ_k``; symmetric, zero diagonal.

    Local and incremental like Hebb's, it leaves out of a pattern what is foreseen of it, and holds more (about ``d/√(2 ln d)`` patterns). The order matters.

    Args:
        patterns: ±1, (n, d), learned in this order.
        onto: symmetric couplings that have learned other patterns before.

    Raises:
        ValueError: couplings of another width, with a bias, or asymmetric ones, whose energy the rule would not keep.
    """
    patterns = _checked(patterns)
    width = patterns.shape[1]
    weights = patterns.new_zeros(width, width) if onto is None else _with(_earlier(onto, patterns), False)
    for pattern in patterns:
        foreseen = ((weights @ pattern).unsqueeze(-1) - weights * pattern) * pattern  # h_ij ξ_j
        weights = _with(weights + (torch.outer(pattern, pattern) - foreseen - foreseen.mT) / width, False)
    return Couplings(weights)


def delta(patterns: Tensor, *, margin: float = 1.0, sweeps: int = 1000) -> Couplings:
    """Learning from errors until every spin of every pattern is stable, ``ξᵢ h_i ≥ margin``: the perceptron's rule (Rosenblatt 1958) among symmetric
    couplings (Gardner 1988; Diederich & Opper 1987); zero diagonal.

    Every sweep adds ``ξᵢ ξⱼ/d`` to W_ij and to W_ji for every pattern and every spin i that is not stable yet, however far it is from its margin (the rule
    of Widrow & Hoff would add in proportion to that). It ends after finitely many sweeps wherever symmetric couplings exist that hold the patterns with a
    positive margin.

    Args:
        patterns: ±1, (n, d).
        margin: the stability that is asked for, ≥ 0; a pattern alone reaches 2(d − 1)/d in the first sweep.
        sweeps: at most this many.

    Warns:
        UnstablePatterns: when patterns are not stable after the last sweep; how many.

    Raises:
        ValueError: a margin that is negative or not finite, sweeps below 1.
    """
    patterns = _checked(patterns)
    if not 0 <= margin < float("inf") or not isinstance(sweeps, int) or sweeps < 1:
        raise ValueError(f"delta needs a finite margin ≥ 0 and at least one sweep, got margin={margin!r}, sweeps={sweeps!r}.")
    width = patterns.shape[1]
    weights = patterns.new_zeros(width, width)
    lacking = torch.ones_like(patterns)
    for _ in range(sweeps):
        step = (lacking * patterns).mT @ patterns / width
        weights = _with(weights + step + step.mT, False)
        lacking = (patterns * (patterns @ weights) < margin).to(patterns.dtype)
        if not lacking.any():
            break
    _warn(Couplings(weights).stability(patterns), lacking, sweeps)
    return Couplings(weights)


def sequence(patterns: Tensor, *, cyclic: bool = False, symmetric: float = 0.0, rule: str = "hebbian") -> Couplings:
    """``W = Σ_μ ξ_{μ+1} ξ_μᵀ/d``: each pattern recalls the next (Hopfield 1982; Amari 1972). Asymmetric: there is no energy, ``descent.replay`` follows it.

    Args:
        patterns: ±1, (n, d), in their order, n ≥ 2.
        cyclic: whether the first follows the last. Otherwise nothing is stored to follow it.
        symmetric: λ ≥ 0, how much of ``Σ_μ ξ_μ ξ_μᵀ/d`` is added, which holds a state at its pattern; from about 1 on it no longer moves on.
        rule: "hebbian", or "pseudo_inverse" for ``W = Ξ₊ᵀ (Ξᵀ)⁺``: exact for correlated patterns too, ``W ξ_μ = ξ_{μ+1}``, as long as those that are
            followed by another are linearly independent.

    Raises:
        ValueError: fewer than two patterns, a negative λ, an unknown rule.
    """
    patterns = _checked(patterns)
    if len(patterns) < 2 or not 0 <= symmetric < float("inf") or rule not in ("hebbian", "pseudo_inverse"):
        raise ValueError(
            "sequence needs at least two patterns, symmetric ≥ 0, and rule 'hebbian' or 'pseudo_inverse'; "
            f"got {len(patterns)} patterns, symmetric={symmetric!r}, rule={rule!r}."
        )
    sources = patterns if cyclic else patterns[:-1]
    targets = patterns.roll(-1, 0) if cyclic else patterns[1:]
    both = ((sources, targets, 1.0), (patterns, patterns, symmetric))
    if rule == "pseudo_inverse":
        return Couplings(sum(share * _mapping(s, t) for s, t, share in both if share).to(patterns.dtype))  # type: ignore[union-attr]
    return Couplings(sum(share * t.mT @ s / s.shape[1] for s, t, share in both if share))  # type: ignore[arg-type]


def bidirectional(keys: Tensor, values: Tensor) -> Bidirectional:
    """``W = Σ_μ x_μ y_μᵀ``: pairs recalled from either half (Kosko 1988). ``descent.alternate`` recalls them.

    Args:
        keys: ±1, (n, d).
        values: ±1, (n, p), one per key.
    """
    keys, values = _checked(keys), _checked(values)
    if len(keys) != len(values) or keys.dtype != values.dtype:
        raise ValueError(f"Every key needs one value in its dtype: got {len(keys)} keys of {keys.dtype} and {len(values)} values of {values.dtype}.")
    return Bidirectional(keys.mT @ values)


def _checked(patterns: Tensor) -> Tensor:
    spins("patterns", patterns)
    if patterns.ndim != 2:
        raise ValueError(f"Couplings are learned from patterns (n, d), got {tuple(patterns.shape)}.")
    return patterns.detach()


def _earlier(couplings: Couplings, patterns: Tensor) -> Tensor:
    if couplings.bias is not None or len(couplings.weights) != patterns.shape[1]:
        raise ValueError(
            f"Patterns of width {patterns.shape[1]} are learned onto couplings of as many spins, without a bias; got {len(couplings.weights)} spins"
            f"{'' if couplings.bias is None else ' and a bias'}."
        )
    if not couplings.symmetric:
        raise ValueError("Storkey's rule keeps couplings symmetric, these are asymmetric: learn onto Couplings((W + W.mT) / 2), or begin without any.")
    return couplings.weights.to(patterns.dtype)


def _with(weights: Tensor, diagonal: bool) -> Tensor:
    """The weights with their diagonal, or with zeros in its place."""
    return weights if diagonal else weights - weights.diagonal().diag()


def _mapping(sources: Tensor, targets: Tensor) -> Tensor:
    """The W of least norm with ``W s_μ = t_μ``, exactly where that is possible and else in least squares; float64. (n, d), (n, p) -> (p, d)"""
    return targets.double().mT @ torch.linalg.pinv(sources.double()).mT


def _warn(stability: Tensor, lacking: Tensor, sweeps: int) -> None:
    unstable, short = int((stability <= 0).any(-1).sum()), int(lacking.any(-1).sum())
    if short:
        warnings.warn(
            f"After {sweeps} sweeps {unstable} of {len(stability)} patterns are not stable and {short} are below the margin. Learn longer, ask for a smaller "
            "margin, or store fewer patterns: symmetric couplings of d spins hold a limited number, and none holds contradictory ones.",
            UnstablePatterns,
            stacklevel=3,
        )
