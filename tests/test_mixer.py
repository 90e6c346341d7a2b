"""The mixer: equal to the recurrences that people know, the same token by token as at once, and stable whatever its weights."""

import copy

import pytest
import torch
from torch.nn.functional import conv1d, rms_norm, scaled_dot_product_attention, silu

from hopfield_amem import presets
from hopfield_amem.energies import MEMORIES, Dot, Exp, Rounded, Sum
from hopfield_amem.energies.memory import Memory
from hopfield_amem.energies.read import ReadEnergy
from hopfield_amem.energies.stability import stiffness
from hopfield_amem.energies.write import Delta
from hopfield_amem.layers import Addressing, MemoryMixer, Writing, retention
from hopfield_amem.layers.convolution import ShortConvolution
from hopfield_amem.layers.rotary import rotate

ROUND = ReadEnergy(Dot(), Rounded(2), Sum())
CELLS = {
    **MEMORIES,
    "softmax": presets.log_sum_exp(0.5),
    "sparsemax": presets.sparsemax(0.5),
    "rounded": presets.delta_former(0.5, ROUND),
}


def tokens(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def mixer(name, dtype=torch.float64, **options):
    """All options at once: convolution, shared memories, and positions where decays do not take their place."""
    channel = getattr(CELLS[name], "decay", None) == "channel"
    return MemoryMixer(16, 4, CELLS[name], (8, 6), addressing=Addressing(taps=3, rotary=None if channel else 1e4, memories=2), dtype=dtype, **options)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_token_by_token_equals_the_whole_pass(name, dtype):
    layer, x = mixer(name, dtype), torch.randn(3, 14, 16, dtype=dtype)
    whole, _ = layer(x)
    pieces, state = [], None
    for piece in x.split([5, 1, 1, 4, 1, 2], 1):
        read, state = layer(piece, state)
        pieces.append(read)
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=bound, atol=bound)
    assert state.position == 14


@pytest.mark.parametrize("name", CELLS)
def test_padding_on_the_left_is_not_there_and_every_parameter_learns(name):
    layer, x = mixer(name), tokens(2, 9, 16)
    padded = torch.cat([100 * tokens(2, 4, 16), x], 1).requires_grad_()
    presence = torch.arange(13).ge(4).expand(2, -1)
    whole, state = layer(padded, presence=presence)
    torch.testing.assert_close(whole[:, 4:], layer(x)[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(layer(x[:, :2], state)[0], layer(x[:, :2], layer(x)[1])[0], rtol=1e-9, atol=1e-9)
    whole[:, 4:].square().sum().backward()
    assert not padded.grad[:, :4].any() and padded.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("name", ["gated_delta_net", "kimi_delta_attention", "delta_former", "softmax"])
def test_packed_sequences_do_not_see_each_other(name):
    layer, parts = mixer(name), [tokens(1, n, 16) for n in (5, 1, 7)]
    packed, _ = layer(torch.cat(parts, 1), cu_seqlens=torch.tensor([0, 5, 6, 13]))
    torch.testing.assert_close(packed, torch.cat([layer(part)[0] for part in parts], 1), rtol=1e-9, atol=1e-9)


def test_a_softmax_mixer_is_causal_attention_with_grouped_heads():
    layer = MemoryMixer(16, 4, presets.log_sum_exp(8**-0.5), 8, addressing=Addressing(norm=None, memories=2), dtype=torch.float64)
    x = tokens(3, 10, 16)
    query, key, value = (part.unflatten(-1, (-1, 8)).transpose(1, 2) for part in layer.project(x).split([32, 16, 16], -1))
    read = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(layer(x)[0], layer.output(read.transpose(1, 2).flatten(2)))
    assert [name for name, _ in layer.named_parameters()] == ["project.weight", "output.weight"]


@pytest.mark.parametrize("name", ["delta_net", "gated_delta_net", "kimi_delta_attention", "longhorn"])
def test_linear_cells_are_their_papers_recurrence(name):
    layer, x = MemoryMixer(8, 1, MEMORIES[name], (6, 5), dtype=torch.float64), tokens(1, 12, 8)
    query, key, value, _ = layer.project(x[0]).split(layer.sizes, -1)
    key = key / key.norm(dim=-1, keepdim=True)
    rate = 2 * torch.sigmoid(layer.rate(x[0]))
    rate = rate / (1 + rate) if name == "longhorn" else rate
    decay = torch.ones(12, 1, dtype=torch.float64)
    if layer.forget is not None:
        decay = torch.exp(-layer.log_scale.exp() * torch.nn.functional.softplus(layer.forget(x[0])))
    matrix, reads = torch.zeros(6, 5, dtype=torch.float64), []
    for q, k, v, b, gamma in zip(query, key, value, rate, decay, strict=True):
        matrix = gamma.unsqueeze(-1) * matrix
        matrix = matrix + torch.outer(k, b * (v - k @ matrix))
        reads.append(rms_norm(q @ matrix, (5,)))
    torch.testing.assert_close(layer(x)[0][0], layer.output(torch.stack(reads)))


def test_retention_forgets_by_its_papers_constants():
    assert retention(3) == (1 - 1 / 32, 1 - 1 / 64, 1 - 1 / 128)
    layer = MemoryMixer(6, 3, presets.retnet(), 2, addressing=Addressing(norm=None), writing=Writing(decay=retention(3)), dtype=torch.float64)
    x = tokens(2, 7, 6)
    query, key, value = (part.unflatten(-1, (3, 2)).transpose(1, 2) for part in layer.project(x).split(6, -1))
    age = (torch.arange(7).unsqueeze(1) - torch.arange(7)).clamp_min(0)
    kept = torch.tensor(retention(3), dtype=torch.float64)[:, None, None] ** age
    read = rms_norm(((query @ key.mT) * kept).tril() @ value, (2,))
    torch.testing.assert_close(layer(x)[0], layer.output(read.transpose(1, 2).flatten(2)))
    assert layer.forget is None


def test_the_convolution_is_torchs_and_rotations_know_only_distances():
    layer, x = ShortConvolution(5, 4), torch.randn(2, 9, 5)
    expected = conv1d(torch.nn.functional.pad(x.mT, (3, 0)), layer.weight.flip(0).mT.unsqueeze(1), groups=5).mT
    torch.testing.assert_close(layer(x)[0], silu(expected))
    query, key, place = tokens(6, 8), tokens(6, 8), torch.arange(6)
    near, far = ((rotate(query, place + shift, 1e4) @ rotate(key, place + shift, 1e4).mT) for shift in (0, 1000))
    torch.testing.assert_close(near, far, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(near, query @ key.mT)
    torch.testing.assert_close(rotate(key, place, 1e4).norm(dim=-1), key.norm(dim=-1))


@pytest.mark.parametrize("norm", [None, 1.0, 2**0.5])
@pytest.mark.parametrize("name", [name for name, memory in CELLS.items() if isinstance(memory, Memory) and memory.slope])
def test_writes_contract_and_decays_stay_whatever_the_weights_and_inputs(name, norm):
    layer = MemoryMixer(16, 2, CELLS[name], 8, addressing=Addressing(norm=norm))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(20).add_(torch.randn_like(parameter))
    x = 1e3 * torch.randn(1, 256, 16)
    _, keys, values, _ = layer._addressed(layer.project(x), torch.tensor(0))
    rate, decay = layer._rate(x, keys), layer._decay(x)
    report = layer.memory.check_stability(keys, rate)
    assert report.stable, report
    assert decay is None or ((decay > 0) & (decay <= 1)).all()
    y, _ = layer(x)
    assert y.isfinite().all() and y.abs().max() < 1e3 * values.abs().max()


@pytest.mark.parametrize("name", ["retnet", "kimi_delta_attention"])
def test_a_fresh_layer_forgets_slowly_and_alike_for_every_token(name):
    decay = MemoryMixer(16, 4, MEMORIES[name])._decay(100 * torch.randn(2, 7, 16))
    assert (decay >= torch.tensor(-1.6).exp() - 1e-3).all() and (decay < 1).all()
    assert torch.equal(decay[:1, :, :, :1].expand_as(decay), decay)


def test_a_rate_reaches_reflections_but_not_beyond():
    layer = MemoryMixer(8, 2, presets.delta_net(), addressing=Addressing(norm=2**0.5))
    torch.nn.init.constant_(layer.rate.bias, 100.0)
    x = torch.randn(1, 4, 8)
    _, keys, _, _ = layer._addressed(layer.project(x), torch.tensor(0))
    torch.testing.assert_close(layer._rate(x, keys) * stiffness(layer.memory, keys, keys), torch.full((1, 2, 1, 4), 2.0))
    torch.testing.assert_close(layer._rate(x, keys), torch.ones(1, 2, 1, 4))


def test_a_mixer_copies_reloads_moves_and_casts():
    layer = mixer("gated_delta_net", torch.float32)
    x = torch.randn(2, 6, 16)
    twin = copy.deepcopy(layer)
    assert torch.equal(twin(x)[0], layer(x)[0])
    fresh = mixer("gated_delta_net", torch.float32)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x)[0], layer(x)[0])
    layer.reset_parameters()
    assert not torch.equal(twin(x)[0], layer(x)[0])
    assert mixer("gated_delta_net", device="meta").project.weight.is_meta
    with torch.autocast("cpu", torch.bfloat16):
        half = twin(x)[0]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), twin(x)[0], rtol=0.1, atol=0.1)
    assert "heads=4" in repr(twin) and "decay" in repr(twin)


@pytest.mark.filterwarnings("ignore:unstable")  # nothing bounds κ₁(w, k) from below
def test_a_fixed_rate_and_erase_keys_are_what_is_written_with():
    memory, options = presets.delta_former(0.5, presets.linear_attention()), {"writing": Writing(rate=0.5, erase=True), "dtype": torch.float64}
    layer, x = MemoryMixer(8, 2, memory, addressing=Addressing(norm=None), **options), 0.3 * tokens(2, 6, 8)
    query, keys, values, erase = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in layer.project(x).split(8, -1))
    written = torch.linalg.solve(torch.eye(6) + 0.5 * (erase @ keys.mT).tril(-1), 0.5 * values)
    read = (0.5 * query @ keys.mT).masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1) @ written
    torch.testing.assert_close(layer(x)[0], layer.output(read.transpose(1, 2).flatten(2)))


def test_a_loss_of_ones_own_is_written_too():
    layer = MemoryMixer(8, 2, Memory(presets.linear_attention(), lambda guess, value: (guess - value).abs().sum(-1)))
    y, _ = layer(torch.randn(2, 5, 8))
    assert y.shape == (2, 5, 8) and y.isfinite().all()


@pytest.mark.parametrize("name", ["gated_delta_net", "delta_former", "softmax"])
def test_a_mixer_compiles_in_one_graph(name):
    layer, x = mixer(name, torch.float32), torch.randn(2, 6, 16)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MemoryMixer(10, 4, presets.delta_net()), "does not divide"),
        (lambda: MemoryMixer(8, 0, presets.delta_net()), "positive"),
        (lambda: MemoryMixer(8, 2, presets.delta_net(), (4, 0)), "positive width"),
        (lambda: MemoryMixer(8, 2, "softmax"), "Memory or a ReadEnergy"),
        (lambda: MemoryMixer(8, 2, presets.log_sum_exp(torch.ones(2))), "number"),
        (lambda: MemoryMixer(8, 2, presets.delta_net(), addressing=Addressing(norm=2.0), writing=Writing(rate=1.0)), "unstable"),
        (lambda: MemoryMixer(8, 2, presets.delta_former(), writing=Writing(rate=1.5)), "unstable"),
        (lambda: MemoryMixer(8, 2, Memory(presets.log_sum_exp(), Delta(), ReadEnergy(Dot(), Exp(), Sum())), writing=Writing(rate=1.0)), "unstable"),
        (lambda: MemoryMixer(8, 3, presets.delta_net(), 4, addressing=Addressing(memories=2)), "share"),
        (lambda: MemoryMixer(9, 3, presets.delta_net(), addressing=Addressing(rotary=1e4)), "even"),
        (lambda: MemoryMixer(8, 2, presets.kimi_delta_attention(), addressing=Addressing(rotary=1e4)), "per channel"),
        (lambda: MemoryMixer(8, 2, presets.delta_net(), writing=Writing(decay=(0.9, 0.9))), "forgets"),
        (lambda: MemoryMixer(8, 2, presets.retnet(), writing=Writing(decay=(0.9,))), "one value"),
        (lambda: MemoryMixer(8, 2, presets.retnet(), writing=Writing(erase=True)), "Delta"),
        (lambda: Addressing(norm=0.0), "norm"),
        (lambda: Addressing(taps=-1), "taps"),
        (lambda: Addressing(rotary=0.5), "rotary"),
        (lambda: Writing(rate=-1.0), "rate"),
        (lambda: Writing(limit=2.5), "limit"),
        (lambda: Writing(decay=(0.0,)), "Decays"),
        (lambda: MemoryMixer(8, 2, presets.delta_net())(torch.zeros(3, 8)), "takes tokens"),
        (lambda: MemoryMixer(8, 2, presets.delta_net())(torch.zeros(1, 3, 8), presence=torch.ones(1, 3)), "boolean"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()
