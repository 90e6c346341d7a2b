"""Memories written token by token: every path equals the definition, and the definition equals the models."""

import pytest
import torch
from torch.nn.functional import normalize, scaled_dot_product_attention

from hopfield_amem import ENERGIES, MEMORIES, Memory, ReadEnergy, associate, explain, presets
from hopfield_amem.energies import Delta, Dot, Epanechnikov, Euclidean, Exp, Hebbian, Log, Power, Quadratic, Rounded, Sum
from hopfield_amem.kernels import MatrixState, RidgeState, SlotState
from hopfield_amem.kernels.association import growing, linear

BACKENDS = ["recurrent", "chunked"]
close = torch.testing.assert_close


def soft_square(score):
    return torch.nn.functional.softplus(score) ** 2


ROUND = ReadEnergy(Dot(), Rounded(2), Sum())
RADIAL = ReadEnergy(Euclidean(), Exp(), Sum(), Quadratic(), beta=4.0)  # exp(4 (cos − 1)) on unit keys
CELLS = {
    **{f"{name}, Hebbian": Memory(energy) for name, energy in ENERGIES.items()},
    **MEMORIES,
    "delta_former, relu": presets.delta_former(prediction=presets.relu_feed_forward()),
    "delta_former, round": presets.delta_former(prediction=ROUND),
    "delta_former, exp": presets.delta_former(prediction=RADIAL),
    "delta_former, decaying": Memory(presets.log_sum_exp(), Delta(), decay="scalar"),
    "delta_former, linear, decaying": Memory(presets.log_sum_exp(), Delta(), presets.linear_attention(), decay="scalar"),
    "softmax1, decaying": Memory(presets.softmax1(), Delta(), decay="scalar"),
    "relu, Delta": Memory(presets.relu_feed_forward(0.5), Delta()),
    "own F, Delta": Memory(ReadEnergy(Dot(), soft_square, Log()), Delta()),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Chunks, blocks and segments that divide no length and are many."""
    monkeypatch.setattr(growing, "ROWS", 24)
    monkeypatch.setattr(linear, "SEGMENT", 512)


def tokens(length, lead=(2, 3), width=6, columns=4, dtype=torch.float64):
    """Unit keys, so that writing contracts."""
    keys = normalize(torch.randn(*lead, length, width, dtype=dtype), dim=-1)
    return torch.randn(*lead, length, width, dtype=dtype), keys, torch.randn(*lead, length, columns, dtype=dtype)


def decays(memory, *shape, width=6, dtype=torch.float64):
    if memory.decay is None:
        return None
    return 0.5 + 0.5 * torch.rand(*shape, *([width] if memory.decay == "channel" else []), dtype=dtype)


def everything(memory, tensors, part=slice(None), **options):
    """Output and floating parts of the state, of a part of the sequence."""
    cut = {name: t if t is None else t[..., part] if name in ("rate", "presence") or (name == "decay" and memory.decay == "scalar") else t[..., part, :]
           for name, t in tensors.items()}  # fmt: skip
    query, keys, values = cut.pop("query"), cut.pop("keys"), cut.pop("values")
    output, state = associate(memory, query, keys, values, **cut, **options)
    return output, state


def compared(memory, tensors, backend, tolerance, **options):
    """Outputs, states and every gradient, against the definition in float64."""
    results = []
    for chosen, dtype in (("reference", torch.float64), (backend, None)):
        given = {n: t if t is None or not t.is_floating_point() else t.detach().to(dtype or t.dtype).requires_grad_() for n, t in tensors.items()}
        output, state = everything(memory, given, backend=chosen, **options)
        found = [output, *(t for t in state if t is not None and t.is_floating_point())]
        weights = [torch.linspace(0.5, 1.5, t.numel(), dtype=t.dtype).view(t.shape) for t in found]
        leaves = [t for t in given.values() if t is not None and t.requires_grad]
        grads = torch.autograd.grad(sum((t * w).sum() for t, w in zip(found, weights, strict=True)), leaves, allow_unused=True)
        results.append([*(t.detach() for t in found), *(torch.zeros_like(t) if g is None else g for t, g in zip(leaves, grads, strict=True))])
    for expected, came in zip(*results, strict=True):
        scale = max(1.0, float(expected.norm()))
        assert float((came.double() - expected).norm()) <= tolerance * scale


@pytest.mark.parametrize("length", [1, 17, 63, 100])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CELLS)
def test_every_path_is_the_definition(name, backend, length, poisoned):
    memory = CELLS[name]
    query, keys, values = tokens(length, width=6)
    tensors = dict(query=query, keys=keys, values=values, rate=torch.rand(2, 3, length, dtype=torch.float64), decay=decays(memory, 2, 3, length))
    compared(memory, tensors, backend, 1e-12)


@pytest.mark.parametrize(
    "name", ["delta_net", "kimi_delta_attention", "mesa_net", "delta_former", "delta_former_linear", "delta_entmax", "forgetting_attention"]
)
def test_hundreds_of_tokens(name):
    """More than a segment, in many blocks."""
    memory = CELLS[name]
    query, keys, values = tokens(600, lead=(2,), width=5)
    tensors = dict(query=query, keys=keys, values=values, rate=torch.rand(2, 600, dtype=torch.float64), decay=decays(memory, 2, 600, width=5))
    compared(memory, tensors, "chunked", 1e-12)
    compared(memory, {n: t if t is None else t.float() for n, t in tensors.items()}, "chunked", 1e-5)


@pytest.mark.filterwarnings("ignore::hopfield_amem.energies.UnstableWrite")
@pytest.mark.parametrize("rate", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net", "delta_former", "delta_former_linear", "delta_former, round", "delta_former, exp"])
def test_rates_of_nothing_one_and_two(name, rate):
    """At 2 softmax writes may double per token; so few tokens stay well conditioned."""
    memory = CELLS[name]
    query, keys, values = tokens(33)
    tensors = dict(query=query, keys=keys, values=values, rate=torch.full((2, 3, 33), rate, dtype=torch.float64), decay=decays(memory, 2, 3, 33))
    compared(memory, tensors, "chunked", 1e-12)
    compared(memory, tensors, "recurrent", 1e-12)


@pytest.mark.filterwarnings("ignore::hopfield_amem.energies.UnstableWrite")
@pytest.mark.parametrize("keys", ["identical", "correlated", "raw"])
@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net", "kimi_delta_attention", "delta_former, relu"])
def test_adversarial_keys(name, keys):
    """Inverses by repeated squaring lose every digit on these."""
    memory, length = CELLS[name], 100
    query, unit, values = tokens(length)
    given = {
        "identical": unit[..., :1, :].expand(unit.shape),
        "correlated": normalize(0.5 * unit + torch.randn(2, 3, 1, 6, dtype=torch.float64), dim=-1),
        "raw": 0.5 * torch.randn(unit.shape, dtype=torch.float64),
    }[keys]
    rate = torch.full((2, 3, length), {"identical": 2.0, "correlated": 0.95, "raw": 0.3}[keys], dtype=torch.float64)
    compared(memory, dict(query=query, keys=given, values=values, rate=rate, decay=decays(memory, 2, 3, length)), "chunked", 1e-11)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("cut", [1, 30, 64])
@pytest.mark.parametrize("name", CELLS)
def test_two_parts_with_a_carried_state_are_one_pass(name, cut, backend):
    memory, length = CELLS[name], 70
    query, keys, values = tokens(length)
    there = torch.ones(2, 1, length, dtype=torch.bool)
    there[1, :, 20:25] = False
    tensors = dict(
        query=query, keys=keys, values=values, rate=torch.rand(2, 3, length, dtype=torch.float64), decay=decays(memory, 2, 3, length), presence=there
    )
    whole, final = everything(memory, tensors, backend="reference")
    first, state = everything(memory, tensors, slice(cut), backend=backend)
    second, state = everything(memory, tensors, slice(cut, None), backend=backend, state=state)
    close(torch.cat([first, second], -2), whole, rtol=1e-11, atol=1e-11)
    for came, expected in zip(state, final, strict=True):
        if expected is not None:
            close(came.to(expected.dtype).expand(expected.shape), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("name", CELLS)
def test_left_padding_changes_nothing(name, backend):
    memory, length, padding = CELLS[name], 40, 9
    query, keys, values = tokens(length)
    decay = decays(memory, 2, 3, length)
    there = torch.arange(length).expand(2, 1, length) >= torch.tensor([0, padding])[:, None, None]
    padded, _ = associate(memory, query, keys, values, decay=decay, presence=there, backend=backend)
    short = None if decay is None else decay[..., padding:, :] if memory.decay == "channel" else decay[..., padding:]
    alone, _ = associate(memory, query[..., padding:, :], keys[..., padding:, :], values[..., padding:, :], decay=short, backend=backend)
    close(padded[1, :, padding:], alone[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("name", ["delta_net", "kimi_delta_attention", "gated_delta_net", "mesa_net", "longhorn", "delta_former", "forgetting_attention"])
def test_packed_sequences_do_not_see_each_other(name, backend):
    memory, bounds = CELLS[name], torch.tensor([0, 5, 5, 40, 57])
    query, keys, values = tokens(57, lead=(3,))
    rate, decay = torch.rand(3, 57, dtype=torch.float64), decays(memory, 3, 57)
    output, state = associate(memory, query, keys, values, rate=rate, decay=decay, cu_seqlens=bounds, backend=backend)
    assert output.shape == values.shape and state[0].shape[:2] == (4, 3)
    tensors = dict(query=query, keys=keys, values=values, rate=rate, decay=decay)
    for begin, end in ((0, 5), (5, 40), (40, 57)):
        alone, _ = everything(memory, tensors, slice(begin, end), backend="reference")
        close(output[:, begin:end], alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["delta_net", "kimi_delta_attention", "delta_former", "delta_former_linear", "forgetting_attention", "mesa_net"])
def test_groups_of_queries_share_a_memory(name):
    memory, length = CELLS[name], 30
    _, keys, values = tokens(length, lead=(2, 3, 1))
    query = torch.randn(2, 3, 2, length, 6, dtype=torch.float64)
    tensors = dict(query=query, keys=keys, values=values, rate=torch.rand(3, 1, length, dtype=torch.float64), decay=decays(memory, 2, 1, 1, length))
    compared(memory, tensors, "chunked", 1e-12)
    compared(memory, tensors, "recurrent", 1e-12)


@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net", "delta_former", "delta_former_linear", "delta_epanechnikov"])
def test_erase_keys_and_two_rates(name):
    memory, length = CELLS[name], 50
    query, keys, values = tokens(length)
    erase = normalize(torch.randn(2, 3, length, 6, dtype=torch.float64), dim=-1)
    rates = torch.rand(2, 2, 3, length, dtype=torch.float64)
    decay = decays(memory, 2, 3, length)
    expected = associate(memory, query, keys, values, rate=(rates[0], rates[1]), erase=erase, decay=decay, backend="reference")[0]
    for backend in BACKENDS:
        close(associate(memory, query, keys, values, rate=(rates[0], rates[1]), erase=erase, decay=decay, backend=backend)[0], expected, rtol=1e-11, atol=1e-11)
    compared(memory, dict(query=query, keys=keys, values=values, erase=erase, decay=decay), "chunked", 1e-12)


def test_softmax_attention_is_sdpa():
    query, keys, values = tokens(90)
    output, state = associate(presets.log_sum_exp(0.3), query, keys, values, backend="chunked")
    close(output, scaled_dot_product_attention(query, keys, values, is_causal=True, scale=0.3))
    assert isinstance(state, SlotState) and state.level is None


def test_delta_net_by_hand():
    query, keys, values = tokens(20, lead=())
    rate, decay, state = torch.rand(20, dtype=torch.float64), 0.5 + 0.5 * torch.rand(20, dtype=torch.float64), torch.zeros(4, 6, dtype=torch.float64)
    expected = []
    for q, k, v, b, g in zip(query, keys, values, rate, decay, strict=True):
        state = g * state @ (torch.eye(6, dtype=torch.float64) - b * torch.outer(k, k)) + b * torch.outer(v, k)
        expected.append(state @ q)
    output, final = associate(presets.gated_delta_net(), query, keys, values, rate=rate, decay=decay)
    close(output, torch.stack(expected))
    assert isinstance(final, MatrixState)
    close(final.memory, state.mT)


def test_kernel_delta_rule_on_explicit_features():
    """``Power(3)`` reads with (x·k)², whose features are all products of two entries."""
    query, keys, values = tokens(25, lead=())
    memory, rate = Memory(ReadEnergy(Dot(), Power(3), Sum()), Delta()), torch.rand(25, dtype=torch.float64)
    wide_query, wide_keys = (torch.einsum("ti,tj->tij", x, x).flatten(1) for x in (query, keys))
    close(associate(memory, query, keys, values, rate=rate)[0], associate(presets.delta_net(), wide_query, wide_keys, values, rate=rate)[0])


def test_forgetting_attention_by_hand():
    query, keys, values = tokens(30)
    decay = 0.2 + 0.8 * torch.rand(2, 3, 30, dtype=torch.float64)
    level = decay.log().cumsum(-1)
    score = (query @ keys.mT + level.unsqueeze(-1) - level.unsqueeze(-2)).masked_fill(torch.ones(30, 30, dtype=torch.bool).triu(1), -torch.inf)
    close(associate(presets.forgetting_attention(), query, keys, values, decay=decay)[0], score.softmax(-1) @ values)


def test_delta_former_by_hand():
    """``u_t = v_t − b Σ_{i<t} softmax(k_t·k_i) u_i``, an empty softmax being nothing (arXiv 2505.19488, NeurIPS 2025, eq. 8 and 9)."""
    query, keys, values = tokens(12, lead=())
    written = []
    for t in range(12):
        prior = torch.softmax(keys[:t] @ keys[t], 0) @ torch.stack(written) if t else torch.zeros(4, dtype=torch.float64)
        written.append(values[t] - 0.7 * prior)
    rates = torch.ones(12, dtype=torch.float64), torch.full((12,), 0.7, dtype=torch.float64)
    output, state = associate(presets.delta_former(), query, keys, values, rate=rates)
    close(state.written, torch.stack(written))
    close(output, scaled_dot_product_attention(query[None], keys[None], torch.stack(written)[None], is_causal=True, scale=1.0)[0])


@pytest.mark.parametrize("name", ["retnet", "gated_linear_attention", "delta_net", "gated_delta_net", "kimi_delta_attention", "linear_attention, Hebbian"])
def test_a_write_is_one_gradient_step_of_its_energy(name):
    """``S ← S′ − b ∂ℓ(S′ᵀk, v)/∂S′`` from the faded S′: what memory.write says is what the recurrence does."""
    memory = CELLS[name]
    query, keys, values = tokens(1, lead=())
    before, rate = torch.randn(6, 4, dtype=torch.float64), 0.6
    decay = decays(memory, 1)
    faded = (before if decay is None else (decay.mT if memory.decay == "channel" else decay) * before).requires_grad_()
    (grad,) = torch.autograd.grad(memory.write(faded.mT @ keys[0], values[0]), faded)
    _, after = associate(memory, query, keys, values, rate=rate, decay=decay, state=MatrixState(before), backend="recurrent")
    close(after.memory, (faded - rate * grad).detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["delta_former, exp", "relu, Delta"])
def test_a_write_is_a_gradient_step_in_function_space(name):
    """Where κ₁ = κ₂ has features, the step of a Delta write changes every prediction by ``−b ∂ℓ/∂ŷ`` times the kernel."""
    memory = Memory(CELLS[name].predictor, Delta())
    query, keys, values = tokens(9, lead=())
    _, state = associate(memory, keys, keys, values, rate=0.5, backend="recurrent")
    _, before = associate(memory, keys[:-1], keys[:-1], values[:-1], rate=0.5, backend="recurrent")
    predicted = (memory.read.weights(query, before.keys) @ before.written).requires_grad_()
    own = (memory.read.weights(keys[-1:], before.keys) @ before.written).requires_grad_()
    (grad,) = torch.autograd.grad(memory.write(own, values[-1:]).sum(), own)
    moved = memory.read.weights(query, state.keys) @ state.written
    close(moved, predicted.detach() - 0.5 * memory.read.weights(query, keys[-1:]) @ grad, rtol=1e-12, atol=1e-12)


def test_longhorn_minimises_its_energy():
    query, keys, values = tokens(1, lead=())
    before, rate, key, value = torch.randn(6, 4, dtype=torch.float64), 1.7, keys[0] * 1.5, values[0]
    _, after = associate(presets.longhorn(), query, key[None], value[None], rate=rate, state=MatrixState(before))
    found = after.memory.clone().requires_grad_()
    energy = 0.5 * (found - before).square().sum() + rate * presets.longhorn().write(found.mT @ key, value)
    (grad,) = torch.autograd.grad(energy, found)
    assert float(grad.abs().max()) < 1e-13


def test_mesa_net_minimises_its_energy():
    query, keys, values = tokens(30, lead=())
    rate, decay = torch.rand(30, dtype=torch.float64), 0.9 + 0.1 * torch.rand(30, dtype=torch.float64)
    output, state = associate(presets.mesa_net(0.3), query, keys, values, rate=rate, decay=decay)
    assert isinstance(state, RidgeState)
    found = torch.linalg.solve(state.covariance + 0.3 * torch.eye(6, dtype=torch.float64), state.memory).requires_grad_()
    weight = rate * (decay.log().sum() - decay.log().cumsum(0)).exp()
    energy = (weight * presets.mesa_net(0.3).write(keys @ found, values)).sum() + 0.15 * found.square().sum()
    (grad,) = torch.autograd.grad(energy, found)
    assert float(grad.abs().max()) < 1e-13
    close(output[-1], (query[-1] @ found).detach())


def test_a_loss_of_ones_own_runs_by_the_recurrence_and_says_so():
    memory = Memory(presets.linear_attention(), lambda prediction, value: torch.cosh(prediction - value).log().sum(-1))
    query, keys, values = tokens(12, lead=())
    assert "not quadratic" in str(explain(memory, query, keys))
    with pytest.raises(ValueError, match="runs token by token"):
        associate(memory, query, keys, values, backend="chunked")
    state, expected = torch.zeros(6, 4, dtype=torch.float64), []
    for q, k, v in zip(query, keys, values, strict=True):
        state = state + 0.3 * torch.outer(k, torch.tanh(v - k @ state))
        expected.append(q @ state)
    close(associate(memory, query, keys, values, rate=0.3)[0], torch.stack(expected))
    quadratic = Memory(presets.relu_feed_forward(), lambda prediction, value: 0.5 * (prediction - value).square().sum(-1))
    close(associate(quadratic, query, keys, values, rate=0.3)[0], associate(Memory(presets.relu_feed_forward(), Delta()), query, keys, values, rate=0.3)[0])


def test_new_cells_read_sparsely_what_delta_wrote():
    query, keys, values = tokens(30, lead=())
    near = Memory(ReadEnergy(Euclidean(), Epanechnikov(), Log(), beta=1.0), Delta())
    output, state = associate(near, query, keys, values)
    inside = (1 - 0.5 * (query[-1] - keys).square().sum(-1)) > 0
    close(output[-1], state.written[inside].mean(0) if inside.any() else torch.zeros(4, dtype=torch.float64))


def test_hebbian_ignores_what_is_there():
    query, keys, values = tokens(20)
    _, state = associate(Memory(presets.softmax1(), Hebbian()), query, keys, values, rate=0.5)
    close(state.written, 0.5 * values)


def test_generation_with_a_matrix_has_a_state_of_constant_size():
    memory, (query, keys, values) = presets.gated_delta_net(), tokens(50, lead=())
    decay, state, sizes = torch.full((50,), 0.9, dtype=torch.float64), None, set()
    for t in range(50):
        _, state = associate(memory, query[t : t + 1], keys[t : t + 1], values[t : t + 1], decay=decay[t : t + 1], state=state)
        sizes.add(state.memory.numel())
    assert sizes == {24}
    close(state.memory, associate(memory, query, keys, values, decay=decay)[1].memory)


def test_no_tokens():
    for name, memory in CELLS.items():
        query, keys, values = tokens(0)
        for backend in ("reference", *BACKENDS):
            output, _ = associate(memory, query, keys, values, decay=decays(memory, 2, 3, 0), backend=backend)
            assert output.shape == (2, 3, 0, 4), name


def test_nothing_to_write_at_all():
    for name, memory in CELLS.items():
        for lead in ((0, 3), (2, 0)):
            tensors = dict(zip(("query", "keys", "values"), tokens(30, lead), strict=True)) | {"decay": decays(memory, *lead, 30)}
            leaves = {n: t if t is None else t.requires_grad_() for n, t in tensors.items()}
            output, _ = associate(memory, **leaves, backend="chunked")
            assert output.shape == (*lead, 30, 4), name
            torch.autograd.grad(output.sum(), leaves["keys"], allow_unused=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["delta_net", "retnet", "kimi_delta_attention", "longhorn", "mesa_net", "delta_former", "delta_former_linear"])
def test_one_rate_for_all_tokens(name, backend):
    memory, length = CELLS[name], 140
    query, keys, values = tokens(length, lead=(2,))
    decay = decays(memory, 2, length)
    expected = associate(memory, query, keys, values, rate=torch.full((2, length), 0.5, dtype=torch.float64), decay=decay, backend="reference")[0]
    for rate in (0.5, torch.tensor(0.5, dtype=torch.float64), torch.full((2, 1), 0.5, dtype=torch.float64)):
        close(associate(memory, query, keys, values, rate=rate, decay=decay, backend=backend)[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("length", [6, 20])
def test_a_ridge_regression_forgets(length):
    """Also where there are as many tokens as channels."""
    query, keys, values = tokens(length, lead=())
    tensors = dict(query=query, keys=keys, values=values, rate=torch.rand(length, dtype=torch.float64))
    decay = 0.5 + 0.5 * torch.rand(length, dtype=torch.float64)
    results = [associate(presets.mesa_net(0.3), **tensors, decay=decay, backend=backend)[0] for backend in ("reference", *BACKENDS)]
    close(results[1], results[0], rtol=1e-11, atol=1e-11)
    close(results[2], results[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["delta_net", "retnet", "kimi_delta_attention", "delta_former", "forgetting_attention"])
def test_packed_sequences_share_rates_and_numbers(name):
    """Rates without the heads' dimension are no sequences, even where there are as many."""
    memory, bounds = CELLS[name], torch.tensor([0, 5, 9, 20], dtype=torch.int32)
    query, keys, values = tokens(20, lead=(3,))
    decay = decays(memory, 20)
    there = torch.rand(20) > 0.3
    for rate in (0.5, torch.rand(20, dtype=torch.float64)):
        full = rate if isinstance(rate, float) else rate.expand(3, 20)
        wide = None if decay is None else decay.expand(3, *decay.shape)
        came = associate(memory, query, keys, values, rate=rate, decay=decay, presence=there, cu_seqlens=bounds)[0]
        close(came, associate(memory, query, keys, values, rate=full, decay=wide, presence=there.expand(3, 20), cu_seqlens=bounds)[0])


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net", "longhorn", "mesa_net", "delta_former", "forgetting_attention"])
def test_what_absent_tokens_hold_does_not_matter(name, backend):
    memory = CELLS[name]
    there = torch.rand(2, 1, 20) > 0.3
    tensors = dict(zip(("query", "keys", "values"), tokens(20), strict=True)) | {"decay": decays(memory, 2, 3, 20)}
    hostile = {n: None if t is None else torch.where(there if n == "decay" else there.unsqueeze(-1), t, torch.nan).requires_grad_() for n, t in tensors.items()}
    output, expected = (associate(memory, **given, presence=there, backend=backend)[0] for given in (hostile, tensors))
    seen = there.expand(2, 3, 20)
    close(output[seen], expected[seen])
    grads = torch.autograd.grad(output[seen].sum(), [t for t in hostile.values() if t is not None])
    assert all(g.isfinite().all() for g in grads)


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("name", ["gated_delta_net", "delta_former", "delta_former, decaying", "mesa_net"])
def test_leading_dimensions_broadcast(name, backend):
    """Keys shared by heads whose rates and decays differ, a state from one prompt for many, presence for all tokens at once."""
    memory = CELLS[name]
    query, _, values = tokens(12)
    _, keys, _ = tokens(12, lead=(2, 1))
    rate, there = torch.rand(2, 3, 12, dtype=torch.float64), torch.tensor([True]).expand(2, 1, 1)
    decay = None if memory.decay is None else decays(memory, 3, 12)
    full = dict(query=query, keys=keys.expand(2, 3, 12, 6), values=values, rate=rate, decay=None if decay is None else decay.expand(2, 3, 12))
    output, state = associate(memory, query, keys, values, rate=rate, decay=decay, presence=there, backend=backend)
    close(output, associate(memory, **full, backend="reference")[0], rtol=1e-11, atol=1e-11)
    associate(memory, query, keys, values, rate=rate, decay=decay, presence=there, state=state, backend=backend)
    prompt = tokens(9, lead=())
    _, state = associate(memory, *prompt, decay=decays(memory, 9), backend=backend)
    token = [t[..., :1, :] for t in (query, keys, values)]
    last = None if decay is None else decay[..., :1]
    came = associate(memory, *token, decay=last, state=state, backend=backend)[0]
    joined = [torch.cat([p.expand(2, 3, *p.shape), t.expand(2, 3, *t.shape[-2:])], -2) for p, t in zip(prompt, token, strict=True)]
    if decay is None:
        close(came, associate(memory, *joined, backend="reference")[0][..., -1:, :], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["retnet", "gated_linear_attention", "gated_delta_net", "forgetting_attention"])
def test_a_closed_gate_forgets_everything(name):
    """γ = 0 starts anew, as a sigmoid that underflows does. (A normalised write sees ratios only, which do not change where all fades alike.)"""
    memory = CELLS[name]
    query, keys, values = tokens(90)
    decay = decays(memory, 2, 3, 90)
    decay[:, :, 40] = 0.0
    rest = decay[:, :, 40:]
    expected = associate(memory, query[:, :, 40:], keys[:, :, 40:], values[:, :, 40:], decay=rest, backend="reference")[0]
    for backend in ("reference", *BACKENDS):
        close(associate(memory, query, keys, values, decay=decay, backend=backend)[0][:, :, 40:], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["delta_former, decaying", "softmax1, decaying", "forgetting_attention"])
def test_many_closed_gates_are_the_same_on_every_path(name):
    memory = CELLS[name]
    query, keys, values = tokens(90)
    decay = decays(memory, 2, 3, 90)
    decay[:, :, 20:24] = 0.0
    expected = associate(memory, query, keys, values, decay=decay, backend="reference")[0]
    for backend in BACKENDS:
        close(associate(memory, query, keys, values, decay=decay, backend=backend)[0], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["retnet", "gated_delta_net"])
def test_the_gradient_of_a_small_gate(name):
    """Summed without differences, relative to the gradient however small γ is."""
    memory = CELLS[name]
    query, keys, values = tokens(50, lead=())
    grads = []
    for backend in ("recurrent", "chunked"):
        decay = torch.full((50,), 1e-9, dtype=torch.float64, requires_grad=True)
        grads.append(torch.autograd.grad(associate(memory, query, keys, values, decay=decay, backend=backend)[0].sin().sum(), decay)[0])
    close(grads[1], grads[0], rtol=1e-10, atol=1e-12)


def test_a_write_energy_of_ones_own_class_is_taken_at_its_word():
    from hopfield_amem.energies import WriteEnergy

    class Cosh(WriteEnergy):
        def __call__(self, prediction, value):
            return torch.cosh(prediction - value).log().sum(-1)

    query, keys, values = tokens(12, lead=())
    plain = Memory(presets.linear_attention(), lambda prediction, value: torch.cosh(prediction - value).log().sum(-1))
    close(associate(Memory(presets.linear_attention(), Cosh()), query, keys, values, rate=0.3)[0], associate(plain, query, keys, values, rate=0.3)[0])


def test_a_state_of_another_precision_goes_on():
    for name in ("delta_net", "mesa_net", "delta_former"):
        query, keys, values = tokens(10, lead=())
        _, state = associate(CELLS[name], query.bfloat16(), keys.bfloat16(), values.bfloat16())
        for backend in ("reference", *BACKENDS):
            associate(CELLS[name], query, keys, values, state=state, backend=backend)
