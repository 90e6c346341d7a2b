"""What is run: a ``Case`` names one computation, ``workload`` makes its inputs and its passes, forward and backward or forward alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hopfield_amem import ENERGIES, ReadEnergy, retrieve
from hopfield_amem.energies import Hypercube

Forward = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One computation. ``reads``: "state" (the settled state), "patterns" (the keys are the values), "values" (others), or "map" (weights of scores)."""

    engine: str
    energy: str
    slots: int
    heads: int = 1
    steps: int = 1
    queries: int = 256
    dim: int = 64
    beta: float = 0.125
    reads: str = "state"
    backward: bool = True

    @property
    def spec(self) -> ReadEnergy:
        return ENERGIES[self.energy].at(self.beta)

    @property
    def scores(self) -> int:
        """How many scores the full association matrix of one step holds."""
        return self.heads * self.queries * self.slots


@dataclass(frozen=True)
class Workload:
    """A forward and a backward pass over fixed inputs, or no backward one. Its inputs and its cotangent are allocated before it runs."""

    forward: Forward
    inputs: tuple[Tensor, ...]
    cotangent: Tensor
    backward: bool

    def __call__(self) -> tuple[Tensor, ...]:
        """The output, and the gradient of every input where there is a backward pass."""
        output = self.forward(*self.inputs)
        return (output.detach(), *torch.autograd.grad(output, self.inputs, self.cotangent)) if self.backward else (output,)

    @property
    def input_bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in self.inputs)

    @property
    def result_bytes(self) -> int:
        """Of the gradients, or of the output of a forward pass alone."""
        return self.input_bytes if self.backward else self.cotangent.numel() * self.cotangent.element_size()


def workload(case: Case, seed: int = 0) -> Workload:
    """Standard normal queries, patterns and cotangent; the same for every engine."""
    generator = torch.Generator().manual_seed(seed)
    shapes = _shapes(case)
    inputs = tuple(torch.randn(shape, generator=generator).requires_grad_(case.backward) for shape in shapes)
    return Workload(ENGINES[case.engine](case), inputs, torch.randn(shapes[0], generator=generator), case.backward)


def reading(energy: str) -> str:
    """What shows an energy's gradients: its state, or what it reads where the state is a sign, whose gradient is zero."""
    return "patterns" if isinstance(ENERGIES[energy].confinement, Hypercube) else "state"


def _shapes(case: Case) -> list[tuple[int, ...]]:
    if case.reads == "map":
        return [(case.queries, case.slots)]
    queries, patterns = (1, case.heads, case.queries, case.dim), (1, case.heads, case.slots, case.dim)
    return [queries, patterns, patterns] if case.reads == "values" else [queries, patterns]


def _retrieval(backend: str) -> Callable[[Case], Forward]:
    def engine(case: Case) -> Forward:
        energy = case.spec

        def run(query, keys, values=None):
            values = keys if case.reads == "patterns" else values
            return retrieve(energy, query, keys, values, steps=case.steps, backend=backend)

        return run

    return engine


def _attention(case: Case) -> Forward:
    """torch's attention among the patterns, called once per step; the last step reads the values."""

    def run(query, keys, values=None):
        for _ in range(case.steps - 1):
            query = scaled_dot_product_attention(query, keys, keys, scale=case.beta)
        return scaled_dot_product_attention(query, keys, keys if values is None else values, scale=case.beta)

    return run


def _hopfield_layers(case: Case) -> Forward:
    """hopfield-layers' association with everything learned or normalised switched off, and every step taken."""
    from difflayers import Hopfield

    off = ("stored_pattern", "state_pattern", "pattern_projection")
    options = {f"normalize_{name}{affine}": False for name in off for affine in ("", "_affine")}
    options |= {f"{name}_as_static": True for name in off}
    layer = Hopfield(input_size=case.dim, scaling=case.beta, update_steps_max=case.steps - 1, update_steps_eps=1e-12, disable_out_projection=True, **options)
    return lambda query, keys: layer((keys.squeeze(0), query.squeeze(0), keys.squeeze(0))).unsqueeze(0)


def _entmax(case: Case) -> Forward:
    """The entmax package's exact map, alone or between the scores and the values."""
    import entmax

    exact = {"entmax": entmax.entmax15, "sparsemax": entmax.sparsemax}[case.energy]
    if case.reads == "map":
        return lambda scores: exact(scores, dim=-1)
    return lambda query, keys, values: exact(case.beta * (query @ keys.mT), dim=-1) @ values


def _map(case: Case) -> Forward:
    energy = case.spec
    return lambda scores: energy.scaling.weights(energy.separation, scores)


ENGINES: dict[str, Callable[[Case], Forward]] = {
    "chunked": _retrieval("chunked"),
    "reference": _retrieval("reference"),
    "torch SDPA": _attention,
    "hopfield-layers": _hopfield_layers,
    "entmax": _entmax,
    "weights": _map,
}
