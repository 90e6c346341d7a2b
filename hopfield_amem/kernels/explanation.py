"""What an explanation is, and what decides it for reads and for writes alike: which factors, tensors and machines suit the kernels."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..energies import Custom, Elementwise, Invariant, Mapped, ReadEnergy, Separation, Similarity

if TYPE_CHECKING:
    from .compiler import Compiled

BACKENDS = ("reference", "chunked", "triton")
SMALL = 2**16  # association matrices up to this many scores are cheapest in full
WIDEST = 256  # columns of a tile that registers and shared memory hold


@dataclass(frozen=True)
class Explanation:
    """Which backend serves a read, and why. Prints as a sentence, and below it what the compiler made of the energy."""

    backend: str
    engine: str
    reason: str
    name: str = field(default="", repr=False)  # of the compiled factors

    @property
    def compiled(self) -> Compiled | None:
        """What the compiler made of the energy: class, folds and leaves; None for the other backends."""
        from .compiler import compiled

        return compiled(self.name) if self.name else None

    def __str__(self) -> str:
        sentence = f"{self.backend} ({self.engine}): {self.reason}"
        return f"{sentence}\n\n{self.compiled}" if self.name else sentence


def by_kernels(energy: ReadEnergy, query: Tensor, reason: str) -> Explanation:
    """What the generated kernels make of an energy.

    Raises:
        ValueError: an energy that cannot be compiled, a dtype without matrix products, or tensors the kernels cannot run on.
    """
    if query.dtype == torch.float64:
        raise ValueError("The triton backend computes in float32 at most, got float64. Use backend='chunked' or 'reference', or convert with .float().")
    if query.shape[-1] > WIDEST:
        raise ValueError(
            f"The triton backend takes patterns up to {WIDEST} wide, got {query.shape[-1]}. Use backend='chunked', or project them to fewer dimensions."
        )
    interpreted = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")  # as Triton reads it
    if query.device.type != "cuda" and not interpreted:
        raise ValueError(
            f"The triton backend needs a GPU, got tensors on {query.device.type}. Two ways out: move them to a GPU with .cuda(), or set the environment "
            "variable TRITON_INTERPRET=1 before starting Python, which runs the same kernels, slowly, on CPU tensors. backend='chunked' is fast on a CPU."
        )
    if importlib.util.find_spec("triton") is None:
        raise ValueError("The triton backend needs the package triton (pip install triton; Linux). backend='chunked' runs everywhere.")
    if refused := refusal(energy.name):
        raise ValueError(refused)
    return Explanation("triton", "interpreted kernels" if interpreted else "generated kernels", reason, energy.name)


def counted(number: int) -> str:
    """A number with commas; while a graph is traced it may have no digits."""
    return "many" if torch.compiler.is_compiling() else f"{number:,}"


def refusal(name: str) -> str:
    """Why the factors of this name cannot be compiled; empty where they can. The same while a graph is traced."""
    from .compiler import CannotCompile, compiled

    try:
        compiled(name)
    except CannotCompile as error:
        return str(error)
    return ""


refusal._dynamo_marked_constant = True  # what torch.compiler.assume_constant_result sets, without importing the compiler


def _own(part: object) -> bool:
    """Whether a factor, or one that it is made of, runs a function that is not the library's."""
    if isinstance(part, (Elementwise, Custom, Invariant, Mapped)):
        return True
    if not isinstance(part, (Separation, Similarity)):
        return False
    inner = [getattr(part, field.name) for field in fields(part)] if is_dataclass(part) else []
    return not type(part).__module__.startswith("hopfield_amem.") or any(map(_own, inner))


def learned(energy: ReadEnergy, query: Tensor, keys: Tensor) -> bool:
    """Whether a user's separation or similarity, or one inside of another, holds tensors that require a gradient."""
    if not any(map(_own, (energy.separation, energy.similarity))) or not torch.is_grad_enabled() or not query.shape[-2] or not keys.shape[-2]:
        return False
    score = energy.similarity(query.detach()[..., :1, :], keys.detach()[..., :1, :])
    return energy.separation(score).requires_grad
