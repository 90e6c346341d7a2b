"""Any elementwise torch function as a separation: checked once, derivatives by autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .separation import Exp, Separation, require


@dataclass(frozen=True)
class Elementwise(Separation):
    """A user's separation: any elementwise torch function ``F(score)``. Slope and curvature are derived by autograd.

    Raises:
        ValueError: F is not elementwise, does not keep shape and dtype, or cannot be differentiated.
    """

    function: Callable[[Tensor], Tensor]

    def __post_init__(self):
        _check_elementwise(self)

    def __call__(self, score: Tensor) -> Tensor:
        return self.function(score)

    def formula(self, score: str) -> str:
        name = getattr(self.function, "__name__", "F")
        return f"{'F' if name == '<lambda>' else name}({score})"


def as_separation(separation: Separation | Callable[[Tensor], Tensor]) -> Separation:
    """The separation itself, or a plain elementwise torch function as one. ``torch.exp`` is recognised as ``Exp()``."""
    if isinstance(separation, Separation):
        return separation
    if separation in (torch.exp, Tensor.exp):
        return Exp()
    require(callable(separation), f"A separation is an elementwise function of the scores, for example Exp() or torch.relu; got {separation!r}.")
    return Elementwise(separation)


def _check_elementwise(separation: Elementwise) -> None:
    name = getattr(separation.function, "__name__", repr(separation.function))
    advice = "F must map each score on its own, for example lambda s: torch.relu(s) ** 3; a rule over all slots belongs in the scaling (Log, Simplex)."
    probe = torch.linspace(-2.0, 2.0, 12, dtype=torch.float64).reshape(3, 4)
    try:
        whole = separation(probe)
    except Exception as error:
        raise ValueError(f"The separation {name} failed on a (3, 4) tensor of scores: {error}. {advice}") from error
    require(isinstance(whole, Tensor) and whole.shape == probe.shape, f"The separation {name} does not keep the shape of the scores. {advice}")
    require(whole.dtype == probe.dtype, f"The separation {name} turned float64 scores into {whole.dtype}; it must keep the dtype.")
    single = torch.stack([separation(s.reshape(1, 1)).reshape(()) for s in probe.flatten()]).reshape(3, 4)
    require(
        torch.allclose(whole, single, rtol=1e-10, atol=1e-12, equal_nan=True),
        f"The separation {name} is not elementwise: one score changed another's value. {advice}",
    )
    try:
        slope = separation.slope(probe)
    except Exception as error:
        raise ValueError(f"The separation {name} cannot be differentiated: {error}. Write it with differentiable torch operations.") from error
    flat = bool((slope == 0).all()) and not torch.equal(whole, whole[:1, :1].expand(3, 4))
    require(not flat, f"The separation {name} cannot be differentiated: its result is cut off from the scores. Write it with differentiable torch operations.")
