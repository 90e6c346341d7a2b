"""Facts that trained weights hold: attention, a matrix, a feed-forward block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...energies import Dot, Exp, Gelu, Log, Power, Quadratic, ReadEnergy, RectifiedPower, Silu, Softplus, Sum
from ...energies.separations.separation import require
from ..estimate import Estimate
from .theorems import ASYMPTOTIC, Setting, Unmet, theorem, undamaged


@dataclass(frozen=True)
class AttentionCapacity:
    """Sequences that one layer of attention memorises.

    Attributes:
        sequences: ``H d_h + d``, of any context length.
        accuracy: at least reached on ``total`` sequences, ``1/N + (1 − 1/N)(H d_h + d)/T₀``; None where these are not given.
        previous: ``H(d_h − 1) + 1``, what was known before, for contexts up to d.
    """

    sequences: int
    accuracy: float | None
    previous: int


def attention_capacity(heads: int, head_dim: int, dim: int, *, tokens: int | None = None, total: int | None = None) -> AttentionCapacity:
    """Associations (sequence -> next token) that one attention-only layer with a skip connection can memorise: ``H d_h + d``.

    Each head has an output matrix of its own, ``d_h ≤ d``; and the accuracy that is reached at least when ``total`` of them over ``tokens`` different
    tokens are asked for (Dana et al. 2024, arXiv 2411.10115). Trained layers hold more: about H d_h² d in the paper's experiments.

    Raises:
        ValueError: sizes below 1, a head wider than the model, only one of tokens and total.
    """
    sizes = {"heads": heads, "head_dim": head_dim, "dim": dim} | ({} if tokens is None else {"tokens": tokens}) | ({} if total is None else {"total": total})
    for name, size in sizes.items():
        require(isinstance(size, int) and size >= 1, f"{name} must be an integer of at least 1, got {size!r}.")
    require(head_dim <= dim, f"The theorem is for heads no wider than the model, got head_dim={head_dim} and dim={dim}.")
    require((tokens is None) == (total is None), "The accuracy needs both: how many different tokens there are, and the total of sequences asked for.")
    sequences = heads * head_dim + dim
    accuracy = None if tokens is None or total is None else 1 / tokens + (1 - 1 / tokens) * min(1.0, sequences / total)
    return AttentionCapacity(sequences, accuracy, heads * (head_dim - 1) + 1)


@dataclass(frozen=True)
class LinearCapacity:
    """Facts that a d × d matrix holds, read by argmax, and the bits of each parameter that they make use of."""

    facts: float
    bits_per_parameter: float


def linear_memory_capacity(dim: int) -> LinearCapacity:
    """n with ``n ln n = d²/2``: facts x -> f(x), one to one, that a d × d matrix holds between random embeddings, read by argmax.

    Sharp for d → ∞, ½/ln 2 = 0.72 bits per parameter (as reported of arXiv 2605.05189 and 2605.10795; the order up to logarithms: Nichani, Lee & Bietti 2024,
    arXiv 2412.06538). A Hebbian matrix, ``Σ u_f(x) e_xᵀ``, recalls about half of so many; a trained one of small d recalls them all, and more.

    Raises:
        ValueError: a width below 2.
    """
    from scipy.special import lambertw

    require(isinstance(dim, int) and dim >= 2, f"dim is the width of the embeddings, an integer of at least 2; got {dim!r}.")
    half = 0.5 * dim * dim
    facts = half / float(lambertw(half).real)  # n ln n = c  <=>  n = c/W₀(c)
    return LinearCapacity(facts, facts * math.log2(facts) / dim**2)


def mlp_memory_capacity(dim: int, width: int) -> float:
    """``m d``: facts that a feed-forward block of m hidden units holds, up to powers of a logarithm (Nichani, Lee & Bietti 2024, arXiv 2412.06538).

    Raises:
        ValueError: sizes below 1.
    """
    for name, size in (("dim", dim), ("width", width)):
        require(isinstance(size, int) and size >= 1, f"{name} must be an integer of at least 1, got {size!r}.")
    return float(dim * width)


@theorem(similarity=Dot, separation=Exp, scaling=Log, confinement=Quadratic)
def attention_only(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """``attention_capacity`` of the setting's heads."""
    undamaged(setting)
    if setting.heads is None or setting.head_dim is None:
        raise Unmet("what trained attention memorises depends on its heads: Setting(heads=, head_dim=)")
    if setting.head_dim > dim:
        raise Unmet(f"the theorem on attention is for heads no wider than the model, and {setting.head_dim} > {dim}")
    found = attention_capacity(setting.heads, setting.head_dim, dim)
    words = f"trained parameters of one layer of {setting.heads} heads, sequences of any length"
    yield Estimate(float(found.sequences), None, words, "theorem", "argmax", "Dana et al. 2024, arXiv 2411.10115")


@theorem(similarity=Dot, separation=Power, scaling=Sum, confinement=Quadratic)
def linear_memory(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """``linear_memory_capacity``."""
    assert isinstance(energy.separation, Power)
    undamaged(setting)
    if energy.separation.degree != 2 or dim < 2:
        raise Unmet(f"facts in a matrix are known for linear weights (squares) and d ≥ 2, not for degree {energy.separation.degree} and d = {dim}")
    words = f"{ASYMPTOTIC}; the best d × d matrix between random embeddings, one fact to a key"
    source = "Nichani et al. 2024, arXiv 2412.06538; arXiv 2605.05189"
    yield Estimate(linear_memory_capacity(dim).facts, None, words, "heuristic", "argmax", source)


@theorem(similarity=Dot, separation=(RectifiedPower, Gelu, Silu, Softplus), scaling=Sum, confinement=Quadratic)
def feed_forward(energy: ReadEnergy, dim: int, setting: Setting) -> Iterator[Estimate]:
    """``mlp_memory_capacity`` of the setting's width."""
    undamaged(setting)
    if setting.width is None:
        raise Unmet("what a trained feed-forward block holds depends on its hidden units: Setting(width=)")
    words = f"{ASYMPTOTIC}; trained parameters of {setting.width} hidden units, up to powers of a logarithm"
    yield Estimate(mlp_memory_capacity(dim, setting.width), None, words, "heuristic", "argmax", "Nichani et al. 2024, arXiv 2412.06538")
