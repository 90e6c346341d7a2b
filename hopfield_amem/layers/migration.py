"""Trained modules of hopfield-layers as layers of this library."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ..descent import FixedPoint
from ..energies import presets
from .attention import HopfieldAttention
from .lookup_attention import LookupAttention
from .pooling import HopfieldPooling
from .wiring import Wiring

INPUTS = {"query": "state_pattern", "keys": "stored_pattern", "values": "pattern_projection"}


def from_hopfield_layers(module: nn.Module, dim: int | tuple[int, int] | None = None) -> HopfieldAttention:
    """A trained ``Hopfield``, ``HopfieldPooling`` or ``HopfieldLayer`` (lookup) of hopfield-layers, or of a package that copies it, as a layer here.

    (https://github.com/ml-jku/hopfield-layers, Ramsauer et al. 2020, arXiv 2008.02217.) The layer is a copy with the same outputs and the same
    gradients. It takes ``(batch, t, width)`` tokens as ``layer(state, stored, projection, presence=~mask)``. What was fixed or frozen stays so:
    ``layer.log_beta.requires_grad_()`` lets it learn β. The arguments of their constructor are translated in docs/migration.md.

    Where theirs is at fault, the layer does what was meant, and a warning says so: one scaling per head (theirs multiplies feature j of a query by the
    scaling of head j mod heads), static inputs with several heads (theirs mixes the samples of a batch), ``concat_bias_pattern`` (no effect in theirs).
    k extra update steps are ``FixedPoint(steps=k + 1, tolerance=0)``: all of them, for every query; theirs stops when the worst sample of the batch has
    come to rest, so that a result depends on its neighbours. A query without any slot reads zeros, where theirs gives NaN.

    Args:
        module: a ``Hopfield``, ``HopfieldPooling`` or ``HopfieldLayer``.
        dim: width of the tokens, or widths of stored patterns and projections: for a ``Hopfield`` without any projection, which does not know them.

    Returns:
        ``HopfieldAttention``; ``HopfieldPooling``, whose (batch, quantity, width) theirs flattens; or ``LookupAttention``.

    Raises:
        ValueError: another module, negative scaling, heads that differ in their number of steps, or a width that is not known.
    """
    kind, hopfield = _recognised(module)
    core: Any = hopfield.association_core
    scaling = torch.as_tensor(hopfield.scaling, dtype=torch.float64, device="cpu").detach().flatten()
    if not (scaling > 0).all():
        raise ValueError(f"The inverse temperature of an energy is positive, and this module scales by {scaling.tolist()}.")
    for statement in _differences(hopfield, core, scaling):
        warnings.warn(statement, stacklevel=2)
    like = next(module.parameters(), torch.empty(0))
    sides = {"queries": getattr(module, "pooling_weights", None), "slots": getattr(module, "lookup_weights", None)}
    learned = {name: side.shape[:2].numel() for name, side in sides.items() if side is not None}
    energy = (presets.softmax1 if core.add_zero_attn else presets.log_sum_exp)(float(scaling.mean()))
    key, value, shown = _widths(module, core, dim)
    wiring = _wiring(hopfield, core, (key, value), None if getattr(module, "target_weights", shown) is None else shown)
    width = key if core.query_as_static else core.embed_dim
    layer = kind(width, core.num_heads, energy, _descent(hopfield), wiring=wiring, device=like.device, dtype=like.dtype, **learned)
    with torch.no_grad():
        layer.log_beta.copy_(scaling.log().expand(core.num_heads)).requires_grad_(False)
        _project(layer, core)
        _normalise(layer, hopfield, core)
        for parameter, name in (("seeds", "pooling_weights"), ("stored", "lookup_weights"), ("targets", "target_weights")):
            if getattr(module, name, None) is not None:
                _copy(getattr(layer, parameter), getattr(module, name).flatten(0, 1), getattr(module, name))
    if hopfield.association_activation is not None:
        layer.output = nn.Sequential(layer.output, Applied(hopfield.association_activation))  # type: ignore[assignment]
    return layer.train(module.training)


class Applied(nn.Module):
    """An elementwise function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)

    def extra_repr(self) -> str:
        return getattr(self.function, "__name__", str(self.function))


def _recognised(module: nn.Module) -> tuple[Callable[..., HopfieldAttention], Any]:
    """The layer here, and the ``Hopfield`` inside."""
    name, inner = type(module).__name__, getattr(module, "hopfield", module)
    kinds = {"Hopfield": HopfieldAttention, "HopfieldPooling": HopfieldPooling, "HopfieldLayer": LookupAttention}
    if name in kinds and type(inner).__name__ == "Hopfield" and hasattr(inner, "association_core"):
        return kinds[name], inner
    inside = [path for path, part in module.named_children() if type(part).__name__ == "Hopfield"]
    hint = f" Convert what is inside: {', '.join(f'from_hopfield_layers(module.{path})' for path in inside)}." if inside else ""
    raise ValueError(f"from_hopfield_layers takes a Hopfield, HopfieldPooling or HopfieldLayer itself, got {name}.{hint}")


def _differences(hopfield: Any, core: Any, scaling: Tensor) -> Iterator[str]:
    """What the layer does otherwise than the module, as sentences."""
    if core.num_heads > 1 and scaling.unique().numel() > 1:
        yield "hopfield-layers applies a scaling per head to features instead of heads. This layer applies it per head, as was meant: outputs differ."
    if core.num_heads > 1 and (core.query_as_static or core.key_as_static or core.value_as_static):
        yield "hopfield-layers mixes the samples of a batch where static inputs meet several heads. This layer treats every sample alone."
    if core.bias_k is not None or core.bias_v is not None:
        yield "concat_bias_pattern has no effect in hopfield-layers; its parameters are left out."
    if not hopfield.batch_first:
        yield "This module has batch_first=False. The layer takes and returns (batch, t, width): transpose its tokens."
    if _descent(hopfield).tolerance > 0:
        yield "update_steps_max=None knows no end. This layer stops each query when it rests, after at most 100 steps: set layer.descent for more."


def _descent(hopfield: Any) -> FixedPoint:
    """k extra updates are k + 1 steps, the last of which reads."""
    most, least = (
        torch.as_tensor(-1 if bound is None else bound, dtype=torch.float64).flatten() for bound in (hopfield.update_steps_max, hopfield.update_steps_eps)
    )
    if most.unique().numel() > 1:
        raise ValueError(f"All heads of a layer take the same number of steps, this module takes {most.tolist()} extra ones. Give every head the largest.")
    return FixedPoint(tolerance=float(least.min())) if most[0] < 0 else FixedPoint(steps=int(most[0]) + 1, tolerance=0.0)


def _static(core: Any) -> dict[str, bool]:
    """Which inputs are not projected. Static values that are connected are projected, as keys are."""
    values = core.value_as_static and (core.key_as_static or not core.value_as_connected)
    return {"query": core.query_as_static, "keys": core.key_as_static, "values": values}


def _widths(module: Any, core: Any, dim: int | tuple[int, int] | None) -> tuple[int, int, int]:
    """Widths of a head's keys, of its values, and of the tokens that values are made of."""
    slots, targets = (getattr(module, name, None) for name in ("lookup_weights", "target_weights"))
    slots = getattr(module, "pooling_weights", None) if slots is None and core.head_dim is None and dim is None else slots
    stored, shown = (dim, dim) if isinstance(dim, int) or dim is None else dim
    if slots is not None:
        stored, shown = slots.shape[-1], (slots if targets is None else targets).shape[-1]
    key = stored if core.head_dim is None else core.head_dim
    value, static = core.pattern_dim, _static(core)
    if static["values"] and static["keys"] and shown is not None:
        value = shown
    shown = value if static["values"] else core.vdim
    if static["values"] and static["keys"] and not core._qkv_same_embed_dim and value is not None:
        value = value // core.num_heads  # theirs splits such values among the heads; all others it repeats
    if key is None or value is None or shown is None:
        raise ValueError("This module projects nothing and does not know how wide its patterns are. Say so: from_hopfield_layers(module, dim=…).")
    return key, value, shown


def _wiring(hopfield: Any, core: Any, head_dim: tuple[int, int], shown: int | None) -> Wiring:
    static = _static(core)
    norms = {role: getattr(hopfield, f"norm_{name}") is not None for role, name in INPUTS.items()} | {"space": core.normalize_pattern}
    biases = (core.in_proj_bias, None if core.disable_out_projection else core.out_proj.bias)
    return Wiring(
        head_dim=head_dim,
        sources=(head_dim[0] if core.key_as_static else core.kdim, shown, None if core.disable_out_projection else core.out_dim),
        static=tuple(role for role, flag in (static | {"output": core.disable_out_projection}).items() if flag),
        connected=core.value_as_connected and not core.key_as_static and not core.value_as_static,
        bias=any(bias is not None for bias in biases),
        norms=tuple(role for role, flag in norms.items() if flag),
        dropout=core.dropout,
    )


def _project(layer: HopfieldAttention, core: Any) -> None:
    """Weights and biases of the projections, told apart where they are packed."""
    if core.value_as_static and not _static(core)["values"]:
        layer.values = layer.keys
    flags = zip(INPUTS, (core.query_as_static, core.key_as_static, core.value_as_static), strict=True)
    roles = {role: getattr(layer, role) for role, flag in flags if not flag}
    if roles:
        heights = [projection.out_features for projection in roles.values()]
        apart = [core.q_proj_weight, core.k_proj_weight, core.v_proj_weight]
        packed, offset = core.in_proj_weight, core.in_proj_bias
        weights = [weight for weight in apart if weight is not None] if packed is None else packed.split(heights)
        biases = [None] * len(roles) if offset is None else offset[: sum(heights)].split(heights)
        for projection, weight, bias in zip(roles.values(), weights, biases, strict=True):
            _copy(projection.weight, weight, weight if packed is None else packed)
            if bias is not None:
                _copy(projection.bias, bias, offset)
    if not core.disable_out_projection:
        layer.output = deepcopy(core.out_proj)


def _normalise(layer: HopfieldAttention, hopfield: Any, core: Any) -> None:
    """Layer norms with their offsets, and with weights where they have any."""
    for role, name in INPUTS.items():
        if getattr(hopfield, f"norm_{name}") is not None:
            setattr(layer, f"norm_{role}", deepcopy(getattr(hopfield, f"norm_{name}")))
    if core.normalize_pattern:
        space = nn.LayerNorm(
            layer.widths[0], core.normalize_pattern_eps, core.normalize_pattern_affine, device=layer.log_beta.device, dtype=layer.log_beta.dtype
        )
        if core.normalize_pattern_affine:
            _copy(space.weight, core.p_norm_weight, core.p_norm_weight)
            _copy(space.bias, core.p_norm_bias, core.p_norm_bias)
        layer.norm_space = space


def _copy(parameter: Tensor, source: Tensor, whole: Any) -> None:
    """Copy a tensor, and whether the parameter it is a part of learns."""
    parameter.copy_(source).requires_grad_(whole.requires_grad)
