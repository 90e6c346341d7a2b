"""Stock feed-forward blocks as memories: the same parameters under the same names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ...energies import Activation, Dot, Gelu, Power, ReadEnergy, RectifiedPower, Relu, Separation, Silu, Sum, gelu_tanh
from ...layers.feedforward import HopfieldFFN, Rows, plain
from .anatomy import Anatomy, computes, guesses, obstacle, sizes

NO_BLOCK = "its forward is not values(activation(keys(x))), gated or not, with dropout at most"
WRAPPED = "may only be called (an adapter, a hook, a quantised or sharded weight, a class of its own): this energy is not of Dot and needs the keys themselves"
KNOWN: tuple[Separation, ...] = (Relu(), RectifiedPower(3), Gelu(), Silu(), Power(2), Activation(gelu_tanh))


class FeedForwardMemory(HopfieldFFN):
    """A stock feed-forward block read as a memory (``HopfieldFFN``). Its children are the block's own, under their own names.

    So parameters, ``state_dict``, optimizers, ties and adapters do not notice. ``keys``, ``gate``, ``values`` find the children by what they do.

    Args:
        block: the stock block; it is not changed.
        anatomy: which of its children does what.
        energy: what takes the place of its activation.

    Shapes: (..., dim) -> (..., width), or (..., slots) where a neighbour of the block holds the values: then the weights are the output.

    Raises:
        ValueError: as for ``HopfieldFFN``.
    """

    def __init__(self, block: nn.Module, anatomy: Anatomy, energy: ReadEnergy):
        nn.Module.__init__(self)
        for name, child in block.named_children():
            if child is not anatomy.activation:
                self.add_module(name, child)
        self.anatomy, self.training = anatomy, block.training
        dim, slots = sizes(self.keys) or (0, 0)
        self._describe(dim, slots if anatomy.half is None else slots // 2, energy)

    @property
    def keys(self) -> nn.Module:  # type: ignore[override]
        """The child that gives the scores."""
        return self.get_submodule(self.anatomy.keys)

    @property
    def values(self) -> nn.Module | None:  # type: ignore[override]
        """The child that holds the values; None where a neighbour of the block does."""
        return None if self.anatomy.values is None else self.get_submodule(self.anatomy.values)

    @property
    def gate(self) -> nn.Module | None:  # type: ignore[override]
        """The child that gives the gates, which may be that of the keys; None where nothing is gated."""
        if self.anatomy.half is not None:
            return self.keys
        return None if self.anatomy.gate is None else self.get_submodule(self.anatomy.gate)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., width)"""
        return self._dropped(super().forward(x), 1)

    def _addressed(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.anatomy.half is None:
            return super()._addressed(x)
        halves = self.keys(x).chunk(2, -1)
        return halves[self.anatomy.half], halves[1 - self.anatomy.half]

    def _read(self, weights: Tensor) -> Tensor:
        return super()._read(self._dropped(weights, 0))

    def _dropped(self, tensor: Tensor, place: int) -> Tensor:
        """Through the dropouts that act on the weights (0), or on what is read (1)."""
        for name, places in self.anatomy.dropped:
            tensor = self.get_submodule(name)(tensor) if places[place] else tensor
        return tensor

    def _rows(self, child: nn.Module | None) -> Rows | None:
        drops = self.training and any(places[0] for _, places in self.anatomy.dropped)
        if child is None or not plain(child, Conv1D) or (drops and child is self.values):
            return None  # dropped weights are read by calling
        rows = Rows(child.weight.T if isinstance(child, Conv1D) else child.weight, child.bias)  # type: ignore[arg-type, union-attr]
        if self.anatomy.half is None or child is not self.keys:
            return rows
        return Rows(*(None if part is None else part.chunk(2)[self.anatomy.half] for part in rows))  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        roles = {"keys": self.anatomy.keys, "gate": self.anatomy.gate or (self.gate and self.anatomy.keys), "values": self.anatomy.values}
        return f"{super().extra_repr()}\n{', '.join(f'{role}={name}' for role, name in roles.items() if name)}"


def remembered(block: nn.Module, energy: ReadEnergy | None = None, read_beside: bool = False) -> FeedForwardMemory | str:
    """The block as a memory, or the reason why it is none.

    Args:
        block: any module. What it computes decides, not its class.
        energy: what takes the place of its activation. None: the activation's own energy, so that nothing changes.
        read_beside: whether a neighbour of the block may hold the values, as in BERT.
    """
    if isinstance(block, HopfieldFFN):
        return "is a memory already: undo the earlier swap first"
    if (reason := obstacle(block)) is not None:
        return reason
    for anatomy in guesses(block, read_beside):
        if computes(block, anatomy, lambda twin, anatomy=anatomy: FeedForwardMemory(twin, anatomy, energy_of(anatomy.activation))):
            memory = FeedForwardMemory(block, anatomy, energy_of(anatomy.activation) if energy is None else energy)
            return memory if isinstance(memory.given.similarity, Dot) or memory._rows(memory.keys) is not None else f"{anatomy.keys} {WRAPPED}"
    return NO_BLOCK


def own_activation(block: nn.Module) -> ReadEnergy:
    """The energy whose weights are a block's own activation: ``hopfield_(model, own_activation)`` shows a model's blocks as memories without changing them.

    Raises:
        ValueError: the block is no feed-forward block.
    """
    memory = remembered(block, read_beside=True)
    if isinstance(memory, str):
        raise ValueError(f"{type(block).__name__} has no energy of its own: {memory}.")
    return memory.given


def energy_of(activation: Callable[[Tensor], Tensor]) -> ReadEnergy:
    """``½‖x‖² − Σ_μ F(x·k_μ)`` with F′ the activation, recognised by its numbers, whatever it is called; any other one is integrated (``Activation``).

    Raises:
        ValueError: the activation is not elementwise.
    """
    for separation in KNOWN:
        if _alike(activation, separation.slope):
            return ReadEnergy(Dot(), separation, Sum())
    return ReadEnergy(Dot(), Activation(activation), Sum())


@torch.no_grad()
def _alike(activation: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]) -> bool:
    far = torch.logspace(-2, 4, 61, dtype=torch.float64, device="cpu")
    probe = torch.cat([-far, torch.linspace(-8, 8, 65, dtype=torch.float64, device="cpu"), far])
    given = activation(probe)
    return given.dtype == probe.dtype and torch.allclose(given, slope(probe), rtol=1e-12, atol=1e-12)
