"""Continuous descent ``dx/dt = −∇E(x)``, integrated by torchdiffeq with any of its methods."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..energies import ReadEnergy, checks
from .loop import Descent, Landscape, Path

PATIENCE = 2000  # steps of an adaptive method, after which its step size has collapsed


@dataclass(frozen=True)
class Integration:
    """How long a dynamics is integrated, and how: the options that flows share."""

    time: float = 20.0
    method: str = "dopri5"
    options: tuple[tuple[str, object], ...] | dict | None = None
    tolerance: float = 1e-3

    def __post_init__(self):
        if not 0 < self.time < float("inf"):
            raise ValueError(f"time must be positive and finite, got {self.time!r}.")
        if isinstance(self.options, dict):
            object.__setattr__(self, "options", tuple(self.options.items()))

    def schedule(self, start: Tensor) -> tuple[Tensor, dict, int]:
        """When states are asked for, the options that go to torchdiffeq, and how many states are recorded."""
        options = dict(self.options or ())
        points = int(options.pop("points", 0))  # type: ignore[call-overload]
        return torch.linspace(0, self.time, max(2, points), dtype=start.dtype, device=start.device), options, points


@dataclass(frozen=True)
class Flow(Integration, Descent):
    """``dx/dt = −∇E(x)``, kept on the confinement's tangent, from t = 0 to ``time``.

    Args:
        time: how long, > 0. The slowest direction of a settled ``Dot`` energy decays about like ``e^(−t)``.
        method: any method of ``torchdiffeq.odeint``: "dopri5" (adaptive), "rk4", "euler", …
        options: keyword arguments of ``odeint`` (rtol, atol, options, …), and two of ours: ``adjoint=True`` differentiates by the
            adjoint equation, in memory independent of the steps; ``points=k`` records the state at k equally spaced times.
        tolerance: ``‖∇E‖ / ‖x‖`` below which a query counts as converged.

    Fixed-step methods treat every query on its own. Adaptive ones share their step sizes, which are chosen so that each
    single query meets the tolerance: neighbours change a result only within rtol and atol. torchdiffeq looks at values and writes in place:
    torch.compile breaks its graph there, and neither torch.export nor vmap can pass.
    """

    def run(self, landscape: Landscape) -> Path:
        """Raises ValueError for a method torchdiffeq does not know, or an adaptive one whose steps collapse because the energy's gradient jumps."""
        if isinstance(landscape.spec, ReadEnergy):
            checks.bounded(landscape.spec, landscape.keys, landscape.gates.presence)
        field = _Field(landscape)
        times, options, points = self.schedule(landscape.start)
        path = self._integrate(field, times, options, landscape)
        last = landscape.project(path[-1])
        with torch.no_grad():
            residual = field(times[-1], last).norm(dim=-1) / last.norm(dim=-1).clamp_min(torch.finfo(last.dtype).tiny)
        steps = torch.full(last.shape[:-1], field.evaluations, device=last.device)
        return Path(last, steps, residual, list(path.detach()) if points else [])

    def _integrate(self, field: _Field, times: Tensor, options: dict, landscape: Landscape) -> Tensor:
        if options.pop("adjoint", False):
            moving = [landscape.keys, landscape.gates.presence, getattr(landscape.spec, "beta", None)]
            moving += list(landscape.spec.parameters()) if isinstance(landscape.spec, nn.Module) else []
            _refuse_hidden_parameters(landscape)
            options["adjoint_params"] = tuple(p for p in moving if isinstance(p, Tensor) and p.requires_grad)
        return integrated(field, landscape.start, times, self.method, options=options)


def integrated(field: nn.Module, start: Tensor, times: Tensor, method: str, *, options: dict) -> Tensor:
    """States (times, ..., d) along ``dx/dt = field(t, x)``; by the adjoint equation where the options name ``adjoint_params``.

    Raises:
        ValueError: a method torchdiffeq does not know, or an adaptive one whose steps collapse.
    """
    import torchdiffeq
    from torchdiffeq._impl.odeint import SOLVERS

    if method not in SOLVERS:
        raise ValueError(f"torchdiffeq has no method {method!r}; it knows {', '.join(SOLVERS)}.")
    solver_options: dict = dict(options.pop("options", None) or {})
    if SOLVERS[method].__mro__[1].__name__ != "FixedGridODESolver":
        solver_options = {"norm": _worst_query, "max_num_steps": PATIENCE} | solver_options
    adjoint = "adjoint_params" in options
    if adjoint:
        options["adjoint_options"] = {"norm": "seminorm"}
    solve = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint
    try:
        return solve(field, start, times, method=method, options=solver_options, **options)  # type: ignore[return-value]
    except AssertionError as error:  # torchdiffeq's way of saying that its step size collapsed
        raise ValueError(
            f"The adaptive method {method!r} gave up ({error}): this energy's gradient jumps (compact support, corners of a cube, an L1 distance). "
            "Use a fixed-step method, Flow(method='euler', options={'options': {'step_size': 0.1}}), or GradientDescent."
        ) from None


class _Field(nn.Module):
    """``−∇E``, tangent to the confinement."""

    def __init__(self, landscape: Landscape):
        super().__init__()
        self.landscape, self.evaluations = landscape, 0

    def forward(self, time: Tensor, state: Tensor) -> Tensor:
        self.evaluations += 1
        velocity = -self.landscape.gradient(state)
        spec = self.landscape.spec
        return spec.confinement.tangent(state, velocity) if isinstance(spec, ReadEnergy) else velocity


def _refuse_hidden_parameters(landscape: Landscape) -> None:
    """The adjoint only gives gradients to what it is told of: keys, presence, β and the parameters of a module."""
    hidden = False
    if not isinstance(landscape.spec, nn.Module) and torch.is_grad_enabled():
        spec = landscape.spec.at(1.0) if isinstance(landscape.spec, ReadEnergy) else landscape.spec
        hidden = spec(landscape.start.detach(), landscape.keys.detach()).requires_grad
    if hidden:
        raise ValueError("This energy holds learned parameters that the adjoint cannot see. Give it as an nn.Module, or leave adjoint off.")


def _worst_query(error: Tensor) -> Tensor:
    """Root mean square over the features of the worst query: no query hides behind its neighbours."""
    return error.square().mean(-1).sqrt().max() if error.ndim else error.abs()
