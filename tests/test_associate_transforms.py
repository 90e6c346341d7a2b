"""Memories written token by token under torch's transformations, in every precision, and what they refuse."""

import pytest
import torch
from torch.library import opcheck
from torch.nn.functional import normalize

from hopfield_amem import MEMORIES, Memory, ReadEnergy, associate, explain, presets
from hopfield_amem.energies import Delta, Dot, Euclidean, Exp, Hebbian, ImplicitDelta, Log, Power, Ridge, Rounded, Sum, UnstableWrite
from hopfield_amem.kernels import MatrixState
from hopfield_amem.kernels.association import linear, operators, ridge

close = torch.testing.assert_close
FEW = ["delta_net", "kimi_delta_attention", "gated_delta_net", "mesa_net", "delta_former", "delta_former_linear", "forgetting_attention"]


def given(name, length=140, lead=(2,), width=4, dtype=torch.float64):
    memory = MEMORIES[name]
    keys = normalize(torch.randn(*lead, length, width, dtype=dtype), dim=-1)
    tensors = [torch.randn(*lead, length, width, dtype=dtype), keys, torch.randn(*lead, length, 3, dtype=dtype), torch.rand(*lead, length, dtype=dtype)]
    if memory.decay:
        tensors.append(0.5 + 0.5 * torch.rand(*lead, length, *([width] if memory.decay == "channel" else []), dtype=dtype))
    return memory, tensors


def run(memory, query, keys, values, rate, decay=None, **options):
    return associate(memory, query, keys, values, rate=rate, decay=decay, **options)[0]


@pytest.mark.parametrize("name", FEW)
def test_compiles_to_one_graph(name):
    torch.compiler.reset()
    memory, tensors = given(name)
    tensors = [t.requires_grad_() for t in tensors]
    compiled = torch.compile(lambda *t: run(memory, *t, backend="chunked"), fullgraph=True, backend="aot_eager")
    expected = run(memory, *tensors, backend="chunked")
    close(compiled(*tensors), expected)
    for came, truth in zip(torch.autograd.grad(compiled(*tensors).sum(), tensors), torch.autograd.grad(expected.sum(), tensors), strict=True):
        close(came, truth)
    with torch.no_grad():
        close(compiled(*(t.detach() for t in tensors)), expected.detach())


@pytest.mark.parametrize("backend", ["reference", "chunked"])
@pytest.mark.parametrize("name", FEW)
def test_first_and_second_derivatives(name, backend):
    memory, tensors = given(name, length=5, lead=(), width=2)
    tensors = [t.requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(lambda *t: run(memory, *t, backend=backend), tensors)
    assert torch.autograd.gradgradcheck(lambda *t: run(memory, *t, backend=backend), tensors, atol=1e-6, fast_mode=True)  # along random directions


@pytest.mark.parametrize("name", FEW)
def test_vmap_jvp_and_checkpoint(name):
    memory, tensors = given(name, length=20)
    expected = run(memory, *tensors, backend="chunked")
    close(torch.vmap(lambda *t: run(memory, *t, backend="chunked"))(*tensors), expected)
    along = [torch.randn_like(t) for t in tensors]
    moved = [torch.func.jvp(lambda *t, b=b: run(memory, *t, backend=b), tuple(tensors), tuple(along))[1] for b in ("reference", "chunked")]
    close(*moved)
    leaves = [t.requires_grad_() for t in tensors]
    again = torch.utils.checkpoint.checkpoint(lambda *t: run(memory, *t, backend="chunked"), *leaves, use_reentrant=False)
    close(torch.autograd.grad(again.sum(), leaves)[1], torch.autograd.grad(run(memory, *leaves, backend="reference").sum(), leaves)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FEW)
def test_precisions(name, dtype):
    """Half types are rounded once: no further from the truth than the rounding of the result, and float32 within 1e-5."""
    memory, tensors = given(name, dtype=torch.float32)
    tensors = [t.to(dtype) for t in tensors]
    if memory.decay:
        tensors[-1] = tensors[-1].clamp(max=1.0)
    output = run(memory, *tensors, backend="chunked")
    assert output.dtype == dtype
    truth = run(memory, *(t.double() for t in tensors), backend="reference")
    own = float((truth.to(dtype).double() - truth).norm())
    assert float((output.double() - truth).norm()) <= 1.5 * own + 1e-5 * float(truth.norm())


@pytest.mark.parametrize("name", ["delta_net", "kimi_delta_attention", "delta_former", "delta_former_linear"])
def test_forward_over_reverse(name):
    memory, tensors = given(name, length=20)

    def curved(backend):
        def slope(keys):
            return torch.func.grad(lambda k: run(memory, tensors[0], k, *tensors[2:], backend=backend).sin().sum())(keys)

        return torch.func.jvp(slope, (tensors[1],), (torch.ones_like(tensors[1]),))[1]

    close(curved("chunked"), curved("reference"))


def test_autocast():
    memory, tensors = given("delta_former", dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run(memory, *tensors)
    assert output.dtype == torch.bfloat16
    close(output, run(memory, *(t.bfloat16() for t in tensors)), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", FEW)
def test_a_mixed_precision_state_goes_on(name):
    memory, tensors = given(name, length=20, dtype=torch.bfloat16)
    cut = [[t[:, part] for t in tensors] for part in (slice(12), slice(12, None))]
    if memory.decay:
        for part in cut:
            part[-1] = part[-1].clamp(max=1.0)
    _, state = associate(memory, *cut[0][:3], rate=cut[0][3], decay=cut[0][4] if memory.decay else None, backend="chunked")
    output, _ = associate(memory, *cut[1][:3], rate=cut[1][3], decay=cut[1][4] if memory.decay else None, state=state, backend="chunked")
    whole = run(memory, *tensors[:4], tensors[4].clamp(max=1.0) if memory.decay else None, backend="chunked")
    close(output, whole[:, 12:], rtol=0.02, atol=0.02)


def test_views_are_taken_as_they_are():
    memory, (query, keys, values, rate) = given("delta_net", lead=(3, 2))
    rows = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (query, keys, values)]
    close(run(memory, *rows, rate, backend="chunked"), run(memory, query, keys, values, rate, backend="reference"))
    shared = keys[:1].expand(3, 2, *keys.shape[2:])
    close(run(memory, query, shared, values, rate, backend="chunked"), run(memory, query, keys[:1], values, rate, backend="reference"))


def test_learned_temperatures_get_gradients():
    _, (query, keys, values, rate) = given("delta_former", lead=(2, 3), length=150)
    grads = []
    for backend in ("reference", "chunked"):
        warm, cold = (torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64, requires_grad=True) for _ in range(2))
        memory = Memory(presets.log_sum_exp(warm), Delta(), presets.linear_attention(cold))  # type: ignore[arg-type]
        grads.append(torch.autograd.grad((run(memory, query, keys, values, 0.4 * rate, backend=backend) ** 2).sum(), (warm, cold)))
    close(grads[0], grads[1])
    same = []
    for backend in ("reference", "chunked", "recurrent"):
        both = torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64, requires_grad=True)
        output = run(presets.delta_former(both), query[:, :, :40], keys[:, :, :40], values[:, :, :40], rate[..., :40], backend=backend)
        same.append(torch.autograd.grad((output**2).sum(), both)[0])
    close(same[0], same[1])
    close(same[0], same[2])


@pytest.mark.parametrize("erase", [False, True])
@pytest.mark.parametrize("channels", [0, 1, 4])
def test_operators_of_matrix_states(erase, channels):
    decay = -torch.rand(1, 2, 20, channels) if channels else None
    rate = torch.rand(1, 2, 20) if erase else None
    rows = [torch.randn(1, heads, 20, 4) for heads in (4, 2, 2)]
    given = (rows[0], rows[1], rows[2], None, rate, None, decay, torch.randn(1, 2, 4, 4))
    opcheck(linear.linear, given)
    results = linear.linear(*given)
    if channels < 2:  # opcheck cannot look into torch.func, by which the gradients of channels are found
        opcheck(linear.linear_backward, (results[0], None, results[2], *given, *results[2:]))


def test_operators_of_growing_states():
    query, erase, keys, values = (torch.randn(1, h, t, 4) for h, t in ((4, 9), (2, 9), (2, 12), (2, 9)))
    beta, level, there = torch.rand(1, 2), -torch.rand(1, 2, 12).double().cumsum(-1), torch.rand(1, 2, 12) > 0.2
    name = presets.log_sum_exp().name
    write = (erase, keys, values, torch.rand(1, 2, 9), torch.rand(1, 2, 9), torch.randn(1, 2, 3, 4), level, there, beta)
    read = (query, keys, torch.randn(1, 2, 12, 4), level, None, torch.rand(1, 4))
    solve = (query, values, torch.rand(1, 2, 9), None, None)
    opcheck(operators.written, (*write, name, False))
    opcheck(operators.written_backward, (values, *write, operators.written(*write, name, False), name, False))
    opcheck(operators.recalled, (*read, name, False))
    opcheck(operators.recalled_backward, (query, *read, name, False))
    opcheck(ridge.ridge, (*solve, 0.5))


def test_stability_is_a_named_check():
    keys = normalize(torch.randn(3, 20, 8), dim=-1)
    memory = presets.delta_net()
    assert memory.check_stability(keys).stable and memory.check_stability(keys, 2.0).stable
    unstable = memory.check_stability(keys, 2.5)
    assert not unstable.stable and "here it reaches 2.5" in str(unstable) and "1.5 per token" in str(unstable)
    assert not memory.check_stability(keys, -0.5).stable
    assert not memory.check_stability(2 * keys).stable and presets.longhorn().check_stability(2 * keys, 100.0).stable
    assert presets.retnet().check_stability(100 * keys).stable
    assert presets.delta_former().check_stability(100 * keys).stable and not presets.delta_former().check_stability(keys, 1.5).stable
    erase = memory.check_stability(keys, 1.0, erase=3 * keys)
    assert not erase.stable and "κ₁(w, k)" in str(erase)


def test_stability_says_what_it_knows():
    keys = normalize(torch.randn(20, 8), dim=-1)
    assert presets.mesa_net().check_stability(100 * keys).stable is True
    assert Memory(presets.linear_attention(), lambda p, v: (p - v).abs().sum(-1)).check_stability(keys).stable is None
    assert Memory(ReadEnergy(Dot(), Power(4), Log()), Delta()).check_stability(keys).stable is None
    average = Memory(ReadEnergy(Euclidean(), Exp(), Sum()), Delta())  # a free state divides: a softmax
    assert average.check_stability(keys, 2.0).stable is False and average.check_stability(keys).stable is True
    assert "not sufficient" in str(Memory(ReadEnergy(Dot(), Rounded(0), Sum()), Delta()).check_stability(keys))
    assert presets.delta_net().check_stability(keys.bfloat16(), 2.0).stable is True
    assert presets.delta_net().check_stability(keys.to("meta")).stable is None


def test_the_gain_is_the_factor_of_growth():
    """A repeated key with gain c: what is stored is multiplied by 1 − c per token (deltaformer: max|u| 2.9, 27, 1.2e3 for c = 1, 2, 2.1)."""
    keys = torch.zeros(64, 4, dtype=torch.float64)
    keys[:, 0] = 1.0
    values = torch.randn(64, 2, dtype=torch.float64)
    _, calm = associate(presets.delta_net(), keys, keys, values, rate=2.0)
    with pytest.warns(UnstableWrite, match="Normalise the keys"):
        _, wild = associate(presets.delta_net(), keys, keys, values, rate=3.0)
    assert float(calm.memory.abs().max()) < 1e2 and float(wild.memory.abs().max()) > 1e15


def test_the_chosen_path_is_explained():
    keys = torch.randn(4, 1000, 8)
    assert "state of constant size" in str(explain(presets.delta_net(), keys, keys))
    assert "solved against all before it" in str(explain(presets.delta_former(), keys, keys))
    assert explain(presets.delta_net(), keys[:, :1], keys[:, :1]).backend == "recurrent"
    assert explain(presets.delta_net(), keys[0, :9], keys[0, :9]).backend == "reference"


K = torch.randn(2, 7, 4)
EQUAL = 1e3 * K[..., :1].expand(2, 7, 4)
NAN = MatrixState(K.new_full((4, 4), torch.nan))
FALLING = torch.tensor([0, 5, 3, 7], dtype=torch.uint8)
ERRORS = {
    "lengths": (lambda: associate(presets.delta_net(), K[:, :3], K, K), ValueError, "query has 3 tokens, keys have 7"),
    "no decay": (lambda: associate(presets.retnet(), K, K, K), ValueError, "This memory forgets"),
    "decay out of range": (lambda: associate(presets.retnet(), K, K, K, decay=torch.full((2, 7), 1.1)), ValueError, r"γ in \[0, 1\]"),
    "decay of a wrong shape": (lambda: associate(presets.retnet(), K, K, K, decay=torch.ones(2, 7, 4)), ValueError, "decay per channel needs a memory"),
    "a rate of a wrong shape": (lambda: associate(presets.delta_net(), K, K, K, rate=torch.ones(2, 6)), ValueError, "rate is a number"),
    "a pair for Hebbian": (lambda: associate(presets.linear_attention(), K, K, K, rate=(K[..., 0], K[..., 0])), ValueError, "Only Delta"),
    "erase for Hebbian": (lambda: associate(presets.linear_attention(), K, K, K, erase=K), ValueError, "erase keys are for writes that erase"),
    "erase of a wrong shape": (lambda: associate(presets.delta_net(), K, K, K, erase=K[..., :2]), ValueError, "one key per token"),
    "presence": (lambda: associate(presets.delta_net(), K, K, K, presence=torch.ones(2, 7)), ValueError, "presence is a boolean"),
    "a foreign state": (lambda: associate(presets.delta_former(), K, K, K, state=MatrixState(K)), ValueError, "carries a SlotState"),
    "a state of other widths": (lambda: associate(presets.delta_net(), K, K, K, state=MatrixState(torch.ones(2, 3, 4))), ValueError, "does not fit these keys"),
    "leading dimensions": (lambda: associate(presets.delta_net(), K, K, K, rate=torch.ones(3, 7)), ValueError, "leading dimensions must broadcast, got"),
    "a negative weight of a pair": (lambda: associate(presets.mesa_net(), K, K, K, rate=-0.5), ValueError, "must not be negative"),
    "channels of a ridge": (lambda: Memory(presets.linear_attention(), Ridge(), decay="channel"), ValueError, "one amount per token"),
    "an implicit average": (lambda: Memory(ReadEnergy(Euclidean(), Exp(), Sum()), ImplicitDelta()), ValueError, "ImplicitDelta needs"),
    "NaN in the state": (lambda: associate(presets.delta_net(), K / 9, K / 9, K, state=NAN), ValueError, "state.memory holds NaN"),
    "a singular ridge": (lambda: associate(presets.mesa_net(1e-9), EQUAL, EQUAL, K), ValueError, "too small for these keys"),
    "cu_seqlens that fall": (lambda: associate(presets.retnet(), K, K, K, decay=K[..., 0].sigmoid(), cu_seqlens=FALLING), ValueError, "must rise"),
    "cu_seqlens": (lambda: associate(presets.delta_net(), K, K, K, cu_seqlens=torch.tensor([0, 4])), ValueError, "must rise from 0"),
    "cu_seqlens of floats": (lambda: associate(presets.delta_net(), K, K, K, cu_seqlens=torch.ones(3)), ValueError, "integer tensor"),
    "an unknown backend": (lambda: associate(presets.delta_net(), K, K, K, backend="fast"), ValueError, "Unknown backend"),
    "ridge with softmax": (lambda: Memory(presets.log_sum_exp(), Ridge()), ValueError, "Ridge solves for a matrix"),
    "an implicit softmax": (lambda: Memory(presets.log_sum_exp(), ImplicitDelta()), ValueError, "ImplicitDelta needs"),
    "channels with softmax": (lambda: Memory(presets.log_sum_exp(), Hebbian(), decay="channel"), ValueError, "needs a linear read"),
    "a decay of another name": (lambda: Memory(presets.log_sum_exp(), decay="slow"), ValueError, "decay is None"),
    "a prediction that is none": (lambda: Memory(presets.log_sum_exp(), Delta(), "linear"), ValueError, "predicts with a ReadEnergy"),
    "NaN": (lambda: associate(presets.linear_attention(), K, K * torch.nan, K), ValueError, "NaN"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors_teach(name):
    call, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
