"""The laws of read energies, on every backend."""

from __future__ import annotations

import copy

import torch

from ..energies import Dot, Hypercube, Log, Sphere, checks
from ..kernels import retrieve
from .case import BACKENDS, Case, everywhere, needs_steps, read
from .derivatives import (
    a_unit_step_is_attention,
    backends_agree_in_output_and_gradient,
    first_and_second_derivatives_are_right,
    reading_values_is_a_step_on_the_joint_energy,
    slope_and_curvature_are_the_derivatives_of_F,
    the_force_is_the_gradient_of_the_energy,
    weights_are_the_gradient_of_Q,
)
from .report import DoesNotApply, LawBroken, close
from .scalars import FARTHEST, Scalar, it_is_bounded_below


def _a_spec_is_a_value(case: Case) -> None:
    energy = case.energy
    twin = copy.deepcopy(energy)
    if twin != energy or hash(twin) != hash(energy) or energy == energy.at(2 * energy.beta):
        raise LawBroken(f"a spec is a value: a copy of {energy!r} must equal it and hash alike, and another β must differ.")


def _it_is_bounded_below(case: Case) -> None:
    project = case.energy.confinement.project
    try:
        checks.bounded(case.energy, case.keys)
    except ValueError as reason:
        raise DoesNotApply(str(reason)) from None
    if bool(case.energy(project(FARTHEST * case.keys), case.keys).isfinite().logical_not().any()):
        raise DoesNotApply("F overflows far from the patterns, or reaches no slot there: only its formula tells")
    it_is_bounded_below(Scalar(lambda state, keys: case.energy(project(state), keys), case.query, case.keys))


def _settling_never_raises_the_energy(case: Case) -> None:
    needs_steps(case)
    if not case.energy.monotone:
        raise DoesNotApply("no theorem: Q∘F is not convex and increasing")
    start = case.energy(case.query, case.keys)
    state = case.query
    for _ in range(5):
        if float(state.abs().max()) > 1e3:  # an energy without a bottom: it has fallen far enough
            break
        state = retrieve(case.energy, state, case.keys, backend="reference")
        end = case.energy(state, case.keys)
        if bool((end > start + 1e-9 * (1 + start.abs())).any()):
            raise LawBroken(f"settling never raises the energy: it rose by {float((end - start).max()):.3g} for {case.energy}.")
        start = end


def _one_slot_returns_itself(case: Case) -> None:
    needs_steps(case)
    energy, alone = case.energy, case.keys[:1]
    attention = isinstance(energy.similarity, Dot) and energy.scaling.normalised(energy.separation)
    if not energy.confinement.averages and not isinstance(energy.confinement, (Sphere, Hypercube)) and not attention:
        raise DoesNotApply("the confinement shrinks what its weights average")
    close("one slot returns itself", retrieve(energy, alone, alone), alone)


def _the_order_of_slots_is_irrelevant(case: Case) -> None:
    if case.energy.scaling.ordered:
        raise DoesNotApply("the scaling reads its slots in their order")
    order = torch.arange(len(case.keys) - 1, -1, -1)
    everywhere(
        "the order of slots is irrelevant",
        case,
        lambda b: (read(case, b), read(case, b, keys=case.keys[order], values=case.values[order], presence=case.presence[order])),
    )


def _presence_0_is_deletion(case: Case) -> None:
    there = torch.ones(len(case.keys), dtype=torch.bool)
    there[2] = False
    poisoned = torch.where(there.unsqueeze(-1), case.keys, 1e3)
    for gate in (there, there.double()):
        everywhere(
            "presence 0 is deletion",
            case,
            lambda b, gate=gate: (
                read(case, b, keys=poisoned, presence=gate),
                read(case, b, keys=case.keys[there], values=case.values[there], presence=None),
            ),
        )


def _an_empty_memory_reads_zeros(case: Case) -> None:
    nothing = torch.zeros(len(case.keys))
    for backend in BACKENDS:
        close("an empty memory reads zeros", read(case, backend, presence=nothing.bool()), torch.zeros(3, 2, dtype=torch.float64))
        empty = retrieve(case.energy, case.query, case.keys[:0], case.values[:0], backend=backend)
        close("an empty memory reads zeros", empty, torch.zeros(3, 2, dtype=torch.float64))


def _doubling_all_memories_lowers_the_energy_by_log_2_over_beta(case: Case) -> None:
    if not isinstance(case.energy.scaling, Log) or case.energy.scaling.null_slot:
        raise DoesNotApply("only for Log without an empty slot")
    once, twice = (case.energy(case.query, torch.cat([case.keys] * k)) for k in (1, 2))
    finite = once.isfinite()
    close("doubling all memories lowers the energy by log 2 / β", once[finite] - twice[finite], torch.full_like(once[finite], 2.0).log() / case.energy.beta)


def _a_cold_memory_returns_the_nearest_slot(case: Case) -> None:
    if not case.energy.scaling.normalised(case.energy.separation):
        raise DoesNotApply("its weights do not sum to one")
    near, nearest = case.energy.similarity(case.query, case.keys).topk(2, -1)
    if bool((near[..., 0] == near[..., 1]).any()):
        raise DoesNotApply("two slots are equally near: random patterns fall into one corner")
    nearest = nearest[..., 0]
    for backend in BACKENDS:
        read = retrieve(case.energy.at(1e6), case.query, case.keys, case.values, backend=backend)
        close("a cold memory (β → ∞) returns the nearest slot", read, case.values[nearest])


def _k_steps_are_k_one_steps(case: Case) -> None:
    needs_steps(case)
    for backend in BACKENDS:
        state = retrieve(case.energy, retrieve(case.energy, case.query, case.keys, backend=backend), case.keys, backend=backend)
        close("k steps are k one-steps", retrieve(case.energy, case.query, case.keys, steps=2, backend=backend), state)


def _a_batch_mate_changes_nothing(case: Case) -> None:
    for backend in BACKENDS:
        alone = torch.cat([retrieve(case.energy, row, case.keys, case.values, backend=backend) for row in case.query.split(1)])
        close("a batch mate changes nothing", retrieve(case.energy, case.query, case.keys, case.values, backend=backend), alone)


LAWS = (
    _a_spec_is_a_value,
    slope_and_curvature_are_the_derivatives_of_F,
    weights_are_the_gradient_of_Q,
    the_force_is_the_gradient_of_the_energy,
    a_unit_step_is_attention,
    reading_values_is_a_step_on_the_joint_energy,
    _it_is_bounded_below,
    _settling_never_raises_the_energy,
    _one_slot_returns_itself,
    _the_order_of_slots_is_irrelevant,
    _presence_0_is_deletion,
    _an_empty_memory_reads_zeros,
    _doubling_all_memories_lowers_the_energy_by_log_2_over_beta,
    _a_cold_memory_returns_the_nearest_slot,
    _k_steps_are_k_one_steps,
    _a_batch_mate_changes_nothing,
    backends_agree_in_output_and_gradient,
    first_and_second_derivatives_are_right,
)
