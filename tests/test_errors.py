"""Bad input is met at the door, with a message that says what to do."""

import pytest
import torch

from hopfield_amem import Memory, ReadEnergy, explain, presets, retrieve
from hopfield_amem.analysis.capacity import Task, compare
from hopfield_amem.analysis.snr import inverse_snr
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent, flow
from hopfield_amem.energies import (
    Cosine,
    Dot,
    Epanechnikov,
    Exp,
    Free,
    Gelu,
    Log,
    Manhattan,
    Power,
    Quadratic,
    RectifiedPower,
    Ridge,
    Simplex,
    Sphere,
    Sum,
    Tsallis,
)
from hopfield_amem.layers import HopfieldLookup, PatternMemory

SEEDED = torch.Generator().manual_seed(0)
Q, K, V = (torch.randn(shape, generator=SEEDED) for shape in ((3, 4), (6, 4), (6, 2)))
TORN = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1]])  # two slots that pull two coordinates apart, each without bound
LSE = presets.log_sum_exp()
NAN = torch.where(torch.arange(6)[:, None] == 4, torch.nan, K)
BAD = {
    "mismatched widths": (lambda: retrieve(LSE, Q, K[:, :3]), ValueError, "share their last dimension.*Project"),
    "integer query": (lambda: retrieve(LSE, Q.long(), K), TypeError, "query must be a floating-point tensor.*query.float"),
    "not a tensor": (lambda: retrieve(LSE, Q.tolist(), K), TypeError, "query must be a torch.Tensor.*as_tensor"),
    "one dimension": (lambda: retrieve(LSE, Q[0], K), ValueError, r"shape \(..., count, width\).*unsqueeze"),
    "no features": (lambda: retrieve(LSE, Q[:, :0], K[:, :0]), ValueError, "width 0"),
    "values too few": (lambda: retrieve(LSE, Q, K, V[:5]), ValueError, "Every key needs one value"),
    "leads that clash": (lambda: retrieve(LSE, Q.expand(2, 3, 4), K.expand(3, 6, 4)), ValueError, "leading dimensions must broadcast"),
    "mixed dtypes": (lambda: retrieve(LSE, Q, K.double()), TypeError, "share one dtype.*autocast"),
    "mixed devices": (lambda: retrieve(LSE, Q, K.to("meta")), ValueError, "one device"),
    "presence elsewhere": (lambda: retrieve(LSE, Q, K, presence=torch.ones(6, device="meta")), ValueError, "one device"),
    "NaN keys": (lambda: retrieve(LSE, Q, NAN), ValueError, r"keys holds NaN or Inf \(first at index \(4, 0\)\)"),
    "NaN keys streamed": (lambda: retrieve(presets.entmax(), Q, NAN, backend="chunked"), ValueError, "keys holds NaN"),
    "NaN in a compact energy": (lambda: retrieve(presets.epanechnikov(0.01), Q, NAN, V), ValueError, "keys holds NaN"),
    "Inf query": (lambda: retrieve(LSE, Q / 0, K), ValueError, "query holds NaN or Inf"),
    "NaN values": (lambda: retrieve(LSE, Q, K, V / 0 * 0), ValueError, "values holds NaN"),
    "NaN in a descent": (lambda: FixedPoint()(LSE, Q, NAN), ValueError, "keys holds NaN"),
    "overflow": (lambda: retrieve(ReadEnergy(Dot(), Exp(), Sum()), 100 * Q, 100 * K), ValueError, "overflowed torch.float32.*smaller beta"),
    "overflow in a cube": (lambda: retrieve(presets.dense(40), 1e9 * Q.new_ones(1, 4), 1e9 * TORN), ValueError, "overflowed"),
    "integer mask": (lambda: retrieve(LSE, Q, K, presence=torch.ones(6).int()), TypeError, r"boolean tensor.*\.bool"),
    "mask of a wrong shape": (lambda: retrieve(LSE, Q, K, presence=torch.ones(5).bool()), ValueError, r"presence of shape \(5,\).*Per slot"),
    "additive mask": (lambda: retrieve(LSE, Q, K, presence=torch.zeros(6) - torch.inf), ValueError, r"\[0, 1\].*additive"),
    "presence above one": (lambda: retrieve(LSE, Q, K, presence=torch.full((6,), 1.5)), ValueError, r"\[0, 1\]"),
    "no steps": (lambda: retrieve(LSE, Q, K, steps=0), ValueError, "at least 1"),
    "fractional steps": (lambda: retrieve(LSE, Q, K, steps=1.5), ValueError, "integer"),
    "unknown backend": (lambda: explain(LSE, Q, K, backend="cuda"), ValueError, "Unknown backend"),
    "no energy": (lambda: retrieve(torch.softmax, Q, K), TypeError, "needs a ReadEnergy or a Memory"),
    "negative beta": (lambda: presets.log_sum_exp(-1.0), ValueError, "positive and finite"),
    "zero beta": (lambda: LSE.at(0), ValueError, "positive and finite"),
    "infinite beta": (lambda: LSE.at(float("inf")), ValueError, "positive and finite"),
    "beta of text": (lambda: LSE.at("hot"), ValueError, "positive number or a tensor"),
    "integer beta tensor": (lambda: LSE.at(torch.tensor([1, 2])), ValueError, "floating-point"),
    "negative learned beta": (lambda: retrieve(LSE.at(torch.tensor(-1.0)), Q, K), ValueError, "positive everywhere.*softplus"),
    "beta per too many heads": (lambda: retrieve(LSE.at(torch.ones(3)), Q.expand(2, 3, 4), K), ValueError, "must broadcast"),
    "unbounded": (lambda: FixedPoint()(presets.squared_relu_feed_forward(), Q, K), ValueError, "unbounded below.*Sphere"),
    "unbounded exponential": (lambda: GradientDescent()(ReadEnergy(Dot(), Exp(), Sum()), Q, K), ValueError, "unbounded below"),
    "unbounded on these patterns": (lambda: Flow()(presets.gelu_feed_forward(), Q, 9 * K), ValueError, "unbounded below on these patterns.*λ_max"),
    "unconfined": (lambda: ReadEnergy(Dot(), Exp(), Log(), Free()), ValueError, "unbounded below.*Confine"),
    "softmax as F": (lambda: ReadEnergy(Dot(), lambda s: s.softmax(-1)), ValueError, "not elementwise.*scaling"),
    "sum as F": (lambda: ReadEnergy(Dot(), torch.sum), ValueError, "does not keep the shape"),
    "F that fails": (lambda: ReadEnergy(Dot(), lambda s: s @ s), ValueError, "failed on a"),
    "F of another dtype": (lambda: ReadEnergy(Dot(), lambda s: s.float()), ValueError, "keep the dtype"),
    "F without gradient": (lambda: ReadEnergy(Dot(), lambda s: s.detach() ** 2), ValueError, "cannot be differentiated"),
    "a class as F": (lambda: ReadEnergy(Dot(), Exp), ValueError, r"is a class.*Exp\(\)"),
    "a class as similarity": (lambda: ReadEnergy(Dot, Exp()), ValueError, r"similarity is an object, such as Dot\(\)"),
    "a class as write energy": (lambda: Memory(LSE, Ridge), ValueError, "write energy is Hebbian"),
    "a similarity of pairs": (lambda: retrieve(ReadEnergy(lambda x, k: x.unsqueeze(-2) * k, Exp()), Q, K, V), ValueError, "for every query and slot"),
    "the name of an unnamed F": (lambda: FixedPoint()(ReadEnergy(Dot(), lambda s: s.relu() ** 3, Sum()), Q, K), ValueError, "below: F.s. outgrows"),
    "a function cut off": (lambda: GradientDescent()(lambda x, m: x.detach().sum(-1), Q, K), ValueError, "cut off from the state.*detach"),
    "no energy to descend": (lambda: GradientDescent()(3.0, Q, K), TypeError, r"A descent follows a ReadEnergy.*got float"),
    "a function without a bottom": (lambda: GradientDescent(1.0)(lambda x, m: -x.pow(4).sum(-1), Q, K), ValueError, "energy function gave NaN.*check_energy"),
    "an array stored": (lambda: PatternMemory(4).store(K.numpy()), TypeError, "patterns must be a torch.Tensor, got ndarray.*as_tensor"),
    "pictures stored": (lambda: PatternMemory(4).store(K.reshape(6, 2, 2)), ValueError, r"flatten\(1\)"),
    "a task of an array": (lambda: Task(K.numpy()), ValueError, r"got ndarray. Convert it with torch.as_tensor\(data, "),
    "a task of whole numbers": (lambda: Task(K.long()), ValueError, r"\.float\(\)"),
    "a task of numbers beyond float32": (lambda: Task(1e300 * K.double()), ValueError, "beyond float32"),
    "keys of an array": (lambda: inverse_snr(LSE, 6, K.numpy()), TypeError, "got ndarray. Convert"),
    "one width compared": (lambda: compare(LSE, 16), TypeError, r"several widths.*\[16, 32\]"),
    "no function as F": (lambda: ReadEnergy(Dot(), 3), ValueError, "elementwise function"),
    "negative F under Log": (lambda: ReadEnergy(Dot(), torch.tanh), ValueError, "Log needs F ≥ 0"),
    "GELU under Log": (lambda: ReadEnergy(Dot(), Gelu(), Log()), ValueError, "Log needs F ≥ 0"),
    "a step under Simplex": (lambda: ReadEnergy(Dot(), Epanechnikov(), Simplex()), ValueError, "Simplex needs a convex F"),
    "a flat F under Simplex": (lambda: ReadEnergy(Dot(), lambda s: 0.1 * torch.nn.functional.softplus(s), Simplex()), ValueError, "Simplex needs"),
    "no scaling": (lambda: ReadEnergy(Dot(), Exp(), torch.log), ValueError, "scaling must be"),
    "no confinement": (lambda: ReadEnergy(Dot(), Exp(), Log(), "sphere"), ValueError, "confinement must be"),
    "Cosine unconfined": (lambda: ReadEnergy(Cosine(), Exp(), Log(), Quadratic()), ValueError, "direction.*Sphere"),
    "Manhattan confined": (lambda: ReadEnergy(Manhattan(), Exp(), Log(), Sphere()), ValueError, "Free"),
    "empty sphere": (lambda: Sphere(0), ValueError, "positive finite radius"),
    "alpha below one": (lambda: Tsallis(0.9), ValueError, "α ≥ 1"),
    "degree zero": (lambda: Power(0), ValueError, "degree ≥ 1"),
    "fractional degree": (lambda: RectifiedPower(2.5), ValueError, "integer degree"),
    "ridge without penalty": (lambda: Ridge(0), ValueError, "penalty"),
    "loss of a wrong shape": (lambda: Memory(LSE, lambda p, v: (p - v).square()), ValueError, "reduce only the last"),
    "no read energy": (lambda: Memory("softmax"), ValueError, "reads with a ReadEnergy"),
    "settling a custom similarity": (lambda: retrieve(ReadEnergy(lambda x, k: x @ k.mT, Exp()), Q, K), ValueError, "no closed-form step.*values"),
    "fixed point of a function": (lambda: FixedPoint()(lambda x, m: x.sum(-1), Q, K), TypeError, "GradientDescent or Flow"),
    "presence for a function": (lambda: GradientDescent()(lambda x, m: x.sum(-1), Q, K, presence=torch.ones(6)), ValueError, "its own masks"),
    "unknown method": (lambda: Flow(method="magic")(LSE, Q, K), ValueError, "dopri5"),
    "no time": (lambda: Flow(time=0), ValueError, "positive"),
    "step size": (lambda: GradientDescent(step_size=0), ValueError, "positive"),
    "tolerance": (lambda: FixedPoint(tolerance=-1), ValueError, "tolerance"),
    "gradient mode": (lambda: FixedPoint(gradient="magic"), ValueError, "recompute"),
    "layer without slots": (lambda: HopfieldLookup(4, 0, LSE), ValueError, "must be positive"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_an_adaptive_method_gives_up_where_the_gradient_jumps(monkeypatch):
    monkeypatch.setattr(flow, "PATIENCE", 200)
    with pytest.raises(ValueError, match=r"gave up.*fixed-step"):
        Flow()(ReadEnergy(Manhattan(), Exp(), Log(), beta=20.0), Q, K)
