"""A drop-in for nn.MultiheadAttention: torch's numbers with torch's weights, in every place where torch puts it."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

from hopfield_amem import presets, retrieve
from hopfield_amem.descent import FixedPoint, GradientDescent
from hopfield_amem.layers import MultiheadAttention, replace_attention_

BATCH, QUERIES, SLOTS, DIM, HEADS = 3, 5, 7, 12, 4
OPTIONS = {
    "plain": {}, "batch_first": {"batch_first": True}, "widths": {"kdim": 5, "vdim": 6, "batch_first": True}, "no_bias": {"bias": False},
    "appended": {"add_bias_kv": True, "add_zero_attn": True}, "zero": {"add_zero_attn": True, "batch_first": True, "kdim": 5},
}  # fmt: skip


def masks(dtype):
    """Every kind of mask that torch takes; each row keeps its first slot."""
    padding = torch.zeros(BATCH, SLOTS, dtype=torch.bool)
    padding[1, 4:] = padding[2, 1:] = True
    pairs, each = torch.rand(QUERIES, SLOTS) < 0.5, torch.rand(BATCH * HEADS, QUERIES, SLOTS) < 0.5
    pairs[:, 0] = each[..., 0] = False
    added = lambda mask: torch.zeros(mask.shape, dtype=dtype).masked_fill(mask, -torch.inf)
    return {
        "none": {}, "padding": {"key_padding_mask": padding}, "pairs": {"attn_mask": pairs}, "each": {"attn_mask": each},
        "both": {"attn_mask": pairs, "key_padding_mask": padding}, "minus_infinity": {"attn_mask": added(each), "key_padding_mask": added(padding)},
        "added": {"attn_mask": 3 * torch.randn(QUERIES, SLOTS, dtype=dtype), "key_padding_mask": torch.randn(BATCH, SLOTS, dtype=dtype)},
        "added_to_each": {"attn_mask": torch.randn(BATCH * HEADS, QUERIES, SLOTS, dtype=dtype)},
    }  # fmt: skip


def pair(dtype=torch.float64, **options):
    """Torch's attention, and ours with its weights."""
    torch.manual_seed(0)
    stock = nn.MultiheadAttention(DIM, HEADS, dtype=dtype, **options)
    for parameter in stock.parameters():
        nn.init.normal_(parameter, std=0.3)
    ours = MultiheadAttention(DIM, HEADS, dtype=dtype, **options)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def tokens(attention, *lead):
    """Query, key and value (t, batch, width), or as ``batch_first`` has it; without a lead unbatched."""
    shape = lambda length: (*lead, length) if attention.batch_first else (length, *lead)
    sizes = [(QUERIES, DIM), (SLOTS, attention.kdim), (SLOTS, attention.vdim)]
    return [torch.randn(*shape(length), width, dtype=attention.out_proj.weight.dtype, requires_grad=True) for length, width in sizes]


@pytest.mark.parametrize("mask", masks(torch.float64))
@pytest.mark.parametrize("options", OPTIONS)
def test_numbers_and_gradients_are_torchs(options, mask):
    stock, ours = pair(**OPTIONS[options])
    given, gates = tokens(stock, BATCH), masks(torch.float64)[mask]
    assert list(ours.state_dict()) == list(stock.state_dict())
    for weights in ({}, {"average_attn_weights": False}, {"need_weights": False}):
        (expected, p), (found, q) = stock(*given, **gates, **weights), ours(*given, **gates, **weights)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert p is q is None if weights.get("need_weights") is False else torch.allclose(p, q, rtol=0, atol=1e-12)
    along = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, [*given, *stock.parameters()], along)
    for grad, right in zip(torch.autograd.grad(found, [*given, *ours.parameters()], along), wanted, strict=True):
        torch.testing.assert_close(grad, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mask", masks(torch.float32))
def test_single_precision(mask):
    stock, ours = nn.MultiheadAttention(DIM, HEADS), MultiheadAttention(DIM, HEADS)
    ours.load_state_dict(stock.state_dict())
    given, gates = tokens(stock, BATCH), masks(torch.float32)[mask]
    torch.testing.assert_close(ours(*given, **gates), stock(*given, **gates), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 17, 63])
def test_ugly_sizes_unbatched_and_views(size):
    stock, ours = pair()
    x = torch.randn(size, 2 * DIM, dtype=torch.float64)[:, ::2]
    padding = torch.arange(size) > size // 2
    torch.testing.assert_close(ours(x, x, x, key_padding_mask=padding), stock(x, x, x, key_padding_mask=padding), rtol=0, atol=1e-12)
    each = torch.randn(HEADS, size, size, dtype=torch.float64)
    for weights in ({}, {"average_attn_weights": False}):
        torch.testing.assert_close(ours(x, x, x, attn_mask=each, **weights), stock(x, x, x, attn_mask=each, **weights), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["none", "padding", "minus_infinity", "added", "causal"])
def test_long_sequences(kind):
    stock, ours = pair(batch_first=True)
    x = torch.randn(1, 150, DIM, dtype=torch.float64, requires_grad=True)  # enough scores for the backend that streams
    hidden = torch.ones(150, 150).triu(1).bool()
    gates = {
        "none": {}, "padding": {"key_padding_mask": torch.arange(150)[None] > 99}, "added": {"attn_mask": torch.randn(150, 150, dtype=torch.float64)},
        "minus_infinity": {"attn_mask": torch.zeros(150, 150).double().masked_fill(hidden, -torch.inf)}, "causal": {"attn_mask": hidden, "is_causal": True},
    }[kind]  # fmt: skip
    (expected, p), (found, q) = (attention(x, x, x, **gates) for attention in (stock, ours))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(q, p, rtol=0, atol=1e-12)
    grads = [torch.autograd.grad(attention(x, x, x, need_weights=False, **gates)[0].square().sum(), x)[0] for attention in (stock, ours)]
    torch.testing.assert_close(*grads, rtol=0, atol=1e-11)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_causal_hint(options):
    stock, ours = pair(**OPTIONS[options])
    given = tokens(stock, BATCH)
    mask = torch.ones(QUERIES, SLOTS).triu(1).bool()
    expected, weights = stock(*given, attn_mask=mask)  # where slots are appended, torch's own hint also masks those
    for needed in (True, False):
        found, p = ours(*given, attn_mask=mask, is_causal=True, need_weights=needed)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert p is None or torch.allclose(p, weights, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="attn_mask"):
        ours(*given, is_causal=True)


def test_integers_are_masks_too():
    _, ours = pair()
    given, gates = tokens(ours, BATCH), masks(torch.float64)["both"]
    expected = ours(*given, **gates)
    for dtype in (torch.uint8, torch.int32, torch.int64):
        torch.testing.assert_close(ours(*given, **{name: mask.to(dtype) for name, mask in gates.items()}), expected)
    mixed = {"attn_mask": gates["attn_mask"], "key_padding_mask": torch.zeros(BATCH, SLOTS).masked_fill(gates["key_padding_mask"], -1e9)}
    torch.testing.assert_close(ours(*given, **mixed), expected)
    halves = {name: torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill(mask, -torch.inf) for name, mask in gates.items()}
    torch.testing.assert_close(ours(*given, **halves), expected)


def test_a_learned_mask_gets_its_gradient_even_where_it_is_zero():
    stock, ours = pair()
    given = tokens(stock, BATCH)
    for start in (torch.zeros(QUERIES, SLOTS), torch.randn(QUERIES, SLOTS)):
        mask = start.double().requires_grad_()
        right, found = (torch.autograd.grad(attention(*given, attn_mask=mask)[0].square().sum(), mask)[0] for attention in (stock, ours))
        assert right.abs().min() > 0
        torch.testing.assert_close(found, right, rtol=0, atol=1e-12)
        run = lambda attention: lambda m: attention(*given, attn_mask=m, need_weights=False)[0]
        tangent = torch.randn_like(start, dtype=torch.float64)
        expected = torch.func.jvp(lambda m: stock(*given, attn_mask=m)[0], (start.double(),), (tangent,))[1]
        torch.testing.assert_close(torch.func.jvp(run(ours), (start.double(),), (tangent,))[1], expected, rtol=0, atol=1e-12)


def test_only_differences_within_a_row_of_an_added_mask_count():
    stock, ours = pair()
    given, mask = tokens(stock, BATCH), torch.zeros(QUERIES, SLOTS, dtype=torch.float64)
    mask[1], mask[2, 2:], mask[3] = -900.0, -1e9, 800 + torch.arange(SLOTS)
    torch.testing.assert_close(ours(*given, attn_mask=mask), stock(*given, attn_mask=mask), rtol=0, atol=1e-12)


def test_a_query_without_slots_reads_zeros():
    _, ours = pair()
    given = tokens(ours, BATCH)
    everything = torch.ones(BATCH, SLOTS, dtype=torch.bool)
    for mask in (everything, torch.zeros(BATCH, SLOTS).masked_fill(everything, -torch.inf)):
        output, weights = ours(*given, key_padding_mask=mask)
        torch.testing.assert_close(output, ours.out_proj.bias.expand_as(output))
        assert weights.abs().max() == 0
    torch.autograd.grad(output.sum(), given[0])[0].isfinite().all()


ENERGIES = {
    "entmax": presets.entmax(1.5),
    "softmax1": presets.softmax1(0.5),
    "epanechnikov": presets.epanechnikov(0.05),
    "relu": presets.relu_feed_forward(0.01),
}


@pytest.mark.parametrize("descent", [FixedPoint(steps=1), FixedPoint(steps=3, tolerance=0.0)], ids=["one", "three"])
@pytest.mark.parametrize("name", ENERGIES)
def test_every_energy_reads_its_own_way(name, descent):
    energy, gates = ENERGIES[name], masks(torch.float64)["minus_infinity"]
    stock, _ = pair(batch_first=True)
    ours = MultiheadAttention.adopt(stock, energy, descent)
    given = tokens(ours, BATCH)
    q, k, v = (
        nn.functional.linear(x, w, b).view(BATCH, -1, HEADS, DIM // HEADS).transpose(1, 2)
        for x, w, b in zip(given, stock.in_proj_weight.chunk(3), stock.in_proj_bias.chunk(3), strict=True)
    )
    presence = ~(gates["attn_mask"].view(BATCH, HEADS, QUERIES, SLOTS).isinf() | gates["key_padding_mask"].isinf()[:, None, None])
    read = retrieve(energy, q, k, v, presence=presence, steps=descent.steps)
    output, weights = ours(*given, **gates, average_attn_weights=False)
    torch.testing.assert_close(output, stock.out_proj(read.transpose(1, 2).flatten(-2)), rtol=0, atol=1e-12)
    state = q if descent.steps == 1 else retrieve(energy, q, k, presence=presence, steps=descent.steps - 1)
    torch.testing.assert_close(weights, energy.weights(state, k, presence=presence), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.association(*given, **gates), weights)
    assert ours.energy(*given, **gates).shape == (BATCH, HEADS, QUERIES)
    assert ours.descended(*given, **gates).state.shape == (BATCH, HEADS, QUERIES, DIM // HEADS)


def test_what_an_energy_cannot_take_is_refused():
    x, mask = torch.randn(QUERIES, BATCH, DIM), torch.randn(QUERIES, QUERIES)
    with pytest.raises(ValueError, match="exact for F = exp"):
        MultiheadAttention(DIM, HEADS, presets.entmax())(x, x, x, attn_mask=mask)
    with pytest.raises(ValueError, match="at most 0"):
        MultiheadAttention(DIM, HEADS, presets.softmax1())(x, x, x, attn_mask=mask.abs())
    attention = MultiheadAttention(DIM, HEADS)
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2]))
    for wrong, error, message in [
        (dict(query=x[0, 0], key=x, value=x), ValueError, "query has shape"),
        (dict(query=x, key=x[..., :3], value=x), ValueError, "key has shape"),
        (dict(query=x[:, :1], key=x, value=x), ValueError, "share the batch"),
        (dict(query=x, key=x, value=x[1:]), ValueError, "share the batch"),
        (dict(query=packed, key=packed, value=packed), TypeError, "pad_packed_sequence"),
        (dict(query=x, key=x, value=x, attn_mask=mask[1:]), ValueError, "attn_mask has shape"),
        (dict(query=x, key=x, value=x, key_padding_mask=torch.zeros(1, 1)), ValueError, "one entry per slot"),
    ]:
        with pytest.raises(error, match=message):
            attention(**wrong)
    for wrong in [(0.1,), (presets.log_sum_exp(torch.ones(1)),), (None, 3)]:
        with pytest.raises(ValueError, match="A layer"):
            MultiheadAttention(DIM, HEADS, *wrong)
    with pytest.raises(ValueError, match="Linear"):
        MultiheadAttention.adopt(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="adopt takes one alone"):
        replace_attention_(nn.MultiheadAttention(DIM, HEADS))


def test_an_added_mask_of_softmax1_leaves_its_null_slot():
    _, ours = pair(batch_first=True)
    ours = MultiheadAttention.adopt(ours, presets.softmax1(0.5))
    given, mask = tokens(ours, BATCH), -torch.rand(QUERIES, SLOTS, dtype=torch.float64)
    zero = MultiheadAttention.adopt(ours, presets.log_sum_exp(0.5))
    zero.add_zero_attn = True
    torch.testing.assert_close(ours(*given, attn_mask=mask)[0], zero(*given, attn_mask=mask)[0], rtol=0, atol=1e-12)


# ---- inside torch's transformers


def stack(kind, **options):
    torch.manual_seed(1)
    layer = dict(dim_feedforward=16, dropout=0.0, batch_first=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says where its fused path is not available
        if kind == "encoder":
            return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, **layer), 2)
        if kind == "decoder":
            return nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, **layer), 2)
        return nn.Transformer(8, 2, 1, 1, **layer)


def run(kind, model, source, target, **masks):
    if kind == "encoder":
        return model(source, src_key_padding_mask=masks["padding"], mask=masks.get("mask"))
    if kind == "decoder":
        return model(target, source, memory_key_padding_mask=masks["padding"], tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.shape[1]))
    return model(source, target, src_key_padding_mask=masks["padding"], memory_key_padding_mask=masks["padding"])


@pytest.fixture
def calls(monkeypatch):
    """How often our attention was called."""
    counted, forward = [], MultiheadAttention.forward
    monkeypatch.setattr(MultiheadAttention, "forward", lambda *a, **k: counted.append(1) or forward(*a, **k))
    return counted


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype:UserWarning")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", ["encoder", "decoder", "transformer"])
def test_stacks_give_the_same_trained_and_evaluated_with_and_without_gradients(kind, norm_first, calls):
    stock = stack(kind, norm_first=norm_first)
    ours = copy.deepcopy(stock)
    report = replace_attention_(ours)
    source, target = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    padding = torch.arange(5) >= torch.tensor([[5], [3], [1]])
    assert list(ours.state_dict()) == list(stock.state_dict())
    for train in (True, False):
        for grad in (True, False):
            stock.train(train), ours.train(train), calls.clear()
            with torch.set_grad_enabled(grad):
                expected, found = (run(kind, model, source, target, padding=padding) for model in (stock, ours))
            assert len(calls) == len(report.replaced)  # nothing passes us by
            seen = ~padding if kind == "encoder" else torch.ones(target.shape[:2], dtype=torch.bool)
            torch.testing.assert_close(found[seen], expected[seen], rtol=0, atol=2e-6)
    report.undo()
    assert not any(isinstance(part, MultiheadAttention) for part in ours.modules())
    assert all(part.use_nested_tensor == (not norm_first) for part in ours.modules() if isinstance(part, nn.TransformerEncoder))


@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype:UserWarning")
def test_an_encoder_built_from_our_layer_may_hand_over_nested_tensors(calls):
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
    stock = nn.TransformerEncoder(layer, 2).eval()
    replace_attention_(layer)
    ours = nn.TransformerEncoder(layer, 2).eval()
    ours.load_state_dict(stock.state_dict())
    source, padding = torch.randn(3, 5, 8), torch.arange(5) >= torch.tensor([[5], [3], [1]])
    assert ours.use_nested_tensor
    with torch.no_grad():
        torch.testing.assert_close(ours(source, src_key_padding_mask=padding), stock(source, src_key_padding_mask=padding), rtol=0, atol=2e-6)
    assert len(calls) > 2
    attention = ours.layers[0].self_attn
    nested = torch.nested.as_nested_tensor([source[0], source[1, :3]])
    with pytest.raises(ValueError, match="without masks"):
        attention(nested, nested, nested)


def test_another_energy_in_an_encoder_is_never_passed_by(calls):
    model = stack("encoder").eval()
    source, padding = torch.randn(2, 5, 8), torch.arange(5) >= torch.tensor([[5], [3]])
    before = run("encoder", model, source, None, padding=padding)
    report = replace_attention_(model, presets.entmax(2.0, beta=3.0), FixedPoint(steps=3, tolerance=0.0))
    with_grad = run("encoder", model, source, None, padding=padding)
    with torch.no_grad():
        without = run("encoder", model, source, None, padding=padding)
    torch.testing.assert_close(with_grad, without)
    assert len(calls) == 4 and (with_grad - before)[~padding].abs().max() > 1e-2
    for part in (run("encoder", reloaded, source, None, padding=padding) for reloaded in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))):
        torch.testing.assert_close(part, with_grad)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    torch.testing.assert_close(run("encoder", torch.load(file, weights_only=False), source, None, padding=padding), with_grad)
    report.undo()
    torch.testing.assert_close(run("encoder", model, source, None, padding=padding)[~padding], before[~padding])


class Counting(nn.MultiheadAttention):
    """Someone's subclass."""


def test_the_report_says_what_was_left_and_shared_modules_stay_shared():
    shared = nn.MultiheadAttention(8, 2)
    model = nn.ModuleDict({"one": shared, "two": nn.Sequential(shared, Counting(8, 2))})
    report = replace_attention_(model, presets.entmax())
    assert list(report.replaced) == ["one", "two.0"] and list(report.skipped) == ["two.1"]
    assert model["one"] is model["two"][0] and model["one"].in_proj_weight is shared.in_proj_weight
    assert "replaced: 2" in str(report) and "skipped: 1" in str(report) and "MultiheadAttention" in str(report)
    model["one"].load_state_dict({name: torch.ones_like(held) for name, held in shared.state_dict().items()}, assign=True)
    again = replace_attention_(model, presets.sparsemax())  # ours again, with another energy
    assert model["one"].given == presets.sparsemax() and len(model["one"]._forward_pre_hooks) == 1
    with pytest.raises(ValueError, match="Undo what came later first"):
        report.undo()
    model.eval()
    again.undo()
    assert model["one"].given == presets.entmax()
    report.undo()
    assert model["one"] is model["two"][0] is shared and not shared.training and shared.in_proj_weight.eq(1).all()


# ---- PyTorch's own tools


@pytest.mark.parametrize("options, energy", [("batch_first", None), ("appended", presets.epanechnikov(0.1))])
def test_compiles_in_one_graph(options, energy):
    torch.compiler.reset()
    attention = MultiheadAttention(DIM, HEADS, energy, **OPTIONS[options])
    given, gates = tokens(attention, BATCH), masks(torch.float32)["both"]
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for kind in (gates, {"attn_mask": torch.zeros(QUERIES, SLOTS).masked_fill(gates["attn_mask"], -torch.inf)}):
        expected, found = (module(*given, **kind) for module in (attention, compiled))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        grads = [torch.autograd.grad(out[0].square().sum(), [given[0], *attention.parameters()]) for out in (found, expected)]
        torch.testing.assert_close(*grads, rtol=0, atol=1e-4)


def test_exports():
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1).eval()
    replace_attention_(model)
    x, padding = torch.randn(2, 5, 8), torch.arange(5) >= torch.tensor([[5], [3]])
    program = torch.export.export(model, (x,), {"src_key_padding_mask": padding})
    torch.testing.assert_close(program.module()(x, src_key_padding_mask=padding), model(x, src_key_padding_mask=padding))


def test_autocast_rounds_as_torch_does():
    stock, ours = pair(torch.float32)
    given = tokens(stock, BATCH)
    with torch.autocast("cpu", torch.bfloat16):
        (expected, _), (found, _) = stock(*given), ours(*given)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    half = copy.deepcopy(ours).to(torch.bfloat16)
    assert half(*[x.bfloat16() for x in given])[0].dtype == torch.bfloat16


@pytest.mark.parametrize("mask", ["none", "both", "added"])
def test_vmap_over_models_and_inputs(mask):
    models = [pair(batch_first=True)[1] for _ in range(3)]
    given = [torch.randn(3, BATCH, length, DIM, dtype=torch.float64) for length in (QUERIES, SLOTS, SLOTS)]
    gates = masks(torch.float64)[mask]
    stacked, _ = torch.func.stack_module_state(models)
    base = copy.deepcopy(models[0])
    call = lambda weights, *x: torch.func.functional_call(base, weights, x, gates | {"need_weights": False})[0]
    found = torch.vmap(call)(stacked, *given)
    expected = torch.stack([model(*x, **gates)[0] for model, x in zip(models, zip(*given, strict=True), strict=True)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_dropout_is_right_on_average_and_off_in_evaluation():
    _, ours = pair(dropout=0.3)
    given = tokens(ours, 1)
    with torch.no_grad():
        evaluated = ours.eval()(*given, need_weights=False)[0]
        ours.train()
        many = torch.stack([ours(*given, need_weights=False)[0] for _ in range(400)])
    assert many.std(0).min() > 0
    assert ((many.mean(0) - evaluated).abs() < 5 * many.std(0) / 20).all()


def test_gradients_of_first_and_second_order():
    _, ours = pair(batch_first=True)
    given = tokens(ours, 1)
    assert torch.autograd.gradcheck(lambda *x: ours(*x)[0], given)
    x = [part[:, :2].detach().requires_grad_() for part in given]
    assert torch.autograd.gradgradcheck(lambda *y: ours(*y, need_weights=False)[0], x)


def test_any_descent_moves_the_queries():
    _, ours = pair(batch_first=True)
    step, given = 2 * torch.pi / 10, tokens(ours, BATCH)
    slow = MultiheadAttention.adopt(ours, ours.given, GradientDescent(step, steps=200, tolerance=1e-12))
    fast = MultiheadAttention.adopt(ours, ours.given, FixedPoint(steps=200, tolerance=1e-12))
    torch.testing.assert_close(slow(*given)[0], fast(*given)[0], rtol=0, atol=1e-6)
