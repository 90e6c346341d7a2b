"""Feed-forward blocks of HuggingFace models as memories: nothing changes that was not asked for, and everything can be undone."""

import copy
import sys
import types

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("transformers")
import transformers as hf

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.energies import Activation, Dot, Gelu, RectifiedPower, Silu, Sum, gelu_tanh
from hopfield_amem.integrations.huggingface import FeedForwardMemory, hopfield_, own_activation
from hopfield_amem.layers.feedforward import HopfieldFFN

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
WORDS = SIZES | {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GROUPED = WORDS | {"num_key_value_heads": 1, "head_dim": 16}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 2}
MARKS = {"cls_token_id": 1, "sep_token_id": 2, "mlp_dropout": 0.2}

MODELS = {
    "GPT-2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT)),
    "Llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)),
    "Qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED)),
    "Gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED)),
    "Phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**WORDS)),
    "ViT": lambda: hf.ViTModel(hf.ViTConfig(**SIZES, image_size=8, patch_size=4)),
    "ModernBERT": lambda: hf.ModernBertModel(hf.ModernBertConfig(**WORDS, **MARKS)),
    "BERT": lambda: hf.BertModel(hf.BertConfig(**WORDS)),
}
BLOCKS = {
    "GPT-2": ("transformer.h.*.mlp", gelu_tanh),
    "Llama": ("model.layers.*.mlp", F.silu),
    "Qwen3": ("model.layers.*.mlp", F.silu),
    "Gemma2": ("model.layers.*.mlp", gelu_tanh),
    "Phi3": ("model.layers.*.mlp", F.silu),
    "ViT": ("layers.*.mlp", F.gelu),
    "ModernBERT": ("layers.*.mlp", F.gelu),
    "BERT": ("encoder.layer.*.intermediate", F.gelu),
}


def made(name):
    """A model whose weights are large enough for differences to show."""
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        parameter.data.mul_(3)
    return model


def output(model, rows=2):
    generator = torch.Generator().manual_seed(7)
    config = getattr(model, "config", None)
    if config.model_type == "vit":
        return model(pixel_values=torch.randn(rows, 3, 8, 8, generator=generator))[0]
    return model(input_ids=torch.randint(3, 50, (rows, 9), generator=generator))[0]


def close(ours, theirs, tolerance=1e-6):
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


class Adapted(nn.Module):
    """A low-rank adapter around a linear child, of whatever orientation."""

    def __init__(self, base):
        super().__init__()
        self.base, self.weight, self.bias = base, base.weight, base.bias
        self.in_features, self.out_features = getattr(base, "in_features", getattr(base, "nx", None)), getattr(base, "out_features", getattr(base, "nf", None))
        self.down, self.up = nn.Linear(self.in_features, 2, bias=False), nn.Linear(2, self.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))


class Counted(nn.Linear):
    """A linear layer of a class of its own, as quantised ones are, that counts its calls."""

    calls = 0

    def forward(self, x):
        Counted.calls += 1
        return F.linear(x, self.weight.round(decimals=1), self.bias)


class Block(nn.Module):
    """Feed-forward with names that nobody knows."""

    def __init__(self, taken=6, slots=10, given=6, gated=False):
        super().__init__()
        self.out = nn.Linear(slots, given)
        self.a, self.b = nn.Linear(taken, slots), nn.Linear(taken, slots) if gated else None
        self.bend = nn.SiLU()

    def forward(self, x):
        return self.out(self.bend(self.a(x)) * (1 if self.b is None else self.b(x)))


class Around(nn.Module):
    def __init__(self, *blocks):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x


# ---- the model's own activation: nothing changes


@pytest.mark.parametrize("name", MODELS)
def test_with_its_own_activation_a_model_is_unchanged(name):
    model = made(name)
    pattern, activation = BLOCKS[name]
    before, keys, parameters = output(model), list(model.state_dict()), {n: id(p) for n, p in model.named_parameters()}
    grads = torch.autograd.grad(before.square().mean(), list(model.parameters()), allow_unused=True)
    report = hopfield_(model, own_activation)
    after = output(model)
    close(after, before)
    assert list(model.state_dict()) == keys and {n: id(p) for n, p in model.named_parameters()} == parameters
    for ours, theirs in zip(torch.autograd.grad(after.square().mean(), list(model.parameters()), allow_unused=True), grads, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert (ours - theirs).abs().max() <= 2e-6 * max(float(g.abs().max()) for g in grads if g is not None)
    assert list(report.replaced) == [pattern.replace("*", str(layer)) for layer in range(2)] and not report.skipped
    probe = torch.linspace(-4, 4, 33)
    for memory in report.replaced.values():
        assert isinstance(memory, HopfieldFFN) and memory.slots == (128 if name == "GPT-2" else 48) and memory.dim == 32
        torch.testing.assert_close(memory.given.separation.slope(probe), activation(probe))
        assert memory.energy(torch.randn(5, 32)).shape == (5,) and memory.association(torch.randn(5, 32)).shape == (5, memory.slots)


@pytest.mark.parametrize("name", ["GPT-2", "ModernBERT", "BERT"])
def test_dropout_falls_on_the_same_numbers(name):
    model = made(name).train()
    torch.manual_seed(3)
    before = output(model)
    hopfield_(model, own_activation)
    torch.manual_seed(3)
    close(output(model), before)


@pytest.mark.parametrize("name", ["GPT-2", "Llama", "ModernBERT", "BERT"])
def test_what_is_saved_loads_as_the_stock_model(name, tmp_path):
    model = made(name)
    before = output(model)
    hopfield_(model, presets.entmax())
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(output(type(model).from_pretrained(tmp_path).eval()), before, rtol=0, atol=0)


def test_generation_is_the_same_token_for_token():
    model, start = made("GPT-2"), torch.randint(3, 50, (2, 4))
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, "attention_mask": torch.ones_like(start)}
    before = model.generate(start, **options)
    hopfield_(model, own_activation)
    assert torch.equal(model.generate(start, **options), before)


# ---- other energies


@pytest.mark.parametrize("energy", [presets.log_sum_exp(), presets.entmax(), presets.softmax1(), presets.epanechnikov(0.01), presets.relu_feed_forward(2.0)])
@pytest.mark.parametrize("name", ["GPT-2", "Llama", "ModernBERT", "BERT"])
def test_other_energies_read_the_same_memories(name, energy):
    model = made(name)
    before = output(model)
    report = hopfield_(model, energy)
    fqn, memory = next(iter(report.replaced.items()))
    x = torch.randn(2, 5, 32)
    weights = memory.association(x)
    read = energy.averaged(weights, weights.sum(-1, keepdim=True)) if energy.divides else weights
    stored = dict(model.get_submodule(fqn).named_children())
    if name == "GPT-2":
        expected = stored["c_proj"](read)
        torch.testing.assert_close(weights, energy.weights(x, stored["c_fc"].weight.T, bias=energy.beta * stored["c_fc"].bias), rtol=1e-5, atol=1e-6)
    elif name == "Llama":
        expected = stored["down_proj"](read * stored["up_proj"](x))
    elif name == "ModernBERT":
        expected = stored["Wo"](read * stored["Wi"](x)[..., 48:])
    else:
        expected = read
    torch.testing.assert_close(memory(x), expected, rtol=1e-5, atol=1e-6)
    assert (output(model) - before).abs().max() > 1e-3
    rate = torch.optim.SGD(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        losses.append(output(model).square().mean())
        rate.zero_grad()
        losses[-1].backward()
        rate.step()
    assert losses[2] < losses[0]
    assert all(p.grad is not None for n, p in model.named_parameters() if ".mlp." in n or ".intermediate." in n)


def test_a_function_may_choose_an_energy_for_every_block():
    energies = iter([presets.entmax(), presets.log_sum_exp()])
    report = hopfield_(made("GPT-2"), lambda block: next(energies))
    assert [memory.given for memory in report.replaced.values()] == [presets.entmax(), presets.log_sum_exp()]


# ---- children that are wrapped


@pytest.mark.parametrize("energy", [own_activation, presets.entmax()])
@pytest.mark.parametrize("name", ["GPT-2", "Llama", "ModernBERT"])
def test_adapters_are_called_whether_they_come_before_or_after(name, energy):
    early, late = made(name), made(name)
    late.load_state_dict(early.state_dict())
    hopfield_(late, energy)
    for model in (early, late):
        torch.manual_seed(1)
        for block in [m for m in model.modules() if type(m).__name__.endswith("MLP") or isinstance(m, FeedForwardMemory)]:
            for child in [n for n, c in block.named_children() if hasattr(c, "weight")]:
                setattr(block, child, Adapted(block.get_submodule(child)))
    stock = output(early)
    hopfield_(early, energy)
    close(output(early), output(late))
    if energy is own_activation:
        close(output(early), stock)
        assert (stock - output(made(name))).abs().max() > 1e-3


def test_quantised_and_hooked_children_are_called():
    model = Around(Block(), Block(gated=True))
    for block in model.blocks:
        block.a = Counted(6, 10)
        block.out.register_forward_hook(lambda module, given, out: out + 1)
    x = torch.randn(3, 6)
    before, Counted.calls = model(x), 0
    hopfield_(model, own_activation)
    close(model(x), before)
    assert Counted.calls == 2


def test_a_distance_declines_keys_that_may_only_be_called():
    model = Around(Block(), Block())
    model.blocks[1].a = Counted(6, 10)
    report = hopfield_(model, presets.distance())
    assert list(report.replaced) == ["blocks.0"] and "a may only be called" in report.skipped["blocks.1"]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # of transformers, which peft calls
def test_peft_adapters_before_and_after():
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["gate_proj", "down_proj"], init_lora_weights=False, r=2)
    early, late = made("Llama"), made("Llama")
    late.load_state_dict(early.state_dict())
    report = hopfield_(late, own_activation)
    models = []
    for model in (early, late):
        torch.manual_seed(1)
        models.append(peft.get_peft_model(model, config).eval())
    stock = models[0](torch.arange(3, 12)[None]).logits
    hopfield_(models[0], own_activation)
    for model in models:
        close(model(torch.arange(3, 12)[None]).logits, stock)
    report.undo()
    close(models[1](torch.arange(3, 12)[None]).logits, stock)


@pytest.mark.filterwarnings("ignore")  # torchao's own, on import
def test_int8_weights():
    quantization = pytest.importorskip("torchao.quantization")
    model = made("Llama")
    plain = output(model)
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig(), filter_fn=lambda module, fqn: fqn.endswith("_proj") and "mlp" in fqn)
    before = output(model)
    assert (before - plain).abs().max() > 0
    hopfield_(model, own_activation)
    torch.testing.assert_close(output(model), before, rtol=0, atol=0)


# ---- the way back


@pytest.mark.parametrize("name", ["GPT-2", "BERT"])
def test_undo_puts_the_very_modules_back(name):
    model = made(name)
    before, modules, text = output(model), {n: id(m) for n, m in model.named_modules()}, repr(model)
    report = hopfield_(model, presets.entmax())
    assert {n: id(m) for n, m in model.named_modules()} != modules
    report.undo()
    assert {n: id(m) for n, m in model.named_modules()} == modules and repr(model) == text
    torch.testing.assert_close(output(model), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match="undone already"):
        report.undo()


def test_undo_keeps_what_happened_to_the_children():
    model = Around(Block())
    report = hopfield_(model, own_activation)
    model.train()
    model.blocks[0].a = Adapted(model.blocks[0].a)
    x = torch.randn(3, 6)
    before = model(x)
    model.eval()
    report.undo()
    close(model(x), before)
    assert type(model.blocks[0]) is Block and isinstance(model.blocks[0].a, Adapted) and not model.blocks[0].training


def test_undo_changes_nothing_when_something_stands_in_the_way():
    model = Around(Block(), Block())
    report = hopfield_(model, own_activation)
    memory = model.blocks[1]
    model.blocks[0] = nn.Identity()
    with pytest.raises(ValueError, match=r"blocks\.0"):
        report.undo()
    assert model.blocks[1] is memory


# ---- what is chosen, what is declined


@pytest.mark.parametrize(
    "targets, layers",
    [(None, [0, 1]), ("mlp", [0, 1]), ("h.1.mlp", [1]), (r"transformer\.h\.0\..*", [0]), (("h.0.mlp", "nothing"), [0]), (["h.0.mlp", r".*\.1\.mlp"], [0, 1])],
)
def test_targets_are_suffixes_or_patterns(targets, layers):
    report = hopfield_(made("GPT-2"), presets.entmax(), targets)
    assert list(report.replaced) == [f"transformer.h.{layer}.mlp" for layer in layers]
    if targets == r"transformer\.h\.0\..*":
        assert set(report.skipped) >= {"transformer.h.0.ln_1", "transformer.h.0.attn"}


def test_a_filter_sees_modules_and_names():
    seen = {}
    report = hopfield_(made("GPT-2"), presets.entmax(), filter_fn=lambda module, fqn: seen.setdefault(fqn, type(module).__name__) and "1" in fqn)
    assert list(report.replaced) == ["transformer.h.1.mlp"] and seen["transformer.h.0.mlp"] == "GPT2MLP"


def test_nothing_to_swap_is_an_error_that_lists_what_was_seen():
    with pytest.raises(ValueError, match=r"no feed-forward block to swap in GPT2LMHeadModel among targets 'attn'") as caught:
        hopfield_(made("GPT-2"), presets.entmax(), "attn")
    assert all(f"transformer.h.{layer}.attn: its forward is not" in str(caught.value) for layer in range(2))
    with pytest.raises(ValueError, match=r"children of the model are \['0'\]"):
        hopfield_(nn.Sequential(nn.Linear(2, 2)), presets.entmax())
    for wrong in (torch.nn.GELU(), "entmax", None):
        with pytest.raises(ValueError, match="takes a ReadEnergy, a Memory, or a function"):
            hopfield_(made("GPT-2"), wrong)


def test_mixtures_of_experts_are_declined():
    config = {k: v for k, v in GROUPED.items() if k != "head_dim"}
    with pytest.raises(ValueError, match=r"layers\.0\.mlp: a mixture of experts"):
        hopfield_(hf.MixtralForCausalLM(hf.MixtralConfig(**config, num_local_experts=2)), presets.entmax())
    shared = hf.Qwen2MoeConfig(**config, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=24)
    report = hopfield_(hf.Qwen2MoeForCausalLM(shared), presets.entmax())
    assert list(report.replaced) == [f"model.layers.{layer}.mlp.shared_expert" for layer in range(2)]
    assert all("mixture of experts" in report.skipped[f"model.layers.{layer}.mlp"] for layer in range(2))


class Odd(Block):
    """Blocks that have the children of a feed-forward block and compute something else."""

    def __init__(self, kind):
        super().__init__(gated=kind == "two activations")
        self.kind = kind
        if kind == "norm":
            self.norm = nn.LayerNorm(10)
        if kind == "parameter":
            self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        if self.kind == "residual":
            return x + super().forward(x)
        if self.kind == "two activations":
            return self.out(self.bend(self.a(x)) * self.bend(self.b(x)))
        if self.kind == "norm":
            return self.out(self.norm(self.bend(self.a(x))))
        if self.kind == "functional dropout":
            return self.out(F.dropout(self.bend(self.a(x)), 0.1, self.training))
        return super().forward(x) if self.kind == "parameter" else 2 * super().forward(x)


@pytest.mark.parametrize("kind", ["residual", "two activations", "norm", "functional dropout", "twice", "parameter"])
def test_what_computes_something_else_is_declined(kind):
    with pytest.raises(ValueError, match="parameters of its own" if kind == "parameter" else r"blocks\.0: its forward is not"):
        hopfield_(Around(Odd(kind)), presets.entmax())


def test_blocks_that_others_hold_on_to_are_declined():
    hooked, replaced, compiled, swapped = (Around(Block()) for _ in range(4))
    hooked.blocks[0].register_forward_hook(lambda *given: None)
    replaced.blocks[0].forward = lambda x: x
    compiled.blocks[0].compile(backend="eager")
    hopfield_(swapped, own_activation)
    for model, reason in ((hooked, "carries hooks"), (replaced, "replaced by another tool"), (compiled, "or compiled"), (swapped, "a memory already")):
        with pytest.raises(ValueError, match=reason):
            hopfield_(model, presets.entmax(), "blocks.0")


class Fused(nn.Module):
    """One child for scores and gates, either half first, with dropout where one likes."""

    def __init__(self, second, places):
        super().__init__()
        self.both, self.back, self.act, self.second, self.places = nn.Linear(6, 16), nn.Linear(8, 5), nn.Tanh(), second, places
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        one, two = self.both(x).chunk(2, -1)
        weights = self.act(two) * one if self.second else self.act(one) * two
        read = self.back(self.drop(weights) if self.places[0] else weights)
        return self.drop(read) if self.places[1] else read


@pytest.mark.parametrize("places", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("second", [False, True])
def test_what_a_block_computes_decides(second, places):
    model, x = Around(Fused(second, places)), torch.randn(3, 6)
    for mode in (True, False):
        model.train(mode)
        torch.manual_seed(2)
        before = model(x)
        report = hopfield_(model, own_activation)
        torch.manual_seed(2)
        close(model(x), before)
        report.undo()
    weights = hopfield_(model, presets.distance()).replaced["blocks.0"].association(x)
    keys = model.blocks[0].keys.weight.chunk(2)[second]
    torch.testing.assert_close(weights, presets.distance().weights(x, keys, bias=model.blocks[0].keys.bias.chunk(2)[second]))


@pytest.mark.parametrize("gated", [False, True])
def test_square_maps_are_told_apart(gated):
    model, x = Around(Block(6, 6, 6, gated)), torch.randn(3, 6)
    before = model(x)
    report = hopfield_(model, own_activation)
    close(model(x), before)
    anatomy = report.replaced["blocks.0"].anatomy
    assert (anatomy.keys, anatomy.gate, anatomy.values) == ("a", "b" if gated else None, "out")


def test_a_block_in_several_places_stays_one():
    block = Block()
    model, x = Around(block, block), torch.randn(3, 6)
    before = model(x)
    report = hopfield_(model, own_activation)
    assert model.blocks[0] is model.blocks[1] and len(report.replaced) == 2
    close(model(x), before)
    report.undo()
    assert model.blocks[0] is block and model.blocks[1] is block


@pytest.mark.parametrize(
    "activation, separation",
    [
        (nn.SiLU(), Silu()), (nn.GELU(), Gelu()), (nn.ReLU(), RectifiedPower(2)), (lambda s: F.relu(s).square(), RectifiedPower(3)),
        (nn.GELU(approximate="tanh"), Activation(gelu_tanh)), (hf.activations.ACT2FN["gelu_new"], Activation(gelu_tanh)),
    ],
)  # fmt: skip
def test_activations_are_recognised_by_their_numbers(activation, separation):
    block = Block()
    del block.bend
    block.bend = activation
    assert own_activation(block) == ReadEnergy(Dot(), separation, Sum())


def test_activations_that_differ_far_out_only_are_not_taken_for_others():
    block = Block()
    block.bend = nn.ReLU6()
    energy = own_activation(block)
    torch.testing.assert_close(energy.separation.slope(torch.tensor([5.0, 7.0, 100.0])), torch.tensor([5.0, 6.0, 6.0]))
    with pytest.raises(ValueError, match="Odd has no energy of its own: its forward is not"):
        own_activation(Odd("residual"))


def test_a_learned_activation_is_declined():
    model = Around(Block(), Block())
    model.blocks[0].bend = nn.PReLU()
    assert list(hopfield_(model, own_activation).replaced) == ["blocks.1"]


# ---- an ordinary module afterwards


def test_swapped_models_copy_compile_and_leave_the_seed_alone():
    torch.compiler.reset()
    model = made("GPT-2")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    hopfield_(model, own_activation)
    assert torch.equal(torch.rand(3), expected)
    close(output(copy.deepcopy(model)), output(model))
    memory, x = model.transformer.h[0].mlp, torch.randn(2, 3, 32)
    torch.testing.assert_close(torch.compile(memory, fullgraph=True, backend="aot_eager")(x), memory(x))
    assert "keys=c_fc, values=c_proj" in repr(memory) and "gelu_tanh" in repr(memory)


def test_models_without_numbers_can_be_swapped():
    with torch.device("meta"):
        model = MODELS["Llama"]()
    assert len(hopfield_(model, presets.entmax()).replaced) == 2


def test_reports_print_what_happened():
    model = Around(Block(), Block(), Block())
    model.blocks[2].register_forward_hook(lambda *given: None)
    lines = str(hopfield_(model, presets.entmax(), r"blocks\.\d")).splitlines()
    assert lines[0] == "replaced: 2" and lines[1].split() == ["2", "×", "blocks.*", "Block", *str(presets.entmax()).split()]
    assert lines[2] == "skipped: 1" and "blocks.2" in lines[3] and "carries hooks" in lines[3]


# ---- attention


def test_a_memory_takes_the_place_of_attention(monkeypatch):
    asked = []

    def mixing(module, memory):
        asked.append((type(module).__name__, memory))
        return "first layers stay" if module.layer_idx == 0 else nn.Identity()

    monkeypatch.setitem(sys.modules, "hopfield_amem.integrations.huggingface.mixer", types.SimpleNamespace(mixing=mixing))
    model = made("Llama")
    stock = model.model.layers[1].self_attn
    report = hopfield_(model, presets.delta_net())
    assert asked == [("LlamaAttention", presets.delta_net())] * 2
    assert isinstance(model.model.layers[1].self_attn, nn.Identity) and report.skipped == {"model.layers.0.self_attn": "first layers stay"}
    report.undo()
    assert model.model.layers[1].self_attn is stock
    with pytest.raises(ValueError, match=r"no attention module to swap.*\n.*layers\.0\.self_attn: first layers stay"):
        hopfield_(model, presets.delta_net(), r".*\.0\.self_attn")
