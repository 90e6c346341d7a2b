"""Kernels of written memories give the numbers of the definition in float64: forward and every gradient, in poisoned memory."""

import pytest
import torch
from comparison import ALL, INEXACT, soft_square

from hopfield_amem import ReadEnergy, presets
from hopfield_amem.energies import Dot, Euclidean, Exp, Log, Quadratic, Sum
from hopfield_amem.kernels.differentiable import FAMILIES, differentiable
from hopfield_amem.kernels.triton import solves, written

NAMES = ("erase", "keys", "values", "write_rate", "erase_rate", "cached", "level", "presence", "beta")
WRITE = {
    "linear": presets.linear_attention(),
    "relu": presets.relu_feed_forward(),
    "softmax": presets.log_sum_exp(2.0),
    "softmax1": presets.softmax1(),
    "exp on unit keys": ReadEnergy(Euclidean(), Exp(), Sum(), Quadratic(), beta=2.0),
    "epanechnikov": presets.epanechnikov(0.4),
    "own separation": ReadEnergy(Euclidean(), ALL["own separation"].separation, Log(), beta=0.5),
    "own separation, plain sum": ReadEnergy(Dot(), soft_square, Sum(), beta=0.3),
    "own similarity": ALL["own similarity"],
    "power under log": ReadEnergy(Dot(), ALL["power under log"].separation, Log(), beta=0.7),
    "distance with an empty slot": ALL["distance with an empty slot"],
    "manhattan": ALL["manhattan"],
}


def given(rows, cache=0, width=12, columns=9, rates=True, decay=0.0, holes=False, own_erase=True, lead=(1, 2)):
    """Tensors by name, keys of unit length."""
    erase, keys = (torch.nn.functional.normalize(torch.randn(*lead, n, width), dim=-1) for n in (rows, cache + rows))
    tensors = {"erase": erase if own_erase else keys[..., cache:, :], "keys": keys, "values": torch.randn(*lead, rows, columns)}
    tensors |= {"write_rate": torch.rand(*lead, rows), "erase_rate": torch.rand(*lead, rows)} if rates else {}
    tensors |= {"cached": torch.randn(*lead, cache, columns)} if cache else {}
    tensors |= {"level": -(decay * torch.rand(*lead, cache + rows, dtype=torch.float64)).cumsum(-1)} if decay else {}
    tensors |= {"presence": torch.rand(*lead, cache + rows) > 0.3} if holes else {}
    return tensors


def solved(energy, tensors, kind, dtype, device):
    """u and the gradients by the definition (of float64 or float32) or by the kernels, from tensors rounded to ``dtype``."""
    leaves = {}
    for name, tensor in (tensors | {"beta": torch.full(tensors["keys"].shape[:2], float(energy.beta))}).items():
        half = dtype if name in ("erase", "keys", "values", "cached") else tensor.dtype
        inside = torch.float64 if kind == "truth" else {"kernels": half, "definition": torch.promote_types(half, torch.float32)}[kind]
        leaves[name] = tensor.to(device) if tensor.dtype == torch.bool else tensor.to(half).to(inside).to(device).detach().clone().requires_grad_()
    full, options = tuple(leaves.get(name) for name in NAMES), (energy.name, energy.divides)
    u = differentiable("triton written", options, *full)[0] if kind == "kernels" else FAMILIES["triton written"].definition(full, options)[0]
    weight = torch.linspace(0.5, 1.5, u.numel(), device=device).view_as(u).to(u.dtype)
    wanted = {name: t for name, t in leaves.items() if t.requires_grad}
    grads = torch.autograd.grad((u * weight).sum(), list(wanted.values()), allow_unused=True)
    return {"u": u.detach(), **{name: torch.zeros_like(wanted[name]) if g is None else g for name, g in zip(wanted, grads, strict=True)}}


def judged(energy, tensors, device, dtype=torch.float32):
    """Allowed is a share of a result's size, three times the error that the definition makes in float32, and a share of the size of the terms
    that the gradient sums (those of a row's score cancel under a normaliser)."""
    truth, mine, plain = (solved(energy, tensors, kind, dtype, device) for kind in ("truth", "kernels", "definition"))
    inexact = INEXACT if dtype == torch.float32 else 6 * torch.finfo(dtype).eps
    terms = float(truth["values"].double().norm() * truth["u"].double().norm(dim=-1).amax())
    for name in truth:
        came, expected = mine[name].double(), truth[name].double()
        assert came.isfinite().all(), name
        error, own = float((came - expected).norm()), float((plain[name].double() - expected).norm())
        allowed = inexact * (float(expected.norm()) + (0.3 * terms if name not in ("u", "values") else 0.0)) + 3 * own
        assert error <= allowed, f"{name}: {error:.1e} of {float(expected.norm()):.1e}, allowed {allowed:.1e}, the definition's own {own:.1e}"
        assert mine[name].dtype == (dtype if name in ("u", "erase", "keys", "values", "cached") else tensors.get(name, torch.ones(1)).dtype)


@pytest.mark.parametrize("rows", [1, 17, 63, 100])
@pytest.mark.parametrize("name", WRITE)
def test_every_length(name, rows, device, poisoned):
    judged(WRITE[name], given(rows), device)


@pytest.mark.parametrize("options", [dict(cache=13), dict(cache=64), dict(decay=0.4), dict(holes=True), dict(cache=21, decay=0.2, holes=True)], ids=str)
@pytest.mark.parametrize("name", WRITE)
def test_caches_decay_and_deleted_slots(name, options, device, poisoned):
    judged(WRITE[name], given(45, **options), device)


@pytest.mark.parametrize("name", ["softmax", "linear", "epanechnikov"])
def test_long(name, device, poisoned):
    judged(WRITE[name], given(200, cache=33, lead=(2, 1)), device)


@pytest.mark.parametrize("name", ["softmax", "relu", "exp on unit keys"])
def test_without_rates_and_without_separate_erase_keys(name, device, poisoned):
    judged(WRITE[name], given(63, rates=False, own_erase=False), device)
    judged(WRITE[name], {key: t for key, t in given(40).items() if key != "write_rate"}, device)


@pytest.mark.parametrize("rate", [0.0, 2.0])
@pytest.mark.parametrize("name", ["softmax", "linear", "exp on unit keys"])
def test_erase_rates_at_the_ends(name, rate, device, poisoned):
    tensors = given(63, own_erase=False)
    tensors["erase_rate"] = torch.full_like(tensors["erase_rate"], rate)
    judged(WRITE[name], tensors, device)


@pytest.mark.parametrize("rate", [0.95, 2.0])
def test_repeated_keys_do_not_blow_up(rate, device, poisoned):
    """The powers of such a triangle reach 10¹⁹, the entries of its inverse stay below 2."""
    tensors = given(100, own_erase=False)
    tensors["erase"] = tensors["keys"] = tensors["keys"][:, :, :1].expand_as(tensors["keys"])
    tensors["erase_rate"] = torch.full_like(tensors["erase_rate"], rate)
    judged(WRITE["linear"], tensors, device)


@pytest.mark.parametrize(("width", "columns"), [(16, 16), (20, 33), (64, 17), (100, 130), (256, 16), (24, 256)])
def test_widths(width, columns, device, poisoned):
    for name in ("softmax", "own separation"):
        judged(WRITE[name], given(40, cache=5, width=width, columns=columns, lead=(1, 1)), device)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["softmax", "linear", "relu", "exp on unit keys", "epanechnikov"])
def test_halves(name, dtype, device, poisoned):
    judged(WRITE[name], given(70, cache=9, width=32, columns=16), device, dtype)
    judged(WRITE[name], given(70, width=32, columns=16, rates=False, decay=0.2), device, dtype)


def test_levels_may_fall_far(device, poisoned):
    """At −3000 a float32 level is known to 2·10⁻⁴ only; its float64 keeps the differences of neighbours."""
    tensors = given(63, decay=0.5)
    tensors["level"] = tensors["level"] - 3000.0
    for name in ("softmax", "linear"):
        judged(WRITE[name], tensors, device)


def test_strides_are_followed(device, poisoned):
    tensors = given(33, cache=5)
    moved = {name: t.transpose(1, 2).contiguous().transpose(1, 2) if t.ndim == 4 else t for name, t in tensors.items()}
    judged(WRITE["softmax"], moved, device)


def test_nothing_to_write(device):
    for rows, lead in ((0, (1, 2)), (5, (0, 2))):
        tensors = given(rows, lead=lead)
        result = solved(WRITE["softmax"], tensors, "kernels", torch.float32, device)
        assert result["u"].shape == (*lead, rows, 9) and result["keys"].shape == tensors["keys"].shape


def test_a_tile_that_never_arrives_gives_nan_and_hangs_nothing(device, monkeypatch):
    monkeypatch.setattr(solves, "PATIENCE", 10)
    counters = solves._counters
    monkeypatch.setattr(solves, "_counters", lambda read: counters(read).index_fill_(0, torch.tensor([read.members], device=device), read.members))
    tensors = {name: t.to(device) for name, t in given(100).items()}
    full = tuple(tensors.get(name) for name in NAMES[:-1])
    u = differentiable("triton written", (WRITE["softmax"].name, False), *full, torch.ones(1, 2, device=device))[0]
    assert u[:, :, 64:].isnan().all()


def test_simplex_and_wide_values_are_refused(device):
    tensors = {name: t.to(device) for name, t in given(5, columns=300).items()}
    full = (*(tensors.get(name) for name in NAMES[:-1]), torch.ones(1, 2, device=device))
    with pytest.raises(ValueError, match="256 columns"):
        differentiable("triton written", (WRITE["softmax"].name, False), *full)
    with pytest.raises(ValueError, match="Sum or Log"):
        differentiable("triton written", (presets.entmax().name, False), *full)


@pytest.mark.parametrize("name", ["softmax", "own separation", "linear"])
def test_second_derivatives_and_tangents(name, device):
    tensors = given(9, cache=3, decay=0.2) | {"beta": torch.full((1, 2), float(WRITE[name].beta))}
    full = [None if (t := tensors.get(n)) is None else t.to(device).requires_grad_() for n in NAMES]
    options, live = (WRITE[name].name, WRITE[name].divides), [t for t in full if t is not None]
    seconds = []
    for run in (lambda *t: differentiable("triton written", options, *t)[0], lambda *t: FAMILIES["triton written"].definition(t, options)[0]):
        first = torch.autograd.grad(run(*full).square().sum(), live, create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.double().square().sum() for g in first), live))
    for mine, truth in zip(*seconds, strict=True):
        torch.testing.assert_close(mine, truth, rtol=1e-3, atol=1e-3 * float(truth.abs().max()))
    along = tuple(torch.randn_like(t) for t in live[:3])
    runs = (
        lambda *t: differentiable("triton written", options, *t, *full[3:])[0],
        lambda *t: FAMILIES["triton written"].definition((*t, *full[3:]), options)[0],
    )
    mine, truth = (torch.func.jvp(run, tuple(t.detach() for t in live[:3]), along)[1] for run in runs)
    torch.testing.assert_close(mine, truth, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["softmax", "linear", "epanechnikov"])
def test_opcheck(name, device):
    tensors = given(9, cache=3, decay=0.2, holes=True) | {"beta": torch.full((1, 2), float(WRITE[name].beta))}
    full, options = [tensors[n].to(device) for n in NAMES], (WRITE[name].name, WRITE[name].divides)
    torch.library.opcheck(written.written, (*full, *options))
    u, statistic = written.written(*full, *options)
    torch.library.opcheck(written.written_backward, (torch.randn_like(u), *full, u, statistic, *options, [True] * 8))
    torch.library.opcheck(written.written_backward, (torch.randn_like(u), *full, u, statistic, *options, [True, False, True] + [False] * 5))


def test_compile_fullgraph(device):
    torch._dynamo.reset()
    tensors = given(17, decay=0.2) | {"beta": torch.full((1, 2), 2.0)}
    options = (WRITE["softmax"].name, False)

    def run(*full):
        return differentiable("triton written", options, *full)[0]

    results = []
    for call in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
        full = [None if (t := tensors.get(n)) is None else t.to(device).detach().clone().requires_grad_() for n in NAMES]
        u = call(*full)
        results.append([u, *torch.autograd.grad(u.square().sum(), [t for t in full if t is not None])])
    for mine, truth in zip(*results, strict=True):
        torch.testing.assert_close(mine, truth)
