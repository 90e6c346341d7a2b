"""Whether tensors fit an energy and each other, and what to do where they do not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..truth import autocasting, readable

if TYPE_CHECKING:
    from ..read import ReadEnergy


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


def foreign(data: object) -> str:
    """What came in the place of a tensor, and how it becomes one: never the data themselves, which may be large."""
    if isinstance(data, str) or not hasattr(data, "__len__"):
        return f"{data!r:.80}"
    return f"{type(data).__name__}. Convert it with torch.as_tensor(data{'.to_numpy()' if hasattr(data, 'to_numpy') else ''}, dtype=torch.float32)"


def floating(name: str, tensor: Tensor) -> None:
    """Raise when something is no floating-point tensor (..., count, width)."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {foreign(tensor)}.")
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
    if energy is not None and not hasattr(energy, "separation") and isinstance(energy, Callable):
        raise ValueError(
            "The energy function gave NaN or Inf on the way down. Either it falls without end (a term such as ½‖x‖² gives it a bottom), or the steps are too "
            "long (a smaller step_size), or it is undefined where a state came (log, sqrt or a power of negative numbers): check_energy(energy) tells."
        )
    raise ValueError(
        f"The retrieval overflowed {result.dtype}: F(β S) is too large for these patterns. Use a smaller beta, scale the patterns down, "
        "choose Log() scaling (which subtracts the largest score for Exp), or compute in float64."
    )


def _one_device(named: dict[str, Tensor]) -> None:
    if len({t.device for t in named.values()}) > 1:
        raise ValueError(
            "All tensors must live on one device, got " + ", ".join(f"{k} on {t.device}" for k, t in named.items()) + ". Move them with .to(device)."
        )


def _shape(tensor: Tensor) -> str:
    return str(tuple(tensor.shape))
