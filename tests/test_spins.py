"""Descents of spins against energies evaluated one flip at a time, and against exact distributions."""

import itertools

import pytest
import torch
from mpmath import mp

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.descent import SpinDescent
from hopfield_amem.descent.loop import Landscape
from hopfield_amem.descent.spins.descent import flips_of
from hopfield_amem.descent.spins.flips import CoupledFlips
from hopfield_amem.descent.spins.overlaps import OverlapFlips
from hopfield_amem.energies import Couplings, Dot, Euclidean, Exp, Hypercube, Log, Power, RectifiedPower, Simplex, Sum, Tsallis
from hopfield_amem.energies.binary import learning
from hopfield_amem.kernels import Gates

close = torch.testing.assert_close


def signs(*shape, dtype=torch.float64):
    return torch.where(torch.rand(*shape) < 0.5, -1.0, 1.0).to(dtype)


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def on_cube(separation, scaling, beta=1.0, similarity=Dot()):  # noqa: B008
    return ReadEnergy(similarity, separation, scaling, Hypercube(), beta)


ENERGIES = {
    "hopfield": presets.hopfield(0.1),
    "cubic": on_cube(Power(3), Sum(), 0.1),
    "polynomial": presets.polynomial(4, 0.1),
    "dense": presets.dense(3, 0.1),
    "dense, degree 20": presets.dense(20, 0.1),
    "first power": on_cube(RectifiedPower(1), Sum(), 0.1),
    "exponential": presets.exponential(0.3),
    "exponential, cold": presets.exponential(4.0),
    "exponential, colder": presets.exponential(80.0),
    "exponential sum": on_cube(Exp(), Sum(), 0.3),
    "empty slot": on_cube(Exp(), Log(null_slot=True), 0.3),
    "power under Log": on_cube(Power(2), Log(), 0.2),
    "rectified power under Log": on_cube(RectifiedPower(2), Log(null_slot=True), 0.2),
    "own": on_cube(lambda s: torch.nn.functional.softplus(s) ** 2, Sum(), 0.2),
    "distance": on_cube(Exp(), Log(), 0.2, Euclidean()),
    "sparsemax": on_cube(Tsallis(2.0), Simplex(), 0.2),
}


def one_flip_at_a_time(energy, state, sweeps, generator):
    """The definition: E is evaluated before and after every single flip."""
    state, steps = state.clone(), torch.zeros(len(state), dtype=torch.long)
    for row, x in enumerate(state):
        generator_of_row = torch.Generator()
        generator_of_row.set_state(generator.get_state())
        turned = True
        while turned and steps[row] < sweeps:
            turned, steps[row] = False, steps[row] + 1
            for i in torch.randperm(len(x), generator=generator_of_row):
                other = x.clone()
                other[i] *= -1
                before, after = energy(x.unsqueeze(0)), energy(other.unsqueeze(0))
                if after < before - 1e-11 * before.abs().clamp_min(1e-3):
                    x[i], turned = other[i], True
    return state, steps


@pytest.mark.parametrize("name", ENERGIES)
def test_asynchronous_descents_are_their_definition(name):
    keys, state = signs(9, 13), signs(20, 13)
    energy = ENERGIES[name]
    expected, steps = one_flip_at_a_time(lambda x: energy(x, keys), state, 100, seeded())
    found = SpinDescent(generator=seeded())(energy, state, keys)
    assert torch.equal(found.state, expected) and torch.equal(found.steps, steps) and found.converged.all()
    close(found.energy, energy(expected, keys))


@pytest.mark.parametrize("bias", [False, True])
def test_couplings_are_descended_by_their_definition(bias):
    weights = torch.randn(14, 14, dtype=torch.float64)
    couplings = Couplings(weights + weights.mT, torch.randn(14, dtype=torch.float64) if bias else None)
    state = signs(20, 14)
    expected, steps = one_flip_at_a_time(couplings, state, 100, seeded())
    found = SpinDescent(generator=seeded())(couplings, state)
    assert torch.equal(found.state, expected) and torch.equal(found.steps, steps)
    close(found.energy, couplings(expected))
    evaluated = SpinDescent(generator=seeded())(lambda x, memories: couplings(x), state)  # as any function
    assert torch.equal(evaluated.state, expected)


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("gate", ["none", "presence", "amounts per query", "bias", "causal"])
def test_differences_are_those_of_the_energy(name, gate):
    keys, state, energy = signs(7, 6), signs(7, 6), ENERGIES[name]
    gates = {
        "none": Gates(), "presence": Gates(torch.arange(7) > 2), "amounts per query": Gates(torch.rand(7, 7, dtype=torch.float64)),
        "bias": Gates(bias=torch.randn(7, dtype=torch.float64)), "causal": Gates(reach=3),
    }[gate]  # fmt: skip
    amounts = gates.amounts(7, 7, state.device)
    made = flips_of(Landscape(energy, state, keys, gates))(slice(None))
    rows, spins = torch.tensor([0, 2, 6]), torch.tensor([5, 1])
    for some, turned in ((rows[:0], spins[:0]), (rows[1:], torch.tensor([4, 0]))):  # as it starts, and after some queries moved
        made.flip(some, turned)
        state[some, turned] *= -1
        found = made.changes(rows, spins, made.prepared(spins))
        for (i, row), (j, spin) in itertools.product(enumerate(rows.tolist()), enumerate(spins.tolist())):
            other = state.clone()
            other[row, spin] *= -1
            before, after = (energy(x, keys, presence=amounts, bias=gates.bias)[row] for x in (state, other))
            close(found[i, j], after - before, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", ["hopfield", "dense", "exponential", "exponential, colder"])
@pytest.mark.parametrize("size", [1, 17, 63, 100])
def test_energies_never_rise_in_single_precision_and_end_in_minima(name, size):
    keys, state = signs(size, size, dtype=torch.float32), signs(50, size, dtype=torch.float32)
    energy = ENERGIES[name]
    found = SpinDescent(record=True)(energy, state.mT.contiguous().mT, keys.mT.contiguous().mT)
    exact = torch.stack([energy(x.double(), keys.double()) for x in found.trajectory])
    assert (exact.diff(dim=0) <= 2e-5 * exact[1:].abs()).all() and found.converged.all()
    turned = found.state.unsqueeze(1) * (1 - 2 * torch.eye(size))
    assert (energy(turned.double(), keys.double()) >= exact[-1].unsqueeze(-1) * (1 + torch.where(exact[-1] > 0, -2e-5, 2e-5)).unsqueeze(-1)).all()
    assert found.energies.shape == exact.shape and found.period is None


@pytest.mark.parametrize("kind", [OverlapFlips, CoupledFlips])
def test_deciding_spins_in_groups_changes_nothing(kind, monkeypatch):
    keys, state = signs(40, 90), signs(30, 90)
    memory = (presets.dense(3, 0.1), state, keys) if kind is OverlapFlips else (learning.hebbian(keys), state)
    found = []
    for group in (1, 7, 64, 1000):
        monkeypatch.setattr(kind, "group", group)
        found.append(SpinDescent(temperature=0.0, generator=seeded())(*memory).state)
    assert all(torch.equal(other, found[0]) for other in found)


def states_of(width):
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=width)), dtype=torch.float64)


def counted(state):
    """How often each state occurs, in the order of ``states_of``."""
    place = ((state > 0) * 2 ** torch.arange(state.shape[-1] - 1, -1, -1)).sum(-1)
    return torch.bincount(place.flatten(), minlength=2 ** state.shape[-1]).double()


def agrees(counts, probability):
    """χ² within five of its standard deviations, over the states that are expected at least five times and all others together."""
    expected = counts.sum() * probability
    rare = expected < 5
    groups = [(counts[~rare], expected[~rare]), (counts[rare].sum(), expected[rare].sum() + 1)]
    chi = sum(((found - due) ** 2 / due).sum() for found, due in groups)
    degrees = len(counts)
    return chi < degrees + 5 * (2 * degrees) ** 0.5


@pytest.mark.parametrize(
    "name, temperature",
    [("hopfield", 0.7), ("hopfield", 3.0), ("dense", 0.7), ("exponential", 0.7), ("exponential", 3.0), ("distance", 0.7), ("couplings", 0.7)],
)
def test_glauber_dynamics_keeps_the_boltzmann_distribution(name, temperature):
    keys = signs(4, 5)
    energy, memory = (Couplings(0.15 * keys.mT @ keys, torch.randn(5, dtype=torch.float64)), ()) if name == "couplings" else (ENERGIES[name], (keys,))
    exact = torch.softmax(-energy(states_of(5), *memory) / temperature, 0)
    found = SpinDescent(temperature=temperature, sweeps=25, generator=seeded())(energy, signs(1, 5).expand(10_000, 5), *memory)
    assert agrees(counted(found.state), exact) and (found.steps == 25).all()


def test_every_flip_is_in_detailed_balance():
    keys, states, spins = signs(4, 5), states_of(5), torch.arange(5)
    for name in ("hopfield", "exponential, cold", "dense"):
        made = flips_of(Landscape(ENERGIES[name], states, keys, Gates()))(slice(None))
        rate = torch.sigmoid(-made.changes(torch.arange(32), spins, made.prepared(spins)) / 0.7)
        weight = torch.softmax(-ENERGIES[name](states, keys) / 0.7, 0)
        for i in range(5):
            turned = torch.arange(32) ^ 2 ** (4 - i)
            close(weight * rate[:, i], (weight * rate[:, i])[turned], rtol=1e-9, atol=1e-15)


def test_parallel_dynamics_keeps_its_own_distribution():
    """Peretto 1984: ``P(x) ∝ e^(b·x/T) Π 2 cosh(h_i/T)`` for symmetric couplings without a diagonal."""
    weights = torch.randn(4, 4, dtype=torch.float64)
    couplings = Couplings(torch.triu(weights, 1) + torch.triu(weights, 1).mT, torch.randn(4, dtype=torch.float64))
    states = states_of(4)
    exact = torch.softmax(states @ couplings.bias / 1.5 + torch.cosh(couplings.field(states) / 1.5).log().sum(-1), 0)
    found = SpinDescent("synchronous", 1.5, 60, generator=seeded())(couplings, signs(20_000, 4))
    assert agrees(counted(found.state), exact)


def exact_change(energy, state, keys, spin):
    """``−log(Σ e^(β s′)/Σ e^(β s))/β`` of one flip, to fifty digits."""
    beta = mp.mpf(energy.beta)
    score = [int(s) for s in (keys @ state).tolist()]
    turned = [s - 2 * int(state[spin] * key[spin]) for s, key in zip(score, keys, strict=True)]
    empty = int(energy.scaling.null_slot)
    before, after = (empty + sum(mp.exp(beta * s) for s in scores) for scores in (score, turned))
    return -mp.log(after / before) / beta


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [1e-12, 1e-9, 1e-7, 1e-5, 1e-3, 0.3, 4.0, 80.0])
@pytest.mark.parametrize("empty", [False, True])
def test_softmax_differences_are_exact_at_every_temperature(beta, empty, dtype):
    """As β → 0 they become (agreeing − disagreeing patterns), and where these are equally many, a second order of β."""
    energy = on_cube(Exp(), Log(null_slot=empty), beta)
    keys, state = signs(6, 9, dtype=dtype), signs(4, 9, dtype=dtype)
    keys[1] = -keys[0]
    made = flips_of(Landscape(energy, state, keys, Gates()))(slice(None))
    found = made.changes(torch.arange(4), torch.arange(9), made.prepared(None))
    with mp.workdps(50):
        exact = torch.tensor([[float(exact_change(energy, x, keys, spin)) for spin in range(9)] for x in state], dtype=torch.float64)
    single = dtype == torch.float32 and 1e-3 <= beta <= 30  # the shares; where these do not suffice they are in float64
    resolved = 32 * torch.finfo(torch.float32 if single else torch.float64).eps * (1 + 2 * beta)
    close(found.double(), exact, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=resolved)
    assert ((found != 0) | (exact.abs() <= resolved)).all() and (beta > 1e-6 or ((exact.abs() < 1e-5) & (found != 0)).any())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", [1e-9, 1e-4, 0.07, 0.3, 2.0, 25.0])
def test_a_tie_is_a_tie_at_every_temperature(beta, dtype):
    """Two patterns exchange their overlaps s and s − 2 when the spin turns in which they differ."""
    keys = signs(1, 12, dtype=dtype).repeat(2, 1)
    keys[1, 4] *= -1
    energy, state = on_cube(Exp(), Log(), beta), keys[:1].clone()
    state[0, 7] *= -1
    made = flips_of(Landscape(energy, state, keys, Gates()))(slice(None))
    changes = made.changes(torch.arange(1), torch.arange(12), made.prepared(None))[0]
    assert changes[4] == 0 and changes[7] < 0 and (changes[[0, 1, 2, 3, 5, 6, 8, 9, 10, 11]] > 0).all()
    assert torch.equal(SpinDescent()(energy, state, keys).state, keys[:1])


@pytest.mark.parametrize("empty", [False, True])
def test_what_all_slots_have_in_common_does_not_drown_ties(empty):
    """Scores of 30 beside biases of 1000, in single precision; with an empty slot that nothing outweighs, nothing turns for it."""
    keys = signs(1, 100, dtype=torch.float32).repeat(2, 1)
    keys[1, 4] *= -1
    energy, state = on_cube(Exp(), Log(null_slot=empty), 0.3), keys[:1].clone()
    found = []
    for common in (0.0, 1000.0):
        made = flips_of(Landscape(energy, state, keys, Gates(bias=torch.full((2,), common))))(slice(None))
        found.append(made.changes(torch.arange(1), torch.arange(100), made.prepared(None))[0])
    assert found[0][4] == found[1][4] == 0
    close(found[1], found[0])


def test_many_patterns_of_nearly_equal_weight_are_told_apart_in_single_precision():
    """100,001 patterns at β = 0.002: what one spin changes is a share of a few 10⁻⁴ of the energy's logarithm, and still decides."""
    keys, state = signs(100_001, 20, dtype=torch.float32), signs(6, 20, dtype=torch.float32)
    energy = presets.exponential(0.002)
    found = []
    for dtype in (torch.float32, torch.float64):
        made = flips_of(Landscape(energy, state.to(dtype), keys.to(dtype), Gates()))(slice(None))
        found.append(made.changes(torch.arange(6), torch.arange(20), made.prepared(None)).double())
    single, exact = found
    assert torch.equal(single.sign(), exact.sign()) and (exact.abs() < 1e-3).any()
    close(single, exact, rtol=1e-3, atol=1e-5)
    ends = [SpinDescent(generator=seeded())(energy, state.to(dtype), keys.to(dtype)).state.double() for dtype in (torch.float32, torch.float64)]
    assert torch.equal(*ends) and not torch.equal(ends[0], state.double())
