"""One torch definition becomes value, slope and curvature; what cannot is refused with the way out; generated files survive many writers."""

import os
import sys

import pytest
import torch
from ranks import SERVER

from hopfield_amem import ENERGIES, ReadEnergy, explain, presets, retrieve
from hopfield_amem.energies import Cosine, Dot, Elementwise, Epanechnikov, Euclidean, Exp, Invariant, Log, Manhattan, Power, RectifiedPower, Sum
from hopfield_amem.energies.separations.derivative import slope
from hopfield_amem.kernels.compiler import CannotCompile, compiled, leaves, store

F = torch.nn.functional
ZOO = {
    "softplus squared": lambda s: F.softplus(s) ** 2,
    "student": lambda s: (3 - s) ** -1.5,
    "where": lambda s: torch.where(s > 0, s + s.square() / 2, torch.expm1(s)),
    "huber": lambda s: torch.where(s.abs() < 1, s * s / 2, s.abs() - 0.5),
    "gelu": F.gelu,
    "gelu by tanh": lambda s: F.gelu(s, approximate="tanh"),
    "elu": lambda s: F.elu(s) + 2,
    "leaky": lambda s: F.leaky_relu(s, 0.2),
    "hardswish": F.hardswish,
    "mish": F.mish,
    "clamp": lambda s: s.clamp(-0.5, 1.25) * s,
    "log cosh": lambda s: torch.log(torch.cosh(s)),
    "logistic": lambda s: torch.log1p(torch.exp(s)) + torch.sigmoid(s) * torch.tanh(s),
    "waves": lambda s: torch.sin(s) * torch.cos(2 * s) + torch.exp2(s),
    "error function": lambda s: torch.erf(s) + torch.special.ndtr(s),
    "maximum": lambda s: torch.maximum(s, torch.tensor(0.3, dtype=s.dtype)) ** 3,
    "mask as number": lambda s: (s > 0.1).to(s.dtype) * s + torch.rsqrt(s * s + 1),
    "exponents": lambda s: 2.0**s + (1.5 + torch.sigmoid(s)) ** s,
    "log sigmoid": F.logsigmoid,
    "infinite": lambda s: torch.where(s > -100, s * s, float("inf")),
    "powers": lambda s: s**5 - torch.sqrt(s.square() + 0.1) + torch.reciprocal(s + 9),
}
SCORES = torch.tensor([[-3.1, -1.7, -0.9, -0.31], [0.07, 0.42, 1.1, 2.6]], dtype=torch.float64)


@pytest.mark.parametrize("name", ZOO)
def test_leaves_are_the_function_and_its_derivatives(name):
    made = leaves(Elementwise(ZOO[name]))
    assert made is not None
    torch.testing.assert_close(made.value(SCORES), ZOO[name](SCORES), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(made.slope(SCORES), slope(ZOO[name], SCORES), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(made.curvature(SCORES), slope(lambda s: slope(ZOO[name], s), SCORES), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ENERGIES)
def test_leaves_of_every_preset(name):
    separation = ENERGIES[name].separation
    made = leaves(separation)
    for part, truth in ((made.value, separation), (made.slope, separation.slope), (made.curvature, separation.curvature)):
        torch.testing.assert_close(part(SCORES), truth(SCORES), rtol=1e-12, atol=1e-14)


def test_the_class_and_the_folds_of_an_energy():
    def of(*factors):
        return compiled(ReadEnergy(*factors).name)

    assert of(Dot(), Exp(), Log()).kind == "softmax" and "running maximum is taken on the raw product" in str(of(Dot(), Exp(), Log()))
    assert of(Dot(), Elementwise(torch.exp), Log()).kind == "softmax"
    assert compiled(presets.entmax().name).kind == "threshold"
    assert of(Euclidean(), Epanechnikov(), Log()).kind == "ratio" and of(Euclidean(), Epanechnikov(), Log()).reach == 1
    assert of(Dot(), RectifiedPower(3), Sum()).degree == 3 and "leaves the loop" in str(of(Dot(), RectifiedPower(3), Sum()))
    assert of(Dot(), lambda s: torch.relu(s) ** 3 + torch.relu(s) ** 2, Sum()).degree is None
    distance = of(Euclidean(), Exp(), Log())
    assert any("cancels" in fold for fold in distance.folds) and any("bias vector" in fold for fold in distance.folds)
    assert not any("cancels" in fold for fold in of(Euclidean(), Epanechnikov(), Log()).folds)
    assert any("slot factor" in fold for fold in of(Cosine(), Exp(), Log()).folds)
    assert not of(Invariant(lambda dot, xx, kk: -torch.log1p(xx + kk - 2 * dot)), Exp(), Log()).scores.affine
    assert of(Invariant(lambda dot, xx, kk: dot - kk / 3), Exp(), Log()).scores.affine
    assert of(Manhattan(), Exp(), Log()).scores.pairing == "distance"
    assert "silu(s)" in compiled(presets.silu_feed_forward().name).triton_source


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (lambda: ReadEnergy(Dot(), torch.special.i0, Sum()), "calls aten.i0.default"),
        (lambda: ReadEnergy(Dot(), Held(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).sum()), Sum()), "holds a tensor of shape"),
        (lambda: ReadEnergy(Dot(), Held(torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))), Sum()), "holds a learned parameter"),
        (lambda: ReadEnergy(lambda x, k: x @ k.mT, Exp(), Log()), "Write it as Invariant"),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_the_way_out(energy, message):
    with pytest.raises(CannotCompile, match=message) as refusal:
        compiled(energy().name)
    assert "reference" in str(refusal.value) or "Invariant" in str(refusal.value)


class Held:
    """A function that holds a tensor."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __call__(self, score):
        return score.square() * self.tensor.to(score.dtype)


def test_control_flow_by_value_and_what_is_not_elementwise_are_refused():
    with pytest.raises(CannotCompile, match=r"torch\.where"):
        compiled(ReadEnergy(Dot(), Elementwise(lambda s: s * s if s.numel() == 1 or s.isfinite().all() else s), Sum()).name)
    with pytest.raises(ValueError, match="not elementwise"):
        ReadEnergy(Dot(), lambda s: s.softmax(-1), Sum())


def test_a_learned_parameter_in_F_gets_its_gradient_or_is_refused():
    power = torch.nn.Parameter(torch.tensor(1.5, dtype=torch.float64))
    energy = ReadEnergy(Dot(), lambda s: torch.relu(s) ** power.to(s.dtype), Sum())
    query, keys = torch.rand(300, 4, dtype=torch.float64), torch.rand(400, 4, dtype=torch.float64)
    assert "learned parameters" in explain(energy, query, keys).reason
    assert torch.autograd.grad(retrieve(energy, query, keys).sum(), power)[0] != 0
    with pytest.raises(ValueError, match="no gradient"):
        retrieve(energy, query, keys, backend="chunked")
    with pytest.raises(ValueError, match="learned parameter"):
        compiled(energy.name)


@pytest.mark.skipif(torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1", reason="the kernels can run here")
def test_kernels_without_a_gpu_name_both_ways_out():
    query, keys = torch.randn(3, 4), torch.randn(5, 4)
    with pytest.raises(ValueError, match=r"\.cuda\(\).*TRITON_INTERPRET=1"):
        retrieve(presets.log_sum_exp(), query, keys, backend="triton")
    with pytest.raises(ValueError, match="float32 at most"):
        explain(presets.log_sum_exp(), query.double(), keys.double(), backend="triton")


@pytest.mark.parametrize("options", [{"causal": 0}, {"causal": -3}, {"causal": 2.5}, {"dropout": 1.0}, {"dropout": -0.1}, {"dropout": True}])
def test_bad_gates(options):
    with pytest.raises(ValueError, match=r"causal is True|dropout is the probability"):
        retrieve(presets.log_sum_exp(), torch.randn(3, 4), torch.randn(5, 4), **options)


@pytest.mark.parametrize("bias", [torch.randn(4), torch.randn(2, 5), torch.randn(())])
def test_a_bias_must_fit(bias):
    with pytest.raises(ValueError, match="bias of shape"):
        retrieve(presets.log_sum_exp(), torch.randn(3, 4), torch.randn(5, 4), bias=bias)
    with pytest.raises(TypeError, match="bias must be a floating-point tensor"):
        retrieve(presets.log_sum_exp(), torch.randn(3, 4), torch.randn(5, 4), bias=torch.ones(5, dtype=torch.bool))


def test_files_are_whole_and_named_by_their_content(tmp_path, monkeypatch):
    monkeypatch.setenv("HOPFIELD_AMEM_CACHE", str(tmp_path))
    made = store.module("VALUE = 41 + 1\n")
    assert made.VALUE == 42 and [f.name for f in tmp_path.iterdir()] == [f"{made.__name__}.py"]
    (tmp_path / f"{made.__name__}.py").write_text("VALUE = 'of somebody else'\n")
    del sys.modules[made.__name__]
    assert store.module("VALUE = 41 + 1\n").VALUE == 42


def derived(folder, number, together):
    os.environ["HOPFIELD_AMEM_CACHE"] = str(folder / "cache")
    together.wait()
    slope = leaves(presets.entmax(1.7).separation).slope(torch.tensor([0.5]))
    (folder / f"{number}.txt").write_text(str(float(slope)))


def test_many_processes_write_at_once(tmp_path):
    together = SERVER.Barrier(4, timeout=60)
    running = [SERVER.Process(target=derived, args=(tmp_path, number, together)) for number in range(4)]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    assert all(process.exitcode == 0 for process in running)
    assert len({path.read_text() for path in tmp_path.glob("*.txt")}) == 1 and len([*tmp_path.glob("*.txt")]) == 4
    assert [f.suffix for f in (tmp_path / "cache").iterdir()] == [".py"]


def test_power_keeps_its_own_memory():
    """A slope that is the score itself must not be changed in place."""
    query, keys = torch.randn(40, 4, dtype=torch.float64), torch.randn(90, 4, dtype=torch.float64)
    energy = ReadEnergy(Dot(), Power(2), Log())
    presence = torch.rand(90, dtype=torch.float64)
    mine, truth = (retrieve(energy, query, keys, keys, presence=presence, backend=b) for b in ("chunked", "reference"))
    torch.testing.assert_close(mine, truth, rtol=1e-12, atol=1e-12)
