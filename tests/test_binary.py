"""Couplings: what they learn, what follows from them, and what they refuse."""

import pytest
import torch

from hopfield_amem import presets
from hopfield_amem.descent import SpinDescent, alternate, replay
from hopfield_amem.energies import Bidirectional, Couplings
from hopfield_amem.energies.binary import learning
from hopfield_amem.energies.binary.couplings import spins
from hopfield_amem.energies.binary.learning import UnstablePatterns
from hopfield_amem.testing import check_energy

close = torch.testing.assert_close
RULES = {
    "hebbian": learning.hebbian, "pseudo_inverse": learning.pseudo_inverse, "storkey": learning.storkey, "delta": learning.delta,
}  # fmt: skip


def signs(*shape, dtype=torch.float64):
    return torch.where(torch.rand(*shape) < 0.5, -1.0, 1.0).to(dtype)


def correlated(count, width, share=0.15):
    """Patterns that differ from one parent in so many of their bits: cosines of (1 − 2·share)²."""
    return signs(1, width) * torch.where(torch.rand(count, width) < share, -1.0, 1.0).double()


def flipped(patterns, share):
    return patterns * torch.where(torch.rand(patterns.shape) < share, -1.0, 1.0).to(patterns)


@pytest.mark.parametrize("order", ["asynchronous", "synchronous"])
def test_hebbian_couplings_are_the_quadratic_read_energy(order):
    patterns, state = signs(7, 50), signs(30, 50)
    read, written = presets.hopfield(1 / 50), learning.hebbian(patterns)
    close(written(state) - read(state, patterns), torch.full((30,), 7 / 2, dtype=torch.float64))
    close(learning.hebbian(patterns, diagonal=True)(state), read(state, patterns))
    found = [SpinDescent(order, generator=torch.Generator().manual_seed(1))(*memory) for memory in ((read, state, patterns), (written, state))]
    assert torch.equal(found[0].state, found[1].state) and torch.equal(found[0].steps, found[1].steps)
    assert not torch.equal(found[0].state, state)


def test_odd_powers_obey_the_laws_too():
    assert len(check_energy(presets.polynomial(3, 0.3)).held) >= 12


@pytest.mark.parametrize("bias", [None, torch.randn(9, dtype=torch.float64)])
def test_the_field_is_minus_the_gradient(bias):
    couplings = Couplings(learning.storkey(signs(3, 9)).weights, bias)
    state = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(couplings(state).sum(), state)
    close(couplings.field(state), -gradient)
    close(couplings(state.float()), couplings(state).float(), rtol=1e-5, atol=1e-5)
    assert torch.autograd.gradcheck(couplings, (state,))


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_recalls_damaged_patterns(rule):
    patterns = signs(6, 200)
    couplings = RULES[rule](patterns)
    assert couplings.symmetric and (couplings.weights.diagonal() == 0).all() and (couplings.stability(patterns) > 0).all()
    found = SpinDescent(record=True)(couplings, flipped(patterns, 0.1))
    assert torch.equal(found.state, patterns) and (found.energies.diff(dim=0) <= 1e-12).all()
    assert torch.equal(RULES[rule](patterns.float()).weights.double() > 0, couplings.weights > 0)


def test_the_pseudo_inverse_is_a_projection():
    for patterns in (correlated(40, 60), signs(60, 60), torch.cat([correlated(5, 60)] * 2), signs(1, 1)):
        weights = learning.pseudo_inverse(patterns, diagonal=True).weights
        close(patterns @ weights, patterns, rtol=0, atol=1e-10)
        close(weights @ weights, weights, rtol=0, atol=1e-10)
        without = learning.pseudo_inverse(patterns)
        close(without.stability(patterns), (1 - weights.diagonal()).expand_as(patterns), rtol=0, atol=1e-10)


def test_correlated_patterns_need_more_than_hebb():
    patterns = correlated(20, 100)
    assert not (learning.hebbian(patterns).stability(patterns) > 0).all(-1).any()
    for rule in (learning.pseudo_inverse, learning.delta):
        assert (rule(patterns).stability(patterns) > 0).all()


def test_storkeys_rule_is_its_definition():
    patterns, width = signs(5, 7), 7
    weights = torch.zeros(width, width, dtype=torch.float64)
    for x in patterns:
        h = torch.zeros(width, width, dtype=torch.float64)
        for i in range(width):
            for j in range(width):
                h[i, j] = sum(weights[i, k] * x[k] for k in range(width) if k not in (i, j))
        weights = weights + torch.stack([torch.stack([(x[i] * x[j] - x[i] * h[j, i] - h[i, j] * x[j]) / width for j in range(width)]) for i in range(width)])
    close(learning.storkey(patterns).weights, weights - weights.diagonal().diag())
    close(learning.storkey(patterns[3:], onto=learning.storkey(patterns[:3])).weights, learning.storkey(patterns).weights)
    close(learning.storkey(patterns[:1]).weights, learning.hebbian(patterns[:1]).weights)


def test_storkey_holds_more_than_hebb():
    patterns = signs(50, 200)
    held = [(rule(patterns).stability(patterns) > 0).all(-1).double().mean() for rule in (learning.hebbian, learning.storkey)]
    assert held[0] < 0.3 and held[1] > 0.9


@pytest.mark.parametrize("margin", [0.0, 1.0, 20.0])
def test_delta_learning_ends_with_its_margin(margin):
    patterns = signs(60, 100)  # a load of 0.6: four times what Hebb's rule holds
    assert (learning.delta(patterns, margin=margin).stability(patterns) >= margin).all()


def test_delta_learning_says_what_it_cannot_hold():
    contradictory = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    with pytest.warns(UnstablePatterns, match="After 50 sweeps . of 2 patterns"):
        learning.delta(contradictory, sweeps=50)
    with pytest.warns(UnstablePatterns, match="of 100 patterns"):
        learning.delta(signs(100, 30), sweeps=30)


ASYMMETRIC = learning.sequence(torch.tensor([[1.0, 1, 1], [1, -1, 1]]))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Couplings(torch.ones(2, 3)), "square"),
        (lambda: Couplings(torch.eye(3), torch.ones(2)), "one torch.float32 per spin"),
        (lambda: Couplings(torch.full((2, 2), float("nan"))), "NaN or Inf"),
        (lambda: Couplings([[1.0]]), "torch.Tensor"),
        (lambda: ASYMMETRIC(torch.ones(1, 3)), "asymmetric"),
        (lambda: Couplings(torch.eye(3))(torch.ones(1, 4)), "3 spins"),
        (lambda: Bidirectional(torch.eye(3))(torch.ones(1, 4)), "6 spins"),
        (lambda: Bidirectional(torch.ones(2)), "count, width|finite matrix"),
        (lambda: learning.hebbian(torch.zeros(2, 3)), "Binarise"),
        (lambda: learning.hebbian(torch.ones(2, 2, 3)), "patterns \\(n, d\\)"),
        (lambda: learning.hebbian(torch.ones(2, 3, dtype=torch.long)), "floating"),
        (lambda: learning.storkey(torch.ones(2, 3), onto=Couplings(torch.eye(4))), "4 spins"),
        (lambda: learning.storkey(torch.ones(2, 3), onto=ASYMMETRIC), "keeps couplings symmetric"),
        (lambda: learning.delta(torch.ones(2, 3), margin=-1.0), "margin"),
        (lambda: learning.sequence(torch.ones(1, 3)), "two patterns"),
        (lambda: learning.sequence(torch.ones(2, 3), rule="storkey"), "rule"),
        (lambda: learning.bidirectional(torch.ones(2, 3), torch.ones(3, 3)), "one value"),
        (lambda: replay(ASYMMETRIC, torch.ones(1, 3), 0), "at least 1"),
        (lambda: replay(ASYMMETRIC, torch.ones(1, 3), 1, torch.ones(2, 3)), "by themselves"),
        (lambda: replay(presets.exponential(), torch.ones(1, 3), 1), "with its sequence"),
        (lambda: replay(presets.exponential(), torch.ones(1, 3), 1, torch.ones(1, 3)), "n ≥ 2"),
        (lambda: replay(ASYMMETRIC, torch.zeros(1, 3), 1), "Binarise"),
        (lambda: replay(ASYMMETRIC, torch.ones(1, 3), 1, temperature=-1.0), "temperature"),
        (lambda: alternate(Bidirectional(torch.ones(2, 3))), "give keys"),
        (lambda: alternate(Bidirectional(torch.ones(2, 3)), torch.ones(1, 3)), "width 2"),
        (lambda: alternate(Bidirectional(torch.ones(2, 3)), torch.ones(1, 2), torch.ones(2, 3)), "Both halves"),
    ],
)
def test_errors_at_the_door(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


class Elsewhere(torch.Tensor):
    """A tensor that says it lives on a GPU."""

    device = property(lambda self: torch.device("cuda"))  # type: ignore[assignment]


@pytest.mark.parametrize("device", [None, pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))])
@pytest.mark.parametrize(
    "door, message",
    [
        (lambda x: spins("state", x), "Binarise"),
        (learning.hebbian, "Binarise"),
        (lambda x: Couplings(x * torch.inf), "NaN or Inf"),
        (lambda x: Bidirectional(x * torch.inf), "finite matrix"),
    ],
)
def test_values_are_looked_at_on_every_device(door, message, device):
    wrong = torch.zeros(3, 3).as_subclass(Elsewhere) if device is None else torch.zeros(3, 3, device=device)
    with pytest.raises(ValueError, match=message):
        door(wrong)


def test_doors_do_not_read_while_a_compiler_traces():
    traced = torch.compile(lambda x: learning.hebbian(x).weights, backend="eager", fullgraph=True)
    patterns = signs(3, 5)
    close(traced(patterns), learning.hebbian(patterns).weights)


def test_delta_learning_takes_steps_of_one_size():
    """The perceptron's step, however far a spin is below its margin: all weights are whole multiples of 1/d."""
    patterns = signs(40, 64)
    for margin in (1.0, 7.3):
        counts = learning.delta(patterns, margin=margin).weights * 64
        assert torch.equal(counts, counts.round()) and counts.abs().max() > 2


def test_specs_print_their_equations():
    assert str(learning.hebbian(signs(2, 5))) == "E(x) = −½ xᵀWx,  x ∈ {−1, 1}^5"
    assert "no energy" in str(ASYMMETRIC) and "−xᵀWy" in str(Bidirectional(torch.ones(2, 3)))
    assert "− bᵀx" in str(Couplings(torch.eye(2), torch.ones(2)))
