"""The feed-forward block as a memory: the blocks of the literature, any other energy, and everything that may be wrapped around its children."""

import copy
import pickle

import pytest
import torch
from ranks import over_ranks
from scipy.integrate import quad
from torch import nn
from torch.nn import functional as F

from hopfield_amem import ENERGIES, ReadEnergy, presets
from hopfield_amem.energies import Activation, Dot, Euclidean, Exp, Gelu, Log, Sum, gelu_tanh
from hopfield_amem.layers.feedforward import HopfieldFFN
from hopfield_amem.testing import check_energy

BLOCKS = {
    "relu": (presets.relu_feed_forward(), torch.relu),
    "gelu": (presets.gelu_feed_forward(), F.gelu),
    "silu": (presets.silu_feed_forward(), F.silu),
    "squared relu": (presets.squared_relu_feed_forward(), lambda s: torch.relu(s).square()),
    "approximate gelu": (ReadEnergy(Dot(), Activation(gelu_tanh), Sum()), lambda s: F.gelu(s, approximate="tanh")),
    "own": (ReadEnergy(Dot(), lambda s: F.softplus(s) ** 2 / 2, Sum()), lambda s: F.softplus(s) * torch.sigmoid(s)),
    "softmax": (presets.log_sum_exp(), lambda s: s.softmax(-1)),
    "softmax, cold": (presets.log_sum_exp(3.0), lambda s: (3 * s).softmax(-1)),
}
SOME = ["relu_feed_forward", "log_sum_exp", "entmax", "epanechnikov", "softmax1"]


def memory(energy, gated=False, dim=6, slots=40, dtype=torch.float64):
    """A memory with biases that matter."""
    made = HopfieldFFN(dim, slots, energy, gated=gated, dtype=dtype)
    for child in filter(None, (made.keys, made.gate, made.values)):
        nn.init.normal_(child.bias, std=0.3)
    return made


def stock(block, activation):
    def forward(x):
        gate = 1.0 if block.gate is None else F.linear(x, block.gate.weight, block.gate.bias)
        return F.linear(activation(F.linear(x, block.keys.weight, block.keys.bias)) * gate, block.values.weight, block.values.bias)

    return forward


def passed(forward, block, x):
    """Output and every gradient."""
    output = forward(x)
    return output, *torch.autograd.grad((output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum(), [x, *block.parameters()])


class Adapted(nn.Module):
    """A low-rank adapter around a linear layer, whose own weight says nothing about what it gives."""

    def __init__(self, base):
        super().__init__()
        self.base, self.weight = base, base.weight
        self.down = nn.Linear(base.in_features, 2, bias=False, dtype=base.weight.dtype)
        self.up = nn.Linear(2, base.out_features, bias=False, dtype=base.weight.dtype)

    def forward(self, x):
        return self.base(x) + self.up(self.down(x))

    def merged(self):
        twin = copy.deepcopy(self.base)
        twin.weight.data += (self.up.weight @ self.down.weight).data
        return twin


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", BLOCKS)
def test_it_is_the_block_of_this_name(name, gated, dtype):  # gated silu is SwiGLU, gated gelu GEGLU
    energy, activation = BLOCKS[name]
    block = memory(energy, gated, slots=300, dtype=dtype)
    x = torch.randn(5, 47, 6, dtype=dtype, requires_grad=True)
    tolerance = {torch.float32: 1e-6 if block.elementwise else 1e-5, torch.float64: 1e-12}[dtype]
    for ours, theirs in zip(passed(block, block, x), passed(stock(block, activation), block, x), strict=True):
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp_min(1)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ENERGIES)
def test_every_energy_reads_by_its_own_weights(name, gated):
    energy = ENERGIES[name]
    block = memory(energy, gated)
    x = torch.randn(2, 7, 6, dtype=torch.float64, requires_grad=True)
    bias = energy.beta * block.keys.bias
    weights = energy.weights(x, block.keys.weight, bias=bias)
    torch.testing.assert_close(block.association(x), weights, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(block.energy(x), energy(x, block.keys.weight, bias=bias), rtol=1e-12, atol=1e-12)
    valued = weights.unsqueeze(-1) * block.values.weight.T
    valued = valued * block.gate(x).unsqueeze(-1) if gated else valued
    read = energy.averaged(valued.sum(-2), weights.sum(-1, keepdim=True)) + block.values.bias
    torch.testing.assert_close(block(x), read, rtol=1e-12, atol=1e-12)
    (block(x).square().sum() + block.energy(x).nan_to_num(posinf=0).sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in block.parameters())


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("beta", [1.0, 1.7])
@pytest.mark.parametrize("preset", [presets.relu_feed_forward, presets.gelu_feed_forward, presets.log_sum_exp, presets.entmax])
def test_reading_is_a_unit_step_of_the_pair_from_zero(preset, beta, gated):
    energy = preset(beta=beta)
    block = memory(energy, gated)
    x = torch.randn(9, 6, dtype=torch.float64)
    gate = block.gate(x) if gated else torch.ones(9, 40, dtype=torch.float64)

    def pair(y):
        score = beta * (block.keys(x) + gate * (y @ block.values.weight))
        return energy.confinement(x) + y.square().sum(-1) / 2 - energy.scaling.value(energy.separation, score) / beta

    start = torch.zeros(9, 6, dtype=torch.float64, requires_grad=True)
    read = block(x) - block.values.bias
    torch.testing.assert_close(-torch.autograd.grad(pair(start).sum(), start)[0], read, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(pair(start), block.energy(x), rtol=1e-12, atol=1e-12)
    if not isinstance(energy.separation, Gelu):  # whose F is not convex
        assert (pair(read) <= pair(start) - read.square().sum(-1) / 2 + 1e-9).all()


def test_the_force_on_the_token_is_the_gradient_of_the_energy():
    block = memory(presets.gelu_feed_forward(1.3))
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(block.energy(x).sum(), x)[0]
    torch.testing.assert_close(slope, x - block.association(x) @ block.keys.weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("slots", [1, 17, 63])
def test_odd_shapes(name, slots):
    block = memory(ENERGIES[name], slots=slots)
    x = torch.randn(3, 17, 2, 6, dtype=torch.float64)
    whole = block(x)
    torch.testing.assert_close(block(x.transpose(0, 1)), whole.transpose(0, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(block(x[1, 2, 1]), whole[1, 2, 1], rtol=1e-12, atol=1e-12)
    assert block(x[:0]).shape == (0, 17, 2, 6) and block.energy(x[0, 0, 0]).shape == () and block.association(x).shape == (3, 17, 2, slots)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ["gelu_feed_forward", "log_sum_exp", "entmax", "softmax1"])
def test_children_that_are_wrapped_are_called(name, gated):
    block = memory(ENERGIES[name], gated)
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    plain, merged = block(x), copy.deepcopy(block)
    for role in ("keys", "values"):
        setattr(block, role, Adapted(getattr(block, role)))
        setattr(merged, role, getattr(block, role).merged())
    torch.testing.assert_close(block(x), merged(x), rtol=1e-12, atol=1e-12)
    assert (block(x) - plain).abs().max() > 1e-3
    hooked = copy.deepcopy(merged)
    hooked.keys.register_forward_hook(lambda module, given, out: 2 * out)
    merged.keys.weight.data.mul_(2), merged.keys.bias.data.mul_(2)
    torch.testing.assert_close(hooked(x), merged(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gated", [False, True])
def test_a_distance_refuses_keys_that_may_only_be_called(gated):
    block, x = memory(presets.distance(), gated), torch.randn(3, 6, dtype=torch.float64)
    called = block(x)
    block.values = Adapted(block.values)
    merged = copy.deepcopy(block)
    merged.values = block.values.merged()
    torch.testing.assert_close(block(x), merged(x), rtol=1e-12, atol=1e-12)  # values may be called
    assert (block(x) - called).abs().max() > 1e-3
    block.keys.register_forward_pre_hook(lambda module, given: None)
    for method in (block, block.energy, block.association):
        with pytest.raises(ValueError, match="needs the keys themselves"):
            method(x)


@pytest.mark.parametrize("name", SOME)
def test_half_precision(name):
    block = memory(ENERGIES[name], gated=name == "entmax", dtype=torch.float32, slots=400)
    x = torch.randn(4, 50, 6)
    exact = block(x)
    with torch.autocast("cpu", torch.bfloat16):
        under = block(x)
        assert block.energy(x).dtype == torch.float32
    half = copy.deepcopy(block).bfloat16()(x.bfloat16())
    for read in (under, half):
        assert read.dtype == torch.bfloat16
        assert (read.float() - exact).abs().mean() <= 0.02 * exact.abs().mean()  # at the edge of a finite reach single slots come and go


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ["relu_feed_forward", "log_sum_exp", "epanechnikov", "own"])  # thresholds compile as everywhere, slowly
def test_it_compiles_and_exports_whole(name, gated):
    torch.compiler.reset()
    block = memory(BLOCKS["own"][0] if name == "own" else ENERGIES[name], gated)
    x = torch.randn(3, 5, 6, dtype=torch.float64, requires_grad=True)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(passed(compiled, block, x), passed(block, block, x), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    sizes = None if name == "own" else ({0: torch.export.Dim("batch", min=2, max=64)},)  # forward mode, which derives its slope there, fixes sizes
    exported = torch.export.export(block, (x.detach(),), dynamic_shapes=sizes).module()
    other = torch.randn(3 if sizes is None else 7, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(exported(other), block(other), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", SOME)
def test_gradients_and_transforms(name):
    block = memory(ENERGIES[name], dim=3, slots=5, gated=name == "softmax1")
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    names = [n for n, _ in block.named_parameters()]

    def forward(x, *parameters):
        return torch.func.functional_call(block, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(forward, (x, *block.parameters()))
    twins = [memory(ENERGIES[name], dim=3, slots=5, gated=name == "softmax1") for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(twins)
    together = torch.func.vmap(lambda p: torch.func.functional_call(block, p, (x,)))(stacked)
    torch.testing.assert_close(together, torch.stack([twin(x) for twin in twins]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.func.vmap(block)(x), block(x), rtol=1e-12, atol=1e-12)


def test_memory_of_energies_that_normalise_does_not_grow_with_rows_times_slots():
    block = memory(presets.log_sum_exp(), dim=4, slots=2048, dtype=torch.float32)
    largest = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            largest.extend(t.numel() for t in (out if isinstance(out, (tuple, list)) else [out]) if isinstance(t, torch.Tensor))
            return out

    with Watch():
        block(torch.randn(512, 4))
    assert max(largest) < 512 * 2048 / 8


def test_it_is_an_ordinary_module():
    assert HopfieldFFN(6, 40).spec == presets.gelu_feed_forward()  # the block of most transformers
    block = HopfieldFFN(6, 40, presets.entmax(), gated=True)
    assert set(block.state_dict()) == {"keys.weight", "keys.bias", "gate.weight", "gate.bias", "values.weight", "values.bias"}
    x = torch.randn(2, 6)
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert torch.equal(twin(x), block(x)) and twin.given == block.given == block.spec
    fresh = HopfieldFFN(6, 40, presets.entmax(), gated=True)
    fresh.load_state_dict(block.state_dict())
    assert torch.equal(fresh(x), block(x))
    before = block.keys.weight.clone()
    block.reset_parameters()
    assert not torch.equal(before, block.keys.weight) and not block.values.bias.any()
    assert "slots=40" in repr(block) and str(presets.entmax()) in repr(block)
    empty = HopfieldFFN(6, 40, presets.entmax(), bias=False, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in empty.parameters()} == {("meta", torch.bfloat16)} and empty.values.bias is None


@pytest.mark.parametrize("energy", [presets.relu_feed_forward(), presets.gelu_feed_forward(), presets.silu_feed_forward()])
def test_fresh_sums_read_at_the_scale_of_their_activation(energy):
    block = HopfieldFFN(256, 1024, energy)
    expected = energy.separation.slope(torch.randn(100_000)).square().mean()
    torch.testing.assert_close(block(torch.randn(100, 256)).square().mean(), expected, rtol=0.1, atol=0)


def test_what_does_not_fit_is_refused():
    for dim, slots in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="positive"):
            HopfieldFFN(dim, slots, presets.entmax())
    for wrong in (torch.relu, presets.delta_net(), presets.log_sum_exp(torch.ones(2))):
        with pytest.raises(ValueError, match="ReadEnergy whose beta is a number"):
            HopfieldFFN(3, 4, wrong)
    block = memory(presets.entmax())
    for method in (block, block.energy, block.association):
        with pytest.raises(ValueError, match=r"tokens \(\.\.\., 6\), got \(2, 5\)"):
            method(torch.randn(2, 5, dtype=torch.float64))


@pytest.mark.parametrize("function", [gelu_tanh, torch.tanh, F.silu, F.hardswish, F.mish])
def test_an_activation_is_integrated_to_rounding(function):
    separation = Activation(function)
    score = torch.tensor([-37.2, -3.3, -0.7, -1e-3, 0.0, 0.2, 2.6, 14.0, 90.0], dtype=torch.float64)
    truth = []
    for s in score.tolist():
        corners = [p for p in (-8, -3, -1, 1, 3, 8) if min(s, 0) < p < max(s, 0)]
        truth.append(quad(lambda t: float(function(torch.tensor(t, dtype=torch.float64))), 0, s, points=corners or None, limit=400, epsabs=1e-14)[0])
    torch.testing.assert_close(separation(score), torch.tensor(truth, dtype=torch.float64), rtol=1e-11, atol=1e-13)
    assert torch.autograd.gradcheck(separation, score[2:-1].clone().requires_grad_())
    torch.testing.assert_close(separation.slope(score), function(score), rtol=0, atol=0)


def test_integrated_activations_are_separations_like_any_other():
    score = torch.linspace(-30, 30, 41, dtype=torch.float64)
    known = Gelu()
    torch.testing.assert_close(Activation(F.gelu)(score), known(score) - known(0 * score), rtol=1e-12, atol=1e-12)
    check_energy(ReadEnergy(Dot(), Activation(torch.tanh), Sum()))  # raises where a law is broken
    assert str(Activation(nn.Hardswish())) == "∫Hardswish(s)" and str(Activation(gelu_tanh)) == "∫gelu_tanh(s)"
    with pytest.raises(ValueError, match="not elementwise"):
        Activation(lambda s: s.softmax(-1))


def test_a_learned_activation_learns_in_block_and_energy():
    bend = nn.PReLU(dtype=torch.float64)
    block = memory(ReadEnergy(Dot(), Activation(bend), Sum()))
    x = torch.randn(4, 6, dtype=torch.float64)
    through = torch.autograd.grad(block(x).sum(), bend.weight)[0]
    score = block.keys(x)
    torch.testing.assert_close(through, (score.clamp_max(0) @ block.values.weight.T).sum().view(1), rtol=1e-12, atol=1e-12)
    integral = -torch.autograd.grad(block.energy(x).sum(), bend.weight)[0]
    torch.testing.assert_close(integral, (score.clamp_max(0).square() / 2).sum().view(1), rtol=1e-12, atol=1e-12)


def test_a_kernel_density_reads_averages():
    block = memory(ReadEnergy(Euclidean(), Exp(), Log()), gated=True, slots=9)
    x = torch.randn(5, 6, dtype=torch.float64)
    weights = (block.keys.bias - 0.5 * torch.cdist(x, block.keys.weight).square()).softmax(-1)
    torch.testing.assert_close(block(x), (weights * block.gate(x)) @ block.values.weight.T + block.values.bias, rtol=1e-12, atol=1e-12)


def test_tensor_parallel_and_sharded_parameters(tmp_path):
    over_ranks(2, [_on_ranks], tmp_path)


def _on_ranks(rank, world, folder):
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (world,))
    _tensor_parallel(mesh)
    _sharded(mesh)


def _tensor_parallel(mesh):
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    split = {"keys": ColwiseParallel(), "gate": ColwiseParallel(), "values": RowwiseParallel()}
    gathered = {"keys": ColwiseParallel(output_layouts=Replicate()), "values": RowwiseParallel(input_layouts=Replicate())}
    cases = [(presets.gelu_feed_forward(), False, split), (presets.silu_feed_forward(), True, split)]
    for energy, gated, plan in [*cases, *((energy, False, gathered) for energy in (presets.log_sum_exp(), presets.entmax()))]:
        torch.manual_seed(0)
        block, x = memory(energy, gated), torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
        parallel = parallelize_module(copy.deepcopy(block), mesh, {role: style for role, style in plan.items() if role != "gate" or gated})
        for ours, theirs in zip(passed(parallel, parallel, x), passed(block, block, x), strict=True):
            whole = ours.full_tensor() if hasattr(ours, "full_tensor") else ours
            torch.testing.assert_close(whole, theirs, rtol=1e-12, atol=1e-12)
    for energy, methods in ((presets.entmax(), ["forward"]), (presets.gelu_feed_forward(), ["energy", "association"])):
        parallel = parallelize_module(memory(energy), mesh, {"keys": split["keys"], "values": split["values"]})
        for method in methods:
            with pytest.raises(ValueError, match="split over processes"):
                getattr(parallel, method)(torch.randn(3, 6, dtype=torch.float64))


def _sharded(mesh):
    from torch.distributed.fsdp import fully_shard

    for energy in (presets.gelu_feed_forward(), presets.log_sum_exp(), presets.epanechnikov(0.1)):
        torch.manual_seed(0)
        block, x = memory(energy, slots=300), torch.randn(300, 6, dtype=torch.float64)
        shards = fully_shard(copy.deepcopy(block), mesh=mesh)
        for module in (block, shards):
            steps = torch.optim.AdamW(module.parameters(), lr=0.1)
            for _ in range(2):
                steps.zero_grad()
                module(x).square().mean().backward()
                steps.step()
        torch.testing.assert_close(shards(x), block(x), rtol=1e-11, atol=1e-12)
