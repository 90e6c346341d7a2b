"""Which blocks are swapped: those asked for, and those alone that compute what a memory computes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytest.importorskip("transformers")
import transformers as hf
from feedforward_models import GROUPED, Around, Block, close, made

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.energies import Activation, Dot, Gelu, RectifiedPower, Silu, Sum, gelu_tanh
from hopfield_amem.integrations.huggingface import hopfield_, own_activation


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
