"""Laws of derivatives: what an energy says in closed form, against autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from ..energies import Dot, Quadratic
from ..kernels import Gates, engine, retrieve
from .case import BACKENDS, Case
from .report import DoesNotApply, LawBroken, close


def slope_and_curvature_are_the_derivatives_of_F(case: Case) -> None:
    score = torch.linspace(-3.03, min(3.07, case.energy.similarity.highest), 50, dtype=torch.float64).requires_grad_()
    separation = case.energy.separation
    (slope,) = torch.autograd.grad(separation(score).sum(), score)
    close("slope and curvature are the derivatives of F", separation.slope(score), slope)
    derived = separation.slope(score)
    curvature = torch.autograd.grad(derived.sum(), score)[0] if derived.requires_grad else torch.zeros_like(score)
    close("slope and curvature are the derivatives of F", separation.curvature(score), curvature)


def weights_are_the_gradient_of_Q(case: Case) -> None:
    score = case.energy.scores(case.query, case.keys).detach().requires_grad_()
    value = case.energy.scaling.value(case.energy.separation, score, case.presence)
    (slope,) = torch.autograd.grad(value[value.isfinite()].sum(), score)
    weights = case.energy.weights(case.query, case.keys, presence=case.presence)
    close("weights are the gradient of Q", weights, slope)


def the_force_is_the_gradient_of_the_energy(case: Case) -> None:
    if not case.energy.similarity.inner:
        raise DoesNotApply("the similarity is no inner product; its gradient is taken by autograd")
    state = case.query.clone().requires_grad_()
    energy = case.energy(state, case.keys)
    (slope,) = torch.autograd.grad(energy[energy.isfinite()].sum(), state)
    for backend in BACKENDS:
        force = engine(case.energy, case.query, case.keys, backend=backend).force(case.query)
        close("the force is the gradient of the energy", case.energy.confinement.gradient(case.query) - force, slope)


def a_unit_step_is_attention(case: Case) -> None:
    if not (isinstance(case.energy.similarity, Dot) and isinstance(case.energy.confinement, Quadratic)):
        raise DoesNotApply("only for Dot with Quadratic")
    state = case.query.clone().requires_grad_()
    (slope,) = torch.autograd.grad(case.energy(state, case.keys).sum(), state)
    weights = case.energy.weights(case.query, case.keys)
    close("a unit step is attention", case.query - slope, weights @ case.keys)
    close("a unit step is attention", retrieve(case.energy, case.query, case.keys), weights @ case.keys)


def reading_values_is_a_step_on_the_joint_energy(case: Case) -> None:
    energy, half = case.energy, case.values.new_zeros(3, 2).requires_grad_()
    read = retrieve(energy, case.query, case.keys, case.values)
    if energy.confinement.averages:  # the second half rests where the pull of the values, at these weights, vanishes
        weights = energy.weights(case.query, case.keys)
        close("reading values is a step on the joint energy", weights @ case.values, weights.sum(-1, keepdim=True) * read)
        return
    (slope,) = torch.autograd.grad(energy.joint((case.query, half), case.keys, case.values).sum(), half)
    close("reading values is a step on the joint energy", -slope, read)


def backends_agree_in_output_and_gradient(case: Case) -> None:
    def run(backend: str) -> list[Tensor]:
        tensors = [t.clone().requires_grad_() for t in (case.query, case.keys, case.values, case.presence)]
        output = retrieve(case.energy, *tensors[:3], presence=tensors[3], backend=backend)
        energy = engine(case.energy, tensors[0], tensors[1], Gates(tensors[3]), backend=backend).energy(tensors[0])
        total = (output * torch.linspace(1, 2, output.numel(), dtype=torch.float64).view_as(output)).sum() + energy[energy.isfinite()].sum()
        return [output, energy, *torch.autograd.grad(total, tensors)]

    scale = [t.abs().amax().item() for t in (case.query, case.keys)]
    for mine, definition in zip(run("chunked"), run("reference"), strict=True):
        close("backends agree in output and gradient", mine, definition, floor=1 + max(scale))


def first_and_second_derivatives_are_right(case: Case) -> None:
    query, keys, values, presence = case.query[:2], case.keys[:4], case.values[:4], case.presence[2:6].clamp(0.2, 0.9)
    tensors = [t.clone().requires_grad_() for t in (query, keys, values, presence)]
    for backend in BACKENDS:

        def function(q: Tensor, k: Tensor, v: Tensor, a: Tensor, backend: str = backend) -> Tensor:
            return retrieve(case.energy, q, k, v, presence=a, backend=backend)

        for check, along in ((torch.autograd.gradcheck, False), (torch.autograd.gradgradcheck, True)):
            try:  # second derivatives along random directions, of length one: their errors are as much smaller as the vectors are long
                check(function, tensors, atol=1e-6 if along else 1e-5, rtol=1e-4, fast_mode=along)
            except Exception as error:
                raise LawBroken(f"first and second derivatives are right: {check.__name__} on {backend}: {error}") from None
