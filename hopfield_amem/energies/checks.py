"""Errors at the door: what was expected, what came, what to do. The inside of the library trusts its inputs."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .confinement import Confinement, Free, Hypercube, Quadratic, Sphere
from .scalings.scaling import Scaling, Sum
from .separations.separation import Separation
from .similarities.similarity import Cosine, Dot, Manhattan
from .truth import autocasting, readable

if TYPE_CHECKING:
    from .read import ReadEnergy


def factors(energy: ReadEnergy) -> None:
    """Raise when the factors of an energy do not fit each other."""
    similarity, scaling, confinement = energy.similarity, energy.scaling, energy.confinement
    if not isinstance(scaling, Scaling):
        raise ValueError(f"The scaling must be a Scaling, such as Sum(), Log(), Simplex() or TopK(k), got {scaling!r}.")
    if not isinstance(confinement, Confinement):
        raise ValueError(f"The confinement must be Quadratic(), Sphere(), Hypercube(), Free() or Probability(), got {confinement!r}.")
    inverse_temperature(energy.beta)
    if similarity.degree > 1 and not isinstance(confinement, (Sphere, Hypercube)):
        raise ValueError(
            f"{similarity} grows like ‖x‖ to the power {similarity.degree}, which {type(confinement).__name__}() does not hold: the energy is unbounded below. "
            "Confine the state with Hypercube() or Sphere()."
        )
    if isinstance(energy.similarity, Dot) and isinstance(confinement, Free):
        raise ValueError("Dot with Free is unbounded below: −x·ξ falls without end along ξ. Confine the state with Quadratic(), Sphere() or Hypercube().")
    if isinstance(energy.similarity, Cosine) and not isinstance(confinement, Sphere):
        raise ValueError(f"Cosine only sees the direction of a state, so its state lives on a sphere: use Sphere(radius), not {type(confinement).__name__}().")
    if isinstance(energy.similarity, Manhattan) and not isinstance(confinement, Free):
        raise ValueError(f"Manhattan confines its state by itself; use Free(), not {type(confinement).__name__}().")
    try:
        hash((energy.similarity, energy.separation, scaling, confinement))
    except TypeError as error:
        raise ValueError(f"The factors of an energy must be hashable ({error}): write your own as @dataclass(frozen=True).") from None
    if not _traced():
        _fits(scaling, energy.separation, energy.similarity.highest)


def inverse_temperature(beta: float | Tensor) -> None:
    """Raise when β is no positive number or floating-point tensor."""
    if not isinstance(beta, (int, float, Tensor)) or isinstance(beta, bool):
        raise ValueError(f"The inverse temperature beta must be a positive number or a tensor, got {beta!r}.")
    if not isinstance(beta, Tensor) and not 0 < beta <= sys.float_info.max:
        raise ValueError(f"The inverse temperature beta must be positive and finite, got {beta!s:.40}. β → 0 averages all, β → ∞ is the nearest neighbour.")
    if isinstance(beta, Tensor) and not beta.is_floating_point():
        raise ValueError(f"The inverse temperature beta must be a floating-point tensor, got {beta.dtype}.")


@lru_cache(maxsize=256)
def _fits(scaling: Scaling, separation: Separation, highest: float) -> None:
    scaling.check(separation, highest)  # probes F, so once per pair
    probe = torch.linspace(-30.0, min(30.0, highest), 601, dtype=torch.float64)
    undefined = separation(probe).isnan()
    if bool(undefined.any()):
        raise ValueError(
            f"The separation {separation} is undefined at s = {float(probe[undefined][-1]):.3g}, a score that this similarity takes. Write it for every score, "
            "for example lambda s: s.relu().log1p() rather than torch.log, and ConjugatePower(3) for weights that grow as a square root."
        )
    slope = separation.slope(torch.linspace(-30.0, 0.0, 601, dtype=torch.float64))
    if highest == 0 and bool((slope < 0).any()):
        raise ValueError(
            f"A distance needs an increasing F (its weights F′ average the patterns, so they must not be negative), but {separation} falls somewhere below 0. "
            "Use Exp(), Epanechnikov(), Tsallis(α) or RectifiedPower(n), or a Dot similarity."
        )


def step(energy: ReadEnergy) -> None:
    """Raise when an energy has no closed-form step."""
    if not energy.similarity.steps:
        raise ValueError(
            f"The similarity {energy.similarity} has no closed-form step. "
            "Descend with GradientDescent or Flow, or read values: retrieve(energy, query, keys, values)."
        )


def bounded(energy: ReadEnergy, keys: Tensor, presence: Tensor | None = None) -> None:
    """Raise when descending the energy would run off to infinity: ``Dot · F · Sum`` against ``½‖x‖²`` with F too steep.

    F growing faster than s² always wins. F ~ ½c s² wins when ``β c λ_max(ΞᵀΞ) > 1``, which the patterns decide.
    """
    if not at_risk(energy) or _traced():
        return
    order, coefficient = growth(energy)
    way_out = "Confine the state with Sphere() or Hypercube(), use Log() scaling, or take a single step."
    if order > 2:
        raise ValueError(f"This energy is unbounded below: F(s) = {energy.separation} outgrows ½‖x‖². {way_out}")
    stiffest = coefficient * _stiffness(energy, keys, presence) if order == 2 else 0.0
    if stiffest > 1:
        raise ValueError(
            f"This energy is unbounded below on these patterns: F(s) = {energy.separation} grows like ½·{coefficient:g}·s², and "
            f"β·{coefficient:g}·λ_max(ΞᵀΞ) = {stiffest:.3g} exceeds 1. {way_out} A smaller β also does."
        )


def at_risk(energy: ReadEnergy) -> bool:
    """Whether F and the patterns decide if there is a lowest energy, and ``bounded`` must look at them."""
    scaling = getattr(energy.scaling, "within", energy.scaling)  # the largest k of a sum grow like the sum
    return isinstance(energy.similarity, Dot) and isinstance(scaling, Sum) and isinstance(energy.confinement, Quadratic)


def _stiffness(energy: ReadEnergy, keys: Tensor, presence: Tensor | None) -> float:
    """The largest ``β λ_max(ΞᵀΞ)`` of all memories, over the slots that are there; 0 where it cannot be read."""
    keys = keys.detach().double()
    if presence is not None and (presence.ndim == 1 or presence.shape[-2] == 1):
        keys = keys * (presence if presence.ndim == 1 else presence.squeeze(-2)).detach().double().sqrt().unsqueeze(-1)
    if not keys.numel() or not readable(keys.isfinite().all(), False):
        return 0.0
    return float((energy.inverse_temperature(0, keys) * torch.linalg.eigvalsh(keys.mT @ keys).amax(-1)).max())


def growth(energy: ReadEnergy) -> tuple[float, float]:
    """``(order, c)`` with ``F(s) ~ ½ c |s|^order`` at the steeper end, measured in float64; order inf for exponentials."""
    worst = (0.0, 0.0)
    for sign in (1.0, -1.0):
        near, far = energy.separation(sign * torch.tensor([[1e3], [1e4]], dtype=torch.float64)).flatten().tolist()
        if far == math.inf:
            return math.inf, math.inf
        if far > 1e4 * 1.01 and near > 0:  # slower than linear growth never outgrows the quadratic confinement
            order = round(math.log10(far / near), 2)
            worst = max(worst, (order, 2 * far / 1e4**order))
    return worst


def inputs(energy: ReadEnergy, state: Tensor, keys: Tensor, values: Tensor | None, presence: Tensor | None, bias: Tensor | None = None) -> None:
    """Raise ValueError or TypeError when shapes, dtypes or devices do not fit. No tensor's content is read here."""
    named = {"query": state, "keys": keys} | ({} if values is None else {"values": values})
    for name, tensor in named.items():
        floating(name, tensor)
    if energy.similarity.nonnegative:
        _nonnegative(energy, {"query": state, "keys": keys})
    if state.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"query and keys must share their last dimension, got query {_shape(state)} and keys {_shape(keys)}. Project one of them to the other's width."
        )
    if values is not None and values.shape[-2] != keys.shape[-2]:
        raise ValueError(f"Every key needs one value: keys {_shape(keys)} hold {keys.shape[-2]} slots, values {_shape(values)} hold {values.shape[-2]}.")
    _one_device(named | {name: gate for name, gate in (("presence", presence), ("bias", bias)) if gate is not None})
    if len({t.dtype for t in named.values()}) > 1 and not autocasting(state.device):
        raise TypeError(
            "query, keys and values must share one dtype, got "
            + ", ".join(f"{k} {t.dtype}" for k, t in named.items())
            + ". Convert them with .to(dtype), or run under autocast."
        )
    try:
        lead = torch.broadcast_shapes(*(t.shape[:-2] for t in named.values()))
    except RuntimeError:
        raise ValueError("The leading dimensions must broadcast, got " + ", ".join(f"{k} {_shape(t)}" for k, t in named.items()) + ".") from None
    _beta(energy.beta, state, lead)
    if presence is not None:
        _presence(presence, (*lead, state.shape[-2], keys.shape[-2]))
    if bias is not None:
        _bias(bias, (*lead, keys.shape[-2]))


def floating(name: str, tensor: Tensor) -> None:
    """Raise when something is no floating-point tensor (..., count, width)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}. Convert it with torch.as_tensor(...).")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {tensor.dtype}. Convert it with {name}.float().")
    if tensor.ndim < 2:
        raise ValueError(f"{name} must have shape (..., count, width), got {_shape(tensor)}. Add a dimension with {name}.unsqueeze(0).")
    if tensor.shape[-1] == 0:
        raise ValueError(f"{name} has width 0 (shape {_shape(tensor)}); its last dimension must hold at least one feature.")


def _nonnegative(energy: ReadEnergy, named: dict[str, Tensor]) -> None:
    for name, tensor in named.items():
        if not readable(~(tensor < 0).any(), True):
            raise ValueError(
                f"{energy.similarity} compares distributions: {name} must not have negative entries, and some are. Take histograms, probabilities, "
                "pixels in [0, 1] or softmax outputs, or shift the patterns with x - x.amin(); for signed patterns use Cosine(), Euclidean() or Manhattan()."
            )


def _presence(presence: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(presence, Tensor) or not (presence.dtype == torch.bool or presence.is_floating_point()):
        kind = presence.dtype if isinstance(presence, Tensor) else type(presence).__name__
        raise TypeError(
            f"presence must be a boolean tensor (True = the slot is there) or a floating-point one in [0, 1], got {kind}. Convert a 0/1 mask with .bool()."
        )
    if presence.ndim == 0 or len(presence.shape) > len(shape) or any(p not in (1, s) for p, s in zip(presence.shape[::-1], shape[::-1], strict=False)):
        raise ValueError(
            f"presence of shape {_shape(presence)} does not broadcast against the scores (..., query, slot) = {shape}. "
            "Per slot: (slots,); per sample: (batch, 1, slots); per query: (..., queries, slots)."
        )
    if presence.is_floating_point() and not readable(((presence >= 0) & (presence <= 1)).all(), True):
        raise ValueError("presence must lie in [0, 1]: 1 keeps a slot, 0 deletes it. An additive mask (0 and −inf) converts with mask == 0, or mask.exp().")


def _bias(bias: Tensor, shape: tuple[int, ...]) -> None:
    if not isinstance(bias, Tensor) or not bias.is_floating_point():
        raise TypeError(f"bias must be a floating-point tensor, one number per slot, got {bias.dtype if isinstance(bias, Tensor) else type(bias).__name__}.")
    if (
        bias.ndim == 0
        or bias.ndim > len(shape)
        or bias.shape[-1] != shape[-1]
        or any(b not in (1, s) for b, s in zip(bias.shape[::-1], shape[::-1], strict=False))
    ):
        raise ValueError(f"bias of shape {_shape(bias)} does not broadcast to (..., slots) = {shape}. Per slot: (slots,); per head: (heads, slots).")


def _beta(beta: float | Tensor, state: Tensor, lead: torch.Size) -> None:
    if not isinstance(beta, Tensor):
        return
    _one_device({"query": state, "beta": beta} if beta.ndim else {"query": state})
    if beta.ndim > len(lead) or any(b not in (1, s) for b, s in zip(beta.shape[::-1], lead[::-1], strict=False)):
        raise ValueError(
            f"beta of shape {_shape(beta)} must broadcast against the leading dimensions {tuple(lead)} of query and keys, "
            "for example (heads,) for (batch, heads, query, width)."
        )
    if not readable(((beta > 0) & beta.isfinite()).all(), True):
        raise ValueError("The inverse temperature beta must be positive everywhere, and finite. Parametrise a learned one as log_beta.exp() or softplus.")


def contents(energy: object, named: Mapping[str, Tensor | None], result: Tensor, parameters: Callable[[], Iterable[tuple[str, Tensor]]] = tuple) -> None:
    """Explain a result that is not finite: name the input or the parameter that holds NaN or Inf, or say that the scores overflow.

    The result is small and shows every NaN, unless F has finite reach: there NaN is just out of reach, so inputs are looked at. Parameters, which may be
    many, never are while the result is finite.
    """
    if result.device.type != "cpu":
        return  # reading costs a synchronisation
    given = {name: tensor for name, tensor in named.items() if tensor is not None}
    reach = getattr(getattr(energy, "separation", None), "reach", math.inf)
    looked_at = [result, *(given.values() if reach < math.inf else ())]
    if all(readable(t.sum().isfinite(), True) for t in looked_at):  # one pass; a sum that overflows is looked at again
        return
    for name, tensor in (*given.items(), *parameters()):
        if not readable(tensor.isfinite().all(), True):
            bad = (~tensor.isfinite()).nonzero()[0].tolist()
            raise ValueError(f"{name} holds NaN or Inf (first at index {tuple(bad)}). Remove or repair such patterns before storing or querying them.")
    if readable(result.isfinite().all(), True):
        return
    raise ValueError(
        f"The retrieval overflowed {result.dtype}: F(β S) is too large for these patterns. Use a smaller beta, scale the patterns down, "
        "choose Log() scaling (which subtracts the largest score for Exp), or compute in float64."
    )


def _traced() -> bool:
    return torch.compiler.is_compiling()


def _one_device(named: dict[str, Tensor]) -> None:
    if len({t.device for t in named.values()}) > 1:
        raise ValueError(
            "All tensors must live on one device, got " + ", ".join(f"{k} on {t.device}" for k, t in named.items()) + ". Move them with .to(device)."
        )


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
