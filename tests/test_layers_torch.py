"""Layers are citizens of torch: what compiles, exports, maps, casts, copies and initialises modules works on them, and sees the same numbers."""

import copy
import importlib
import math
import pickle

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import functional_call, grad, jvp, stack_module_state, vmap
from torch.utils.checkpoint import checkpoint

from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent
from hopfield_amem.layers import HopfieldAttention, HopfieldLookup, HopfieldPooling, LookupAttention, MemoryMixer, Wiring

close = torch.testing.assert_close
EVERYTHING = Wiring(memories=2, rotary=1e4, norms=("query", "keys", "values", "space"), dropout=0.2)
LAYERS = {
    "attention": lambda **made: HopfieldAttention(16, 4, **made),
    "wired": lambda **made: HopfieldAttention(16, 4, wiring=EVERYTHING, **made),
    "three steps": lambda **made: HopfieldAttention(16, 4, presets.softmax1(), FixedPoint(steps=3, tolerance=0.0), **made),
    "until it rests": lambda **made: HopfieldAttention(16, 4, None, FixedPoint(steps=3), wiring=Wiring(connected=True), **made),
    "gradient descent": lambda **made: HopfieldAttention(16, 4, None, GradientDescent(steps=2, tolerance=0.0), **made),
    "pooling": lambda **made: HopfieldPooling(16, 4, presets.entmax(), queries=3, **made),
    "lookup attention": lambda **made: LookupAttention(16, 4, presets.distance(0.1), slots=9, **made),
    "lookup": lambda **made: HopfieldLookup(16, 9, presets.epanechnikov(0.02), values=5, **made),
    "settling lookup": lambda **made: HopfieldLookup(16, 9, presets.distance(), FixedPoint(steps=2), **made),
    "mixer": lambda **made: MemoryMixer(16, 4, presets.gated_delta_net(), **made),
}
SOME = ["attention", "wired", "pooling", "lookup"]  # for what takes seconds


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()


@pytest.fixture(params=["in full", "streamed"])
def scores(request, monkeypatch):
    """Both paths of a read, whatever its size."""
    if request.param == "streamed":
        monkeypatch.setattr(importlib.import_module("hopfield_amem.kernels.explain"), "SMALL", -1)


def made(name, **options):
    return LAYERS[name](**{"dtype": torch.float64} | options).eval()


def tokens(length=7, dtype=torch.float64):
    return torch.randn(2, length, 16, dtype=dtype)


def read(layer, x):
    found = layer(x)
    return found[0] if isinstance(found, tuple) else found


def gradients(layer, output):
    return torch.autograd.grad(output.square().sum(), list(layer.parameters()), materialize_grads=True)


@pytest.mark.parametrize("name", LAYERS)
def test_compiles_as_one_graph_with_and_without_gradients(name):
    layer, x = made(name), tokens()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        close(read(compiled, x), read(layer, x))
    close(gradients(layer, read(compiled, x)), gradients(layer, read(layer, x)))


@pytest.mark.parametrize("name", SOME)
def test_one_graph_serves_every_length(name):
    layer, counter = made(name), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, backend=counter, dynamic=True)
    graphs = set()
    for length in (7, 12, 150):
        x = tokens(length)
        close(gradients(layer, read(compiled, x)), gradients(layer, read(layer, x)))
        graphs.add(counter.frame_count)
    assert len(graphs) == 1


def test_what_is_seen_may_be_compiled():
    layer, x = made("wired"), tokens()
    for view in (layer.energy, layer.association):
        close(torch.compile(view, fullgraph=True, backend="aot_eager")(x, causal=3), view(x, causal=3))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch looks at it where a graph breaks
@pytest.mark.parametrize("descent", [Flow(time=1.0, method="euler", options={"options": {"step_size": 0.5}}), FixedPoint(steps=8, gradient="implicit")])
def test_what_looks_at_values_breaks_the_graph_and_no_more(descent):
    """Few steps, all of which a graph unrolls, and enough to rest."""
    layer, x = HopfieldAttention(16, 4, presets.log_sum_exp(0.03), descent, dtype=torch.float64), tokens()
    close(gradients(layer, torch.compile(layer, backend="aot_eager")(x)), gradients(layer, layer(x)))


@pytest.mark.parametrize("name, strict", [*((name, False) for name in LAYERS), *((name, True) for name in SOME)])
def test_exports_for_every_length(name, strict):
    layer = made(name)
    # a mixer unrolls its chunks: its graphs have one length
    length = None if name == "mixer" else ({1: torch.export.Dim("length", min=2)},)
    with torch.no_grad():
        program = torch.export.export(layer, (tokens(),), dynamic_shapes=length, strict=strict)
        for x in (tokens(), *([] if length is None else [tokens(2), tokens(150)])):
            close(read(program.module(), x), read(layer, x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LAYERS)
def test_half_types_round_as_float32_does(name, dtype, scores):
    """Autocast, and parameters of a half type, against the same rounded weights in float32."""
    layer, x = made(name, dtype=torch.float32), tokens(dtype=torch.float32)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter.to(dtype))
    x = x.to(dtype).float()
    truth = read(layer, x)
    with torch.autocast("cpu", dtype):
        mixed = read(layer, x)
    halved = read(copy.deepcopy(layer).to(dtype), x.to(dtype))
    assert mixed.dtype == halved.dtype == dtype
    for mine in (mixed, halved):
        assert (mine - truth).abs().max() <= 8 * torch.finfo(dtype).eps * truth.abs().max()
    assert all(grad.isfinite().all() for grad in gradients(layer, mixed.float()))


@pytest.mark.parametrize("name", LAYERS)
def test_maps_tangents_and_ensembles(name, scores):
    x, members = tokens(), [made(name) for _ in range(3)]
    along = torch.randn_like(x)
    _, moved = jvp(lambda given: read(members[0], given).square().sum(), (x,), (along,))
    close(moved, (grad(lambda given: read(members[0], given).square().sum())(x) * along).sum())
    close(vmap(lambda row: read(members[0], row.unsqueeze(0)).squeeze(0))(x), read(members[0], x))
    parameters, buffers = stack_module_state(members)
    skeleton = copy.deepcopy(members[0]).to("meta")

    def loss(parameters, buffers, x):
        return read(lambda given: functional_call(skeleton, (parameters, buffers), (given,)), x).square().sum()

    close(vmap(loss, (0, 0, None))(parameters, buffers, x), torch.stack([read(layer, x).square().sum() for layer in members]))
    steps = vmap(grad(loss), (0, 0, None))(parameters, buffers, x)
    for k, layer in enumerate(members):
        close([steps[name][k] for name, _ in layer.named_parameters()], list(gradients(layer, read(layer, x))))


@pytest.mark.parametrize("name", LAYERS)
def test_copies_pickles_and_reloads(name):
    layer, x = made(name), tokens()
    fresh = made(name)
    assert not torch.equal(read(fresh, x), read(layer, x))
    fresh.load_state_dict(layer.state_dict())
    for twin in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(read(twin, x), read(layer, x)) and repr(twin) == repr(layer)
    assert set(layer.state_dict()) == {name for name, _ in layer.named_parameters()}
    close(read(layer.float(), x.float()), read(fresh, x).float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_made_on_meta_and_filled_later(name):
    with torch.device("meta"):
        layer = made(name)
    assert all(part.is_meta for part in (*layer.parameters(), *made(name, device="meta").parameters(), read(layer, tokens().to("meta"))))
    assert read(layer, tokens().to("meta")).shape == read(made(name), tokens()).shape
    layer = layer.to_empty(device="cpu")
    drawn = []
    for _ in range(2):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.fill_(math.nan)
        torch.manual_seed(1)
        layer.reset_parameters()
        drawn.append([parameter.detach().clone() for parameter in layer.parameters()])
    close(*drawn, rtol=0, atol=0)
    for filled, fresh in zip(layer.parameters(), made(name).parameters(), strict=True):  # one distribution, whoever draws from it
        close((filled.mean(), filled.std(correction=0)), (fresh.mean(), fresh.std(correction=0)), rtol=0.5, atol=0.3)


@pytest.mark.parametrize("name", LAYERS)
def test_checkpoints_its_activations(name, scores):
    layer, x = made(name), tokens()
    close(gradients(layer, read(lambda given: checkpoint(layer, given, use_reentrant=False), x)), gradients(layer, read(layer, x)))


def test_dropout_is_drawn_again_as_it_was_in_a_checkpoint(scores):
    layer, x = made("wired").train(), tokens()
    torch.manual_seed(3)
    plain = gradients(layer, layer(x))
    torch.manual_seed(3)
    close(gradients(layer, checkpoint(layer, x, use_reentrant=False)), plain)


@pytest.mark.parametrize("name", LAYERS)
def test_views_and_expanded_tokens(name, scores):
    layer, x = made(name), tokens()
    close(read(layer, x.mT.contiguous().mT), read(layer, x))
    close(read(layer, x[:1].expand(5, -1, -1)), read(layer, x[:1].repeat(5, 1, 1)))
    close(read(layer, torch.cat([x, x], -1)[..., :16]), read(layer, x))


def test_prints_its_energy_and_what_is_not_default():
    plain, wired = str(LAYERS["attention"]()), str(LAYERS["wired"]())
    assert "log Σ_μ exp" in plain and "Wiring" not in plain and "norm" not in plain
    assert "memories=2" in wired and "dropout=0.2" in wired and "(norm_keys): LayerNorm" in wired and "static" not in wired
    for name, make in LAYERS.items():
        assert "E(x) =" in repr(make()) and len(repr(make()).splitlines()) < 14, name
    assert "slots=9" in repr(LAYERS["lookup"]()) and "queries=3" in repr(LAYERS["pooling"]())
