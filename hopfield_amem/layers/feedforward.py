"""Feed-forward as memory: the block of every transformer, with any energy."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..energies import Dot, ReadEnergy, Sum, checks, presets
from ..kernels import retrieve
from .associative import own


class Rows(NamedTuple):
    """A linear map whose tensors may be read without calling the module that owns them."""

    weight: Tensor  # (given, taken)
    bias: Tensor | None  # (given,)


class HopfieldFFN(nn.Module):
    """``y = Σ_μ p_μ(x) v_μ + c``, or gated ``Σ_μ p_μ(x) (g_μ·x + h_μ) v_μ + c``, with weights p of the scores ``β(S(x, k_μ) + b_μ)``: keys, values are weights.

    The feed-forward block as a memory (Geva et al. 2021, arXiv 2012.14913). With ``S = k_μ·x``, ``relu_feed_forward``, ``gelu_feed_forward``,
    ``silu_feed_forward`` and ``squared_relu_feed_forward`` are the blocks of these names, gated SwiGLU and GEGLU (Shazeer 2020, arXiv 2002.05202), and
    ``Activation(f)`` is the block of any activation; any other energy, ``log_sum_exp``, ``entmax``, ``epanechnikov`` or one's own, takes its place.

    What is descended is ``E(x) = C(x) − Q[Σ_μ F(β(S(x, k_μ) + b_μ))]/β``. Reading is one unit step of a pair (x, y), x held and y from 0, for ``Dot``
    ``E(x, y) = C(x) + ½‖y‖² − Q[Σ_μ F(β(k_μ·x + b_μ + γ_μ v_μ·y))]/β``, which lands on ``y = Σ p_μ γ_μ v_μ`` with the gate ``γ_μ = g_μ·x + h_μ``, or 1.
    A gate scales values, so it is not felt at y = 0: gated or not, ``energy(x)`` is ``E(x, 0)``. The step never raises E where Q∘ΣF is convex.

    Elementwise weights (``Dot`` and ``Sum``) are an activation between two linear maps, in the time and memory of the stock block. All other energies are
    streamed through ``retrieve`` in memory that does not grow with rows × slots, unless gates, or children that must be called, need the weights in full.
    Children that are anything but plain ``nn.Linear`` (adapters, quantised or sharded weights, hooks) are called, never read.

    Args:
        dim: width of the tokens d.
        slots: number of memories n, the "intermediate size".
        energy: the spec. Its β stays as it is: the scale of the keys is learned anyway. None: ``gelu_feed_forward()``.
        gated: whether a third linear map scales the values.
        bias: whether keys, values and gates have one.

    Shapes: (..., dim) -> (..., dim). Children: ``keys``, ``gate`` (dim -> slots) and ``values`` (slots -> dim), each ``nn.Linear``.

    Raises:
        ValueError: sizes below 1, an energy of a wrong kind; when called, tokens of another width, slots that are split over processes where weights
            depend on all slots, or a similarity other than ``Dot`` with children that may not be read.
    """

    keys: nn.Module
    values: nn.Module | None
    gate: nn.Module | None

    def __init__(
        self,
        dim: int,
        slots: int,
        energy: ReadEnergy | None = None,
        *,
        gated: bool = False,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self._describe(dim, slots, presets.gelu_feed_forward() if energy is None else energy)
        own(self, self.given)
        made: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.keys = nn.Linear(dim, slots, **made)
        self.gate = nn.Linear(dim, slots, **made) if gated else None
        self.values = nn.Linear(slots, dim, **made)
        self.reset_parameters()

    def _describe(self, dim: int, slots: int, energy: ReadEnergy) -> None:
        if dim < 1 or slots < 1:
            raise ValueError(f"dim and slots must be positive, got dim={dim}, slots={slots}.")
        if not isinstance(energy, ReadEnergy) or isinstance(energy.beta, Tensor):
            raise ValueError(f"A feed-forward memory is built from a ReadEnergy whose beta is a number (keys learn their own scale), got {energy!r}.")
        self.dim, self.slots, self.given = dim, slots, energy

    def reset_parameters(self) -> None:
        """Scores and gates of unit variance for tokens of unit variance; values so that what a sum reads keeps it, an average reads single values. No bias."""
        reads = self.slots**-0.5 if isinstance(self.given.scaling, Sum) else 1.0
        for child, deviation in ((self.keys, self.dim**-0.5), (self.gate, self.dim**-0.5), (self.values, reads)):
            if child is not None:
                nn.init.normal_(child.weight, std=deviation)  # type: ignore[arg-type]
                if child.bias is not None:
                    nn.init.zeros_(child.bias)  # type: ignore[arg-type]

    @property
    def spec(self) -> ReadEnergy:
        """The energy being descended."""
        return self.given

    @property
    def elementwise(self) -> bool:
        """Whether the weight of a slot depends on its own score alone: then it is an activation."""
        return isinstance(self.given.similarity, Dot) and isinstance(self.given.scaling, Sum)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)"""
        self._check_tokens(x)
        if not self.elementwise and self.gate is None:
            keys, values = self._rows(self.keys), self._rows(self.values)
            if keys is not None and values is not None:
                return self._streamed(x, keys, values)
        product, gate = self._addressed(x)
        weights = self._weights(x, product)
        if self.given.divides:
            weights = self.given.averaged(weights, weights.sum(-1, keepdim=True))
        read = self._read(weights if gate is None else weights * gate)
        checks.contents(self.given, {"x": x}, read, self.named_parameters)
        return read

    def energy(self, x: Tensor) -> Tensor:
        """``E(x)`` of every token, at least in float32. (..., dim) -> (...)"""
        self._check_tokens(x)
        wide = torch.promote_types(x.dtype, torch.float32)
        score = self._whole(self._scores(x, self._addressed(x)[0]))
        return self.given.confinement(x.to(wide)) - self.given.scaling.value(self.given.separation, score.to(wide)) / self.given.beta

    def association(self, x: Tensor) -> Tensor:
        """Retrieval weights ``p = ∂Q/∂score``, without the gate: how strongly every slot is found. (..., dim) -> (..., slots)"""
        self._check_tokens(x)
        return self._whole(self._weights(x, self._addressed(x)[0]))

    def _addressed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """``k_μ·x + b_μ`` and the gates. (..., dim) -> (..., slots)"""
        return self.keys(x), None if self.gate is None else self.gate(x)

    def _read(self, weights: Tensor) -> Tensor:
        """What these weights read. (..., slots) -> (..., dim)"""
        return weights if self.values is None else self.values(weights)

    def _rows(self, child: nn.Module | None) -> Rows | None:
        """The tensors of a child, or None where it must be called."""
        return Rows(child.weight, child.bias) if child is not None and plain(child) else None  # type: ignore[arg-type]

    def _streamed(self, x: Tensor, keys: Rows, values: Rows) -> Tensor:
        """The read, never holding rows × slots numbers."""
        read = retrieve(self.given, x.reshape(-1, self.dim), keys.weight, values.weight.T, bias=self._bias(keys))
        read = read if values.bias is None else read + values.bias.to(read.dtype)
        return read.reshape(*x.shape[:-1], read.shape[-1])

    def _bias(self, keys: Rows) -> Tensor | None:
        return None if keys.bias is None else self.given.beta * keys.bias

    def _scores(self, x: Tensor, product: Tensor) -> Tensor:
        """(..., dim), (..., slots) -> (..., slots)"""
        if isinstance(self.given.similarity, Dot):
            return product if self.given.beta == 1 else self.given.beta * product
        keys = self._rows(self.keys)
        if keys is None:
            raise ValueError(
                f"The similarity {self.given.similarity} needs the keys themselves, but a child of this memory may only be called (an adapter, a hook, a "
                "quantised or sharded weight). Use a Dot energy, or merge what wraps the child first."
            )
        return self.given.scores(x.reshape(-1, self.dim), keys.weight, self._bias(keys)).reshape(*x.shape[:-1], self.slots)

    def _weights(self, x: Tensor, product: Tensor) -> Tensor:
        score = self._scores(x, product)
        if self.elementwise:
            return self.given.scaling.weights(self.given.separation, score)
        wide = torch.promote_types(score.dtype, torch.float32)  # sums over slots and thresholds are lost in half precision
        return self.given.scaling.weights(self.given.separation, self._whole(score).to(wide)).to(score.dtype)

    def _whole(self, score: Tensor) -> Tensor:
        """The scores, or weights, of all slots: those of a part would be normalised, or summed, over that part alone."""
        if score.shape[-1] != self.slots:
            raise ValueError(
                f"This depends on all {self.slots} slots, but {score.shape[-1]} scores arrived: the keys are split over processes. Gather the scores, with "
                "ColwiseParallel(output_layouts=Replicate()) for keys and gate and RowwiseParallel(input_layouts=Replicate()) for values; the output of a "
                "Sum energy needs no gathering."
            )
        return score

    def _check_tokens(self, x: Tensor) -> None:
        if x.ndim == 0 or x.shape[-1] != self.dim:
            raise ValueError(f"This memory takes tokens (..., {self.dim}), got {tuple(x.shape)}.")

    def extra_repr(self) -> str:
        return f"dim={self.dim}, slots={self.slots}\n{self.given}"


def plain(child: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether a module's weight may be read instead of calling it: an ``nn.Linear`` (or one of ``kinds``) itself, ordinary tensors, no hooks."""
    hooks = (child._forward_hooks, child._forward_pre_hooks, child._backward_hooks, child._backward_pre_hooks)
    tensors = (getattr(child, "weight", None), getattr(child, "bias", None))
    unchanged = type(child) in (nn.Linear, *kinds) and "forward" not in vars(child) and not any(hooks)
    return unchanged and all(tensor is None or _ordinary(tensor) for tensor in tensors)


def _ordinary(tensor: Tensor) -> bool:
    """Whether a tensor is just its numbers; while exporting it is a fake one, and what wraps others shows by how it is taken apart."""
    return type(tensor) in (Tensor, nn.Parameter) or (torch.compiler.is_exporting() and not hasattr(tensor, "__tensor_flatten__"))
