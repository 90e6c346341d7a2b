"""One energy for a whole block: it never rises, the steps follow it exactly, and what is not there does not matter."""

import copy
import math
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hopfield_amem import ENERGIES, presets
from hopfield_amem.descent import FixedPoint, GradientDescent
from hopfield_amem.kernels import explain
from hopfield_amem.layers import energy_norm, pairs
from hopfield_amem.layers.energy_transformer import EnergyTransformerBlock

DOUBLE = {"dtype": torch.float64}
PRESENCES = {
    "tokens": lambda b, n: torch.rand(b, n) > 0.4,
    "amounts": lambda b, n: torch.rand(b, n, **DOUBLE) * (torch.rand(b, n) > 0.3),
    "pairs": lambda b, n: torch.rand(b, n, n) > 0.4,
    "pairs per head": lambda b, n: torch.rand(b, 2, n, n) > 0.4,
    "nothing": lambda b, n: torch.zeros(b, n, dtype=torch.bool),
}


def block(energy=None, memory=None, *, dim=6, heads=2, **options):
    return EnergyTransformerBlock(dim, heads, energy, memory, slots=7, **DOUBLE | options)


def disturbed(layer):
    """Every parameter away from where it starts."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


@pytest.fixture
def streams(monkeypatch):
    """No read is small enough for full matrices, no two tokens few enough for a mask."""
    monkeypatch.setattr(pairs, "FEW", 1)
    monkeypatch.setattr(sys.modules["hopfield_amem.kernels.explain"], "SMALL", 0)


@torch.no_grad()
def test_the_norm_is_the_gradient_of_its_lagrangian():
    norm = energy_norm.EnergyNorm(4, **DOUBLE)
    x = torch.tensor([0.3, -1.2, 2.0, 0.5], **DOUBLE)
    with torch.no_grad():
        norm.log_gain.fill_(math.log(1.3))
    assert float(norm.lagrangian(x)) == pytest.approx(5.894630, abs=1e-6)  # by hamux
    torch.testing.assert_close(norm(x), torch.tensor([-0.114681, -1.834890, 1.834890, 0.114681], **DOUBLE), rtol=0, atol=1e-6)
    rows = torch.randn(3, 5, 4, **DOUBLE)
    disturbed(norm)
    torch.testing.assert_close(norm(rows), torch.func.grad(lambda t: norm.lagrangian(t).sum())(rows), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(norm.energy(rows), (rows * norm(rows)).sum(-1) - norm.lagrangian(rows), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm.lagrangian(rows), torch.stack([norm.lagrangian(row) for row in rows.flatten(0, 1)]).view(3, 5))
    plain = torch.nn.LayerNorm(4, **DOUBLE)
    with torch.no_grad():
        plain.weight.fill_(float(norm.log_gain.exp()))
        plain.bias.copy_(norm.bias)
    torch.testing.assert_close(norm(rows), plain(rows))


def by_hand(layer, x):
    """Energy and velocity of the paper's choices (arXiv 2302.07253, eq. 2, 3, 5), every sum and derivative written out."""
    gain, spread = layer.norm.log_gain.exp(), (x.var(-1, correction=0, keepdim=True) + layer.norm.eps).sqrt()
    g = gain * (x - x.mean(-1, keepdim=True)) / spread + layer.norm.bias
    energy = (x * g).sum(-1) - (x.shape[-1] * gain * spread).squeeze(-1) - x @ layer.norm.bias
    energy, slope = energy.sum(-1), torch.zeros_like(g)
    for head, (w_query, w_key) in enumerate(zip(layer.query.weight.chunk(layer.heads), layer.keys.weight.chunk(layer.heads), strict=True)):
        beta = layer.log_beta[head].exp()
        query, keys = g @ w_query.T, g @ w_key.T
        score = (beta * query @ keys.mT).masked_fill(torch.eye(x.shape[-2], dtype=torch.bool), -math.inf)
        p = score.softmax(-1)
        energy = energy - torch.logsumexp(score, -1).sum(-1) / beta
        slope = slope - (p @ keys) @ w_query - (p.mT @ query) @ w_key
    beta, xi = layer.memory.log_beta.exp(), layer.memory.keys
    hidden = torch.relu(beta * g @ xi.T)
    return energy - 0.5 * hidden.square().sum((-2, -1)) / beta, -(x + slope - hidden @ xi)


@torch.no_grad()
@pytest.mark.parametrize("tokens", [2, 5, 17])
@pytest.mark.parametrize("streamed", [False, True])
def test_energy_and_velocity_are_the_papers(tokens, streamed, request):
    if streamed:
        request.getfixturevalue("streams")
    layer, x = disturbed(block()), torch.randn(3, tokens, 6, **DOUBLE)
    energy, velocity = by_hand(layer, x)
    torch.testing.assert_close(layer.energy(x), energy, rtol=1e-10, atol=1e-10)
    layer.descent = GradientDescent(1e-3, steps=1, tolerance=0.0)
    torch.testing.assert_close((layer(x) - x) / 1e-3, velocity, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ENERGIES)
def test_the_velocity_is_minus_the_gradient_of_the_energy_in_the_normed_tokens(name):
    """∇ₓE = (∂g/∂x)ᵀ ∂E/∂g, for every energy as attention and as memory."""
    layer, x = disturbed(block(ENERGIES[name], ENERGIES[name])), torch.randn(2, 5, 6, **DOUBLE).requires_grad_()
    (slope,) = torch.autograd.grad(layer.energy(x).sum(), x)
    layer.descent = GradientDescent(1e-6, steps=1, tolerance=0.0)
    moved = layer.descended(x.detach())
    velocity = (moved.trajectory[1] - moved.trajectory[0]) / 1e-6
    through_the_norm = torch.func.vjp(layer.norm, x.detach())[1](-velocity)[0]
    torch.testing.assert_close(through_the_norm, slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize("size", [0.1, 2.0])
def test_the_energy_of_every_sample_falls_at_every_step(name, size):
    layer = disturbed(block(ENERGIES[name], descent=GradientDescent(size, steps=12, tolerance=0.0), dtype=torch.float32))
    found = layer.descended(torch.randn(8, 9, 6))
    assert found.energies.shape[1:] == (8,) and found.trajectory.shape[1:] == (8, 9, 6) and len(found.energies) == int(found.steps.max()) + 1
    assert bool((found.energies.diff(dim=0) <= 0).all()) and bool((found.energies[-1] < found.energies[0]).all())
    torch.testing.assert_close(found.energies, torch.stack([layer.energy(x) for x in found.trajectory]), rtol=1e-6, atol=1e-5)
    assert torch.equal(found.state, layer(found.trajectory[0])) and torch.equal(found.energy, found.energies[-1])


@pytest.mark.parametrize("memory", ["log_sum_exp", "epanechnikov", "entmax", "gelu_feed_forward"])
def test_any_energy_is_a_memory(memory):
    found = disturbed(block(memory=ENERGIES[memory].at(0.2))).descended(torch.randn(4, 3, 6, **DOUBLE))
    assert bool((found.energies.diff(dim=0) <= 0).all()) and bool((found.energies[-1] < found.energies[0]).all())


def test_a_descent_comes_to_rest_where_the_gradient_vanishes():
    layer = block(presets.log_sum_exp(0.3), descent=GradientDescent(0.5, steps=1000, tolerance=1e-8))
    found = layer.descended(torch.randn(3, 4, 6, **DOUBLE))
    assert bool((found.steps < 1000).all()) and bool((found.residual < 1e-7).all())
    again = layer.descended(found.state)
    torch.testing.assert_close(again.state, found.state, rtol=0, atol=1e-5)


def test_samples_do_not_matter_to_each_other():
    layer = disturbed(block(descent=GradientDescent(3.0, steps=6, tolerance=0.0)))  # steps that some samples must halve
    x = torch.randn(5, 4, 6, **DOUBLE)
    torch.testing.assert_close(layer(x), torch.stack([layer(sample) for sample in x]), rtol=1e-10, atol=1e-10)
    order = torch.randperm(4)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order], rtol=1e-10, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("name", ["log_sum_exp", "epanechnikov", "entmax", "softmax1", "relu_feed_forward", "distance"])
@pytest.mark.parametrize("kind", [None, *PRESENCES])
def test_streamed_and_full_blocks_agree(name, kind, streams, monkeypatch):
    layer, x = disturbed(block(ENERGIES[name].at(0.4), descent=GradientDescent(steps=3))), torch.randn(2, 17, 6, **DOUBLE)
    presence = None if kind is None else PRESENCES[kind](2, 17)
    assert explain(layer.spec, x, x).backend == "chunked"
    energy, state = layer.energy(x, presence=presence), layer(x, presence=presence)
    monkeypatch.undo()
    torch.testing.assert_close(layer.energy(x, presence=presence), energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer(x, presence=presence), state, rtol=1e-8, atol=1e-8)


@torch.no_grad()
@pytest.mark.parametrize("name", ["log_sum_exp", "epanechnikov", "entmax", "softmax1", "relu_feed_forward"])
@pytest.mark.parametrize("streamed", [False, True])
def test_padding_is_deletion(name, streamed, request):
    if streamed:
        request.getfixturevalue("streams")
    layer, x = disturbed(block(ENERGIES[name])), torch.randn(2, 6, 6, **DOUBLE)
    there = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 1, 0, 0, 0, 0]]).bool()
    expected = [layer(sample[kept]) for sample, kept in zip(x, there, strict=True)]
    energies = torch.stack([layer.energy(sample[kept]) for sample, kept in zip(x, there, strict=True)])
    x = x.masked_fill(~there.unsqueeze(-1), math.nan)  # what an absent token holds does not matter
    result = layer(x, presence=there)
    torch.testing.assert_close(result[there], torch.cat(expected), rtol=1e-10, atol=1e-10)
    assert bool(result[~there].isnan().all())
    torch.testing.assert_close(layer.energy(x, presence=there), energies, rtol=1e-10, atol=1e-10)
    pairwise = there.unsqueeze(1) & there.unsqueeze(2)
    weights = layer.association(x, presence=there)
    torch.testing.assert_close(weights, layer.association(x.nan_to_num(), presence=pairwise) * there[:, None, :, None])
    assert bool((weights * ~pairwise.unsqueeze(1) == 0).all()) and bool((weights.diagonal(dim1=-2, dim2=-1) == 0).all())
    assert torch.equal(layer.energy(x, presence=torch.zeros_like(there)), torch.zeros(2, **DOUBLE))


def test_one_token_has_no_attention_energy_and_none_is_no_error():
    layer, x = block(), torch.randn(3, 1, 6, **DOUBLE)
    alone = -0.5 * torch.relu(layer.norm(x) @ layer.memory.keys.T).square().sum((-2, -1)) + layer.norm.energy(x).sum(-1)
    torch.testing.assert_close(layer.energy(x), alone)
    assert layer(x).isfinite().all() and layer(x[:, :0]).shape == (3, 0, 6) and layer(x[:0]).shape == (0, 1, 6)
    assert torch.equal(layer.energy(x[:, :0]), torch.zeros(3, **DOUBLE))


@pytest.mark.parametrize("name", ["log_sum_exp", "distance", "entmax", "softmax1", "gelu_feed_forward"])
@pytest.mark.parametrize("streamed", [False, True])
def test_gradients_through_the_steps(name, streamed, request):
    if streamed:
        request.getfixturevalue("streams")
    layer = disturbed(block(ENERGIES[name].at(0.5), presets.gelu_feed_forward(0.5), descent=GradientDescent(0.01, steps=2, tolerance=0.0)))
    names, values = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(1, 4, 6, **DOUBLE, requires_grad=True)
    presence = torch.tensor([[True, True, False, True]])
    run = lambda x, *given: torch.func.functional_call(layer, dict(zip(names, given, strict=True)), (x,), {"presence": presence})
    given = tuple(v.detach().requires_grad_() for v in values)
    assert torch.autograd.gradcheck(run, (x, *given), fast_mode=True)


def test_everything_learns_and_nothing_is_kept_without_training():
    layer, x = disturbed(block()), torch.randn(2, 5, 6, **DOUBLE)
    layer(x).square().sum().backward()
    assert {name for name, p in layer.named_parameters() if not float(p.grad.abs().max()) > 0} == set()
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "log_beta": (2,), "norm.log_gain": (1,), "norm.bias": (6,), "query.weight": (6, 6), "keys.weight": (6, 6),
        "memory.keys": (7, 6), "memory.log_beta": (1,),
    }  # fmt: skip
    with torch.no_grad():
        assert layer(x).grad_fn is None and layer.descended(x).energies.grad_fn is None


def test_training_through_the_descent_teaches_a_block_to_bring_back_a_hidden_token():
    patterns = torch.randn(4, 3, 8)
    layer = EnergyTransformerBlock(8, 2, slots=16, descent=GradientDescent(0.2, steps=4, tolerance=0.0))
    hidden = patterns * torch.tensor([1.0, 1.0, 0.0]).unsqueeze(-1)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.03)
    losses = []
    for _ in range(60):
        loss = (layer.norm(layer(hidden)) - patterns)[:, 2].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@torch.no_grad()
@pytest.mark.parametrize("name", ["log_sum_exp", "relu_feed_forward"])
def test_scores_of_all_pairs_are_never_held(name):
    layer = EnergyTransformerBlock(8, 2, ENERGIES[name], slots=4, descent=GradientDescent(steps=1))
    x, tokens = torch.randn(1, 2048, 8), 2048
    with Largest() as seen:
        layer(x)
    assert seen.elements < 2 * tokens**2 / 8


def test_compile_fullgraph(streams):
    torch.compiler.reset()
    layer, x = disturbed(block(descent=GradientDescent(8.0, steps=1))), torch.randn(2, 5, 6, **DOUBLE)  # a step that must be halved
    presence = torch.rand(2, 5) > 0.3
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, presence=presence), layer(x, presence=presence))
    truth = torch.autograd.grad(layer(x, presence=presence).square().sum(), list(layer.parameters()))
    torch.testing.assert_close(torch.autograd.grad(compiled(x, presence=presence).square().sum(), list(layer.parameters())), truth)


def test_autocast_and_half_types_compute_in_float32():
    layer, x = block(dtype=torch.float32), torch.randn(2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x), layer(x.float()))
        assert layer(x).dtype == torch.float32 and layer.energy(x).dtype == torch.float32
    with torch.autocast("cpu", enabled=False):
        plain = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), plain)
    half = copy.deepcopy(layer).bfloat16()
    found = half.descended(x.bfloat16())
    assert half(x.bfloat16()).dtype == torch.bfloat16 and found.energies.dtype == torch.float32 and bool((found.energies.diff(dim=0) <= 0).all())


def test_strides_and_leading_dimensions_do_not_matter():
    layer, x = block(), torch.randn(6, 5, 2, 3, **DOUBLE).permute(2, 3, 1, 0)
    torch.testing.assert_close(layer(x), layer(x.contiguous()))
    torch.testing.assert_close(layer(x).flatten(0, 1), layer(x.reshape(6, 5, 6)))
    assert layer.energy(x).shape == (2, 3) and layer.energy(x[0, 0]).shape == () and layer.descended(x[0, 0]).energies.shape == (13,)
    assert "EnergyNorm" in repr(layer) and "log Σ" in repr(layer)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: EnergyTransformerBlock(6, 4), "does not divide"),
        (lambda: EnergyTransformerBlock(6, 2, slots=0), "must be positive"),
        (lambda: EnergyTransformerBlock(6, 2, descent=FixedPoint()), "give a GradientDescent"),
        (lambda: EnergyTransformerBlock(6, 2, "softmax"), "ReadEnergy whose beta is a number"),
        (lambda: EnergyTransformerBlock(6, 2, memory="relu"), "ReadEnergy whose beta is a number"),
        (lambda: energy_norm.EnergyNorm(0), "positive width"),
        (lambda: block()(torch.zeros(2, 5, 7, **DOUBLE)), r"tokens \(..., n, 6\)"),
        (lambda: block()(torch.zeros(2, 5, 6, dtype=torch.long)), "floating-point tokens"),
        (lambda: block()(torch.zeros(2, 5, 6, **DOUBLE), presence=torch.ones(2, 4).bool()), "does not broadcast"),
        (lambda: block()(torch.zeros(2, 5, 6, **DOUBLE), presence=torch.tensor(True)), "one entry per token"),
        (lambda: block()(torch.zeros(2, 5, 6, **DOUBLE), presence=2 * torch.ones(2, 5, **DOUBLE)), r"\[0, 1\]"),
        (lambda: block()(torch.full((2, 5, 6), math.nan, **DOUBLE)), "x holds NaN"),
    ],
)
def test_errors_say_what_to_do(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def own_energy(layer, g, keys, sees):
    """Energy of every token without its norm's part, among the keys it sees (n, m), every sum written out."""
    beta, xi = layer.memory.log_beta.exp(), layer.memory.keys
    energy = -0.5 * torch.relu(beta * g @ xi.T).square().sum(-1) / beta
    for head, (w_query, w_key) in enumerate(zip(layer.query.weight.chunk(layer.heads), layer.keys.weight.chunk(layer.heads), strict=True)):
        beta = layer.log_beta[head].exp()
        score = beta * (g @ w_query.T) @ (keys @ w_key.T).mT
        some = sees.any(-1)
        lse = torch.logsumexp(torch.where(sees, score, -math.inf)[..., some, :], -1)
        energy = energy - torch.zeros_like(energy).masked_scatter(some.expand_as(energy), lse) / beta
    return energy


EARLIER = lambda n: torch.ones(n, n, dtype=torch.bool).tril(-1)
THIRD = torch.tensor([True, False, True])
FORMS = {  # options, context, who sees whom
    "causal": lambda n: ({"causal": True}, None, EARLIER(n)),
    "causal, one token away": lambda n: ({"causal": True, "presence": torch.arange(n) != 1}, None, EARLIER(n) & (torch.arange(n) != 1)),
    "context": lambda n: ({}, torch.randn(2, 3, 6, **DOUBLE), torch.ones(n, 3, dtype=torch.bool)),
    "context, one token away": lambda n: ({"presence": THIRD}, torch.randn(2, 3, 6, **DOUBLE), THIRD.expand(n, 3)),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tokens", [1, 5, 17])
@pytest.mark.parametrize("streamed", [False, True])
def test_tokens_with_energies_of_their_own_descend_them(form, tokens, streamed, request):
    if streamed:
        request.getfixturevalue("streams")
    torch.manual_seed(0)
    options, context, sees = FORMS[form](tokens)
    layer, x = disturbed(block()), torch.randn(2, tokens, 6, **DOUBLE)
    if "presence" in options:
        options["presence"] = options["presence"].expand(2, -1)
    there = options["presence"][0] if "away" in form and context is None else torch.ones(tokens, dtype=torch.bool)
    g = layer.norm(x).detach()
    keys = g if context is None else layer.norm(context).detach()
    energy = layer.energy(x, context, **options)
    assert energy.shape == (2, tokens)
    own = own_energy(layer, g, keys, sees)
    torch.testing.assert_close(energy[:, there], (own + layer.norm.energy(x))[:, there], rtol=1e-10, atol=1e-10)
    slope = torch.func.grad(lambda g: own_energy(layer, g, keys, sees).sum())(g)
    layer.descent = GradientDescent(1e-4, steps=1, tolerance=0.0)
    velocity = (layer(x, context, **options) - x) / 1e-4
    torch.testing.assert_close(velocity[:, there], -(x + slope)[:, there], rtol=1e-7, atol=1e-7)
    assert not bool(velocity[:, ~there].any())
    weights = layer.association(x, context, **options)
    assert weights.shape == (2, 2, tokens, len(sees[0])) and not bool(weights[..., ~sees].any())


@torch.no_grad()
@pytest.mark.parametrize("energy", ["log_sum_exp", "entmax", "softmax1", "epanechnikov", "relu_feed_forward"])
def test_a_causal_block_does_not_see_what_comes_later(energy):
    layer, x = disturbed(block(ENERGIES[energy].at(0.3))), torch.randn(2, 9, 6, **DOUBLE)
    later = x.clone()
    later[:, 5:] = torch.randn(2, 4, 6, **DOUBLE)
    first, second = layer(x, causal=True), layer(later, causal=True)
    torch.testing.assert_close(first[:, :5], second[:, :5], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x[:, :5], causal=True), first[:, :5], rtol=1e-12, atol=1e-12)
    assert not torch.equal(first[:, 5:], second[:, 5:]) and not torch.allclose(layer(x[:, 1:], causal=True)[:, 4:], first[:, 5:], atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("energy", ENERGIES)
def test_every_token_falls_among_a_context(energy):
    layer = disturbed(block(ENERGIES[energy], descent=GradientDescent(2.0, steps=12, tolerance=0.0), dtype=torch.float32))
    found = layer.descended(torch.randn(4, 5, 6), torch.randn(4, 7, 6))
    assert found.energies.shape[1:] == (4, 5) and found.steps.shape == (4, 5)
    assert bool((found.energies.diff(dim=0) <= 0).all()) and bool((found.energies[-1] < found.energies[0]).any())


def test_contexts_and_order_train_and_compile():
    layer, x, context = block(descent=GradientDescent(0.1, steps=2)), torch.randn(1, 3, 6, **DOUBLE), torch.randn(1, 2, 6, **DOUBLE)
    assert torch.autograd.gradcheck(layer, (x.requires_grad_(), context.requires_grad_()))
    assert torch.autograd.gradcheck(lambda x: layer(x, causal=True), (x,))
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="eager")  # what a backend makes of a graph is tested above
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, causal=True), layer(x, causal=True), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(compiled(x, context), layer(x, context), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(layer(x, context[:, :0]), layer(x, context, presence=torch.zeros(1, 2, dtype=torch.bool)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{"context": torch.ones(3, 6)}, {"context": torch.ones(2, 3, 5)}, {"context": torch.ones(2, 3, 6), "causal": True}])
def test_contexts_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="context"):
        block(dtype=torch.float32)(torch.ones(2, 4, 6), **options)
