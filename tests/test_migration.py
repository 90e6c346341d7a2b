"""Trained modules of hopfield-layers, converted: the same numbers where theirs are right, and what was meant where they are not.

difflayers publishes hopfield-layers under another name, with the same classes and parameters.
"""

import copy
import inspect
import pickle
import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import hopfield_amem
from hopfield_amem import presets
from hopfield_amem.descent import FixedPoint
from hopfield_amem.layers import HopfieldAttention, HopfieldPooling, LookupAttention, Wiring, from_hopfield_layers

peer = pytest.importorskip("difflayers")
BATCH, QUERIES, SLOTS, DIM = 3, 5, 7, 12
BARE = {f"normalize_{name}{affine}": False for name in ("stored_pattern", "state_pattern", "pattern_projection") for affine in ("", "_affine")}
STATIC = {f"{name}_as_static": True for name in ("stored_pattern", "state_pattern", "pattern_projection")}
CASES = {
    "default": {},
    "heads": {"num_heads": 4},
    "widths": {"num_heads": 2, "hidden_size": 5, "pattern_size": 6, "output_size": 9},
    "sources": {"num_heads": 2, "stored_pattern_size": 10, "pattern_projection_size": 11},
    "scaling": {"num_heads": 3, "scaling": 0.7},
    "scaling_per_head": {"num_heads": 1, "scaling": torch.tensor([0.7])},
    "no_norms": {"num_heads": 2, **BARE},
    "fixed_norms": {"normalize_stored_pattern_affine": False, "normalize_state_pattern_affine": False, "normalize_pattern_projection_affine": False},
    "offsets": {f"normalize_{name}_eps": 0.1 for name in ("stored_pattern", "state_pattern", "pattern_projection")},
    "space": {"num_heads": 2, "hidden_size": 4, "normalize_hopfield_space": True, "normalize_hopfield_space_eps": 1e-3},
    "space_affine": {"num_heads": 2, "hidden_size": 4, "normalize_hopfield_space": True, "normalize_hopfield_space_affine": True},
    "connected": {"num_heads": 2, "pattern_projection_as_connected": True},
    "connected_widths": {
        "num_heads": 2, "hidden_size": 5, "pattern_projection_as_connected": True, "stored_pattern_size": 10, "pattern_projection_size": 10, "output_size": 4,
    },
    "zero": {"num_heads": 2, "add_zero_association": True},
    "zero_space": {"num_heads": 2, "hidden_size": 4, "add_zero_association": True, "normalize_hopfield_space": True},
    "no_bias": {"num_heads": 2, "input_bias": False},
    "no_bias_widths": {"num_heads": 2, "input_bias": False, "pattern_size": 6},
    "no_output": {"num_heads": 2, "disable_out_projection": True, "pattern_size": 3},
    "activation": {"num_heads": 2, "association_activation": "relu"},
    "dropout": {"num_heads": 2, "dropout": 0.5},
    "static_query": {"state_pattern_as_static": True},
    "static_keys": {"stored_pattern_as_static": True},
    "static_values": {"pattern_projection_as_static": True},
    "static_memory": {"stored_pattern_as_static": True, "pattern_projection_as_static": True, "pattern_size": 12},
    "static_pair": {"stored_pattern_as_static": True, "state_pattern_as_static": True, "hidden_size": 12},
    "static_connected": {"stored_pattern_as_static": True, "pattern_projection_as_connected": True},
    "static_and_connected": {"pattern_projection_as_static": True, "pattern_projection_as_connected": True},
    "all_static": {**STATIC, **BARE, "disable_out_projection": True},
    "all_static_output": {**STATIC, **BARE},
    "all_static_normed": {**STATIC, "disable_out_projection": True},
}  # fmt: skip


def trained(kind, dtype=torch.float64, **options):
    """A module of the peer with parameters that training might have left."""
    torch.manual_seed(0)
    module = getattr(peer, kind)(**{"input_size": DIM, "update_steps_eps": 1e-30} | options)
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.5)
    return module.to(dtype).eval()


def inputs(module, batch=BATCH, dtype=torch.float64):
    """Stored pattern, state pattern and pattern projection as wide as the module takes them."""
    core = module.association_core
    width = lambda static, one, tokens: DIM if tokens is None else one if static else tokens
    widths = (
        width(core.key_as_static, core.head_dim, core.kdim), width(core.query_as_static, core.head_dim, core.embed_dim),
        width(core.value_as_static and not core.value_as_connected, core.pattern_dim, core.vdim),
    )  # fmt: skip
    lengths = (SLOTS, QUERIES, SLOTS)
    return tuple(torch.randn(batch, length, w, dtype=dtype, requires_grad=True) for length, w in zip(lengths, widths, strict=True))


def masks(batch=BATCH):
    padding, pairs = torch.zeros(batch, SLOTS, dtype=torch.bool), torch.rand(QUERIES, SLOTS) < 0.4
    padding[-1, 4:], pairs[:, 0] = True, False
    return {"none": (None, None), "padding": (padding, None), "pairs": (None, pairs), "both": (padding, pairs)}


def presence(padding, pairs):
    """Their masks are True where a slot is missing."""
    found = None if padding is None else ~padding[:, None, :]
    return found if pairs is None else ~pairs.expand(1, -1, -1) if found is None else found & ~pairs


def agree(module, layer, given, gates, tolerance):
    stored, state, projection = given
    padding, pairs = gates
    expected = module((stored, state, projection), stored_pattern_padding_mask=padding, association_mask=pairs)
    found = layer(state, stored, projection, presence=presence(padding, pairs))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    matrix = module.get_association_matrix((stored, state, projection), stored_pattern_padding_mask=padding, association_mask=pairs)
    p = layer.association(state, stored, projection, presence=presence(padding, pairs))
    torch.testing.assert_close(p, matrix[..., :SLOTS], rtol=0, atol=tolerance)
    along = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, given, along, allow_unused=True)
    torch.testing.assert_close(torch.autograd.grad(found, given, along, allow_unused=True), wanted, rtol=0, atol=100 * tolerance)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("case", CASES)
def test_converted_attention_gives_the_same(case, steps):
    module = trained("Hopfield", update_steps_max=steps, **CASES[case])
    layer = from_hopfield_layers(module, dim=DIM if case.startswith("all_static") else None)
    assert isinstance(layer, HopfieldAttention)
    for gates in masks().values():
        agree(module, layer, inputs(module), gates, 1e-12)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("case", CASES)
def test_in_single_precision(case, steps):
    module = trained("Hopfield", torch.float32, update_steps_max=steps, **CASES[case])
    layer = from_hopfield_layers(module, dim=DIM if case.startswith("all_static") else None)
    stored, state, projection = inputs(module, dtype=torch.float32)
    torch.testing.assert_close(layer(state, stored, projection), module((stored, state, projection)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["default", "heads", "connected", "zero", "no_output", "all_static"])
def test_self_association_of_one_tensor(case):
    module = trained("Hopfield", update_steps_max=2, **CASES[case])
    layer = from_hopfield_layers(module, dim=DIM)
    x, padding = inputs(module)[0], masks()["padding"][0]
    found = layer(x, presence=~padding)
    torch.testing.assert_close(found, module(x, stored_pattern_padding_mask=padding), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer(x), module(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", ["default", "heads", "widths", "space_affine", "connected_widths", "no_output", "static_query"])
def test_every_parameter_gets_the_gradient_it_had(case):
    module = trained("Hopfield", update_steps_max=1, **CASES[case])
    layer = from_hopfield_layers(module)
    stored, state, projection = inputs(module)
    module((stored, state, projection)).square().sum().backward()
    layer(state, stored, projection).square().sum().backward()
    sizes = [sorted(float(p.grad.square().sum()) for p in part.parameters() if p.grad is not None) for part in (module, layer)]
    assert sum(sizes[0]) == pytest.approx(sum(sizes[1]), rel=1e-10)  # theirs packs what ours tells apart
    assert sum(p.numel() for p in module.parameters()) == sum(p.numel() for p in layer.parameters()) - layer.heads
    assert layer.log_beta.grad is None


STATIC_HEADS = {
    "query": {"state_pattern_as_static": True}, "keys": {"stored_pattern_as_static": True}, "values": {"pattern_projection_as_static": True, **BARE},
    "query_and_keys": {"state_pattern_as_static": True, "stored_pattern_as_static": True},
    "keys_and_values": {"stored_pattern_as_static": True, "pattern_projection_as_static": True, "disable_out_projection": True, **BARE},
    "split": {"stored_pattern_as_static": True, "pattern_projection_as_static": True, "disable_out_projection": True, "pattern_size": DIM, **BARE},
    "all": {**STATIC, **BARE, "disable_out_projection": True, "scaling": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("case", STATIC_HEADS)
def test_static_inputs_with_several_heads_do_not_mix_the_batch(case, steps):
    options = {"hidden_size": DIM} if case not in ("values", "all") else {}
    module = trained("Hopfield", num_heads=2, update_steps_max=steps, **options, **STATIC_HEADS[case])
    with pytest.warns(UserWarning, match="mixes the samples"):
        layer = from_hopfield_layers(module, dim=DIM if case == "all" else None).double()
    given = inputs(module)
    alone = [[part[i : i + 1] for part in given] for i in range(BATCH)]
    right = torch.cat([module(tuple(part)) for part in alone])  # theirs is right for one sample
    found = layer(given[1], given[0], given[2])
    torch.testing.assert_close(found, right, rtol=0, atol=1e-7 if case == "all" else 1e-12)  # nothing there says that it is double
    torch.testing.assert_close(found, torch.cat([layer(state, stored, shown) for stored, state, shown in alone]), rtol=0, atol=1e-12)
    assert (module(given) - right).abs().max() > 1e-2


def test_a_scaling_per_head_is_applied_per_head():
    scaling = torch.tensor([0.2, 0.9, 3.0])
    module = trained("Hopfield", num_heads=3, scaling=scaling, **BARE)
    with pytest.warns(UserWarning, match="per head"):
        layer = from_hopfield_layers(module)
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    q, k = (projection(x).view(2, 5, 3, DIM // 3).transpose(1, 2) for projection in (layer.query, layer.keys))
    by_hand = torch.softmax(scaling.double().view(3, 1, 1) * (q @ k.mT), -1)
    torch.testing.assert_close(layer.association(x), by_hand, rtol=0, atol=1e-12)
    assert (module.get_association_matrix(x) - by_hand).abs().max() > 0.1
    one = from_hopfield_layers(trained("Hopfield", num_heads=3, scaling=torch.full((3,), 0.4)))  # the same for all: no difference, no warning
    torch.testing.assert_close(one(x), trained("Hopfield", num_heads=3, scaling=0.4)(x), rtol=0, atol=1e-7)


def test_what_has_no_effect_or_no_end_is_said():
    with pytest.warns(UserWarning, match="concat_bias_pattern has no effect"):
        layer = from_hopfield_layers(module := trained("Hopfield", num_heads=2, concat_bias_pattern=True))
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    torch.testing.assert_close(layer(x), module(x), rtol=0, atol=1e-12)
    with pytest.warns(UserWarning, match="no end"):
        endless = from_hopfield_layers(module := trained("Hopfield", update_steps_max=None, update_steps_eps=1e-10, scaling=0.05))
    assert endless.descent == FixedPoint(tolerance=1e-10)
    torch.testing.assert_close(endless(x), module(x), rtol=0, atol=1e-7)
    with pytest.warns(UserWarning, match="transpose"):
        turned = from_hopfield_layers(module := trained("Hopfield", batch_first=False))
    torch.testing.assert_close(turned(x), module(x.transpose(0, 1)).transpose(0, 1), rtol=0, atol=1e-12)


def test_queries_stop_for_themselves():
    module = trained("Hopfield", update_steps_max=30, update_steps_eps=1e-1, scaling=0.3)
    layer = from_hopfield_layers(module)
    layer.descent = FixedPoint(steps=31, tolerance=1e-1)
    x = torch.randn(4, 6, DIM, dtype=torch.float64)
    x[0] *= 0.01
    torch.testing.assert_close(layer(x), torch.cat([layer(row[None]) for row in x]), rtol=0, atol=1e-12)
    assert (module(x) - torch.cat([module(row[None]) for row in x])).abs().max() > 1e-6


def test_steps_per_head():
    module = trained("Hopfield", num_heads=2, update_steps_max=torch.tensor([2, 2]))
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    torch.testing.assert_close(from_hopfield_layers(module)(x), module(x), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="same number of steps"):
        from_hopfield_layers(trained("Hopfield", num_heads=2, update_steps_max=torch.tensor([0, 2])))


@pytest.mark.parametrize("quantity", [1, 4])
@pytest.mark.parametrize("case", ["heads", "widths", "connected", "zero", "static_query", "static_memory", "all_static"])
def test_converted_pooling_gives_the_same(case, quantity):
    module = trained("HopfieldPooling", quantity=quantity, trainable=case != "heads", update_steps_max=1, **CASES[case])
    layer = from_hopfield_layers(module)
    assert isinstance(layer, HopfieldPooling) and layer.seeds.requires_grad is module.pooling_weights.requires_grad
    stored, _, projection = inputs(module.hopfield)
    padding = masks()["padding"][0]
    for values in (projection, stored) if stored.shape == projection.shape else (projection,):
        given = (stored, values)
        torch.testing.assert_close(layer(stored, values).flatten(1), module(given), rtol=0, atol=1e-12)
        found = layer(stored, values, presence=~padding)
        torch.testing.assert_close(found.flatten(1), module(given, stored_pattern_padding_mask=padding), rtol=0, atol=1e-12)
        torch.testing.assert_close(layer.association(stored, values), module.get_association_matrix(given)[..., :SLOTS], rtol=0, atol=1e-12)
    turned = trained("HopfieldPooling", quantity=quantity, batch_first=False, num_heads=2)
    with pytest.warns(UserWarning, match="transpose"):
        assert torch.equal(from_hopfield_layers(turned).seeds, turned.pooling_weights.squeeze(1))


LOOKUPS = ["heads", "widths", "connected", "connected_widths", "zero", "static_query", "static_keys", "static_values", "static_memory", "all_static"]


@pytest.mark.parametrize("case, separated", [*((case, own) for case in LOOKUPS for own in (False, True)), ("sources", True)])
def test_converted_lookup_gives_the_same(case, separated):
    options = {"lookup_weights_as_separated": separated, "lookup_targets_as_trainable": case != "heads", "quantity": SLOTS}
    module = trained("HopfieldLayer", update_steps_max=1, **options, **CASES[case])
    layer = from_hopfield_layers(module)
    assert isinstance(layer, LookupAttention) and layer.stored.shape[0] == SLOTS
    assert (layer.targets is not None) is separated
    assert not separated or layer.targets.requires_grad is (case != "heads")
    state = inputs(module.hopfield)[1]
    for padding, pairs in masks().values():
        there = presence(padding, pairs)
        expected = module(state, stored_pattern_padding_mask=padding, association_mask=pairs)
        torch.testing.assert_close(layer(state, presence=there), expected, rtol=0, atol=1e-12)
        matrix = module.get_association_matrix(state, stored_pattern_padding_mask=padding, association_mask=pairs)
        torch.testing.assert_close(layer.association(state, presence=there), matrix[..., :SLOTS], rtol=0, atol=1e-12)


def test_an_added_mask_becomes_a_presence():
    module = trained("Hopfield", num_heads=2, update_steps_max=1)
    x, mask = torch.randn(2, 5, DIM, dtype=torch.float64), torch.randn(5, 5, dtype=torch.float64)
    there = (mask - mask.amax(-1, keepdim=True)).exp()
    torch.testing.assert_close(from_hopfield_layers(module)(x, presence=there.expand(2, 5, 5)), module(x, association_mask=mask), rtol=0, atol=1e-12)


def test_the_attention_of_their_encoder_and_decoder_layers():
    transformer = pytest.importorskip("difflayers.transformer")
    torch.manual_seed(0)
    encoder = transformer.HopfieldEncoderLayer(trained("Hopfield", num_heads=2), 8).double().eval()
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    attention = from_hopfield_layers(encoder.hopfield_association)
    x_read = encoder.norm_residual(x + attention(x))
    found = encoder.norm_output(x_read + encoder.linear_output(encoder.activation_residual(encoder.linear_residual(x_read))))
    torch.testing.assert_close(found, encoder(x), rtol=0, atol=1e-12)
    decoder = transformer.HopfieldDecoderLayer(trained("Hopfield"), trained("Hopfield"))
    with pytest.raises(ValueError, match=r"module\.hopfield_association_self.*module\.hopfield_association_cross"):
        from_hopfield_layers(decoder)


def test_refusals():
    for wrong in (nn.Linear(3, 3), peer.DiffusedHopfield(input_size=4), HopfieldAttention(4, 2)):
        with pytest.raises(ValueError, match="takes a Hopfield"):
            from_hopfield_layers(wrong)
    with pytest.raises(ValueError, match="positive"):
        from_hopfield_layers(trained("Hopfield", scaling=-1.0))
    with pytest.raises(ValueError, match="how wide"):
        from_hopfield_layers(trained("Hopfield", **CASES["all_static"]))


def test_a_converted_layer_is_a_module_like_any_other():
    module = trained("Hopfield", num_heads=2, association_activation="tanh", dropout=0.3, scaling=0.5).train()
    layer = from_hopfield_layers(module)
    assert layer.training and layer.wiring.dropout == 0.3 and not layer.log_beta.requires_grad
    assert next(module.parameters()).requires_grad and layer.query.weight.requires_grad
    x = torch.randn(2, 5, DIM, dtype=torch.float64)
    expected = layer.eval()(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), expected)
    assert "tanh" in repr(layer) and str(presets.log_sum_exp(0.5)) in repr(layer)
    before = module.association_core.in_proj_weight.clone()
    with torch.no_grad():
        layer.query.weight.zero_()
    assert torch.equal(module.association_core.in_proj_weight, before)  # a copy


PAGE = Path(hopfield_amem.__file__).parents[1] / "docs" / "migration.md"


def test_the_page_names_every_argument_and_its_conversion_runs(monkeypatch):
    page = PAGE.read_text(encoding="utf-8")
    for kind in ("Hopfield", "HopfieldPooling", "HopfieldLayer"):
        missing = [name for name in inspect.signature(getattr(peer, kind)).parameters if f"| `{name}`" not in page]
        assert not missing, f"docs/migration.md does not say what becomes of {missing}"
    monkeypatch.setitem(sys.modules, "hflayers", peer)
    for block in re.findall(r"```py\n(.*?)```", page, re.DOTALL):
        exec(block, {"torch": torch, "padding": torch.arange(10) >= torch.tensor([[7], [10]])})


# ---- what the layers here do with the same choices, by hand


def test_connected_values_pass_the_projection_of_the_keys():
    wiring = Wiring(connected=True, sources=(6, None, 4), norms=("keys", "values"), head_dim=(3, 5))
    layer = HopfieldAttention(DIM, 2, wiring=wiring, dtype=torch.float64)
    x, stored, shown = (torch.randn(2, n, w, dtype=torch.float64) for n, w in ((4, DIM), (7, 6), (7, 6)))
    nn.init.normal_(layer.norm_values.weight)
    values = layer.values(layer.keys(layer.norm_values(shown))).view(2, 7, 2, 5).transpose(1, 2)
    expected = layer.output((layer.association(x, stored, shown) @ values).transpose(1, 2).flatten(-2))
    torch.testing.assert_close(layer(x, stored, shown), expected, rtol=0, atol=1e-12)


def test_static_tokens_as_wide_as_one_head_are_the_same_in_every_head():
    wiring = Wiring(static=("query", "keys", "values", "output"), head_dim=3, sources=(3, 6, None))
    layer = HopfieldAttention(3, 2, wiring=wiring)
    x, stored, shown = torch.randn(2, 4, 3), torch.randn(2, 7, 3), torch.randn(2, 7, 6)
    p = torch.softmax(x @ stored.mT / 3**0.5, -1)
    torch.testing.assert_close(layer.association(x, stored, shown), p[:, None].expand(2, 2, 4, 7))
    torch.testing.assert_close(layer(x, stored, shown), p @ shown)
    with pytest.raises(ValueError, match="as wide as one head"):
        HopfieldAttention(4, 2, wiring=Wiring(static=("query",), head_dim=3))


@pytest.mark.parametrize("own", [None, 5])
def test_lookup_attention_reads_its_slots(own):
    layer = LookupAttention(DIM, 2, presets.entmax(1.5), slots=9, wiring=Wiring(sources=(6, own, 4)))
    twin = HopfieldAttention(DIM, 2, presets.entmax(1.5), wiring=Wiring(sources=(6, own or 6, 4)))
    assert not twin.load_state_dict(layer.state_dict(), strict=False).missing_keys
    x, there = torch.randn(3, 5, DIM), torch.rand(9) < 0.6
    expected = twin(x, layer.stored, layer.targets)
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x, presence=there.expand(3, 9)), twin(x, layer.stored, layer.targets, presence=there.expand(3, 9)))
    assert layer.association(x).shape == (3, 2, 5, 9) and layer.energy(x).shape == (3, 2, 5) and layer.descended(x).steps.shape[-1] == 5
    layer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    torch.manual_seed(5)
    layer.reset_parameters()
    assert float(layer.stored.detach().std()) == pytest.approx(1, abs=0.4) and "slots=9" in repr(layer)
    with pytest.raises(ValueError, match="at least one slot"):
        LookupAttention(DIM, 2, slots=0)
