"""Every memory of the table written and read by kernels, against the definition in float64."""

import pytest
import torch
from torch.nn.functional import normalize

from hopfield_amem import MEMORIES, Memory, ReadEnergy, associate, explain, presets
from hopfield_amem.energies import Delta, Dot, Exp, Log, Sum

INEXACT = 1e-5


def soft_square(score):
    return torch.nn.functional.softplus(score) ** 2


CELLS = {
    **{name: memory for name, memory in MEMORIES.items() if name != "delta_entmax"},
    "linear_attention": Memory(presets.linear_attention()),
    "entmax, Hebbian": Memory(presets.entmax(1.5)),
    "delta_former, relu": presets.delta_former(prediction=presets.relu_feed_forward()),
    "delta_former, decaying": Memory(presets.softmax1(), Delta(), decay="scalar"),
    "Epanechnikov reads linear writes": Memory(presets.epanechnikov(0.1), Delta(), presets.linear_attention(), decay="scalar"),
    "own F": Memory(ReadEnergy(Dot(), soft_square, Log()), Delta()),
    "exp": Memory(ReadEnergy(Dot(), Exp(), Sum(), beta=0.5), Delta(), presets.linear_attention(), decay="scalar"),
}


def given(memory, length, device, lead=(2, 2), width=16, columns=16):
    shape = (*lead, length)
    tensors = {
        "query": torch.randn(*shape, width),
        "keys": normalize(torch.randn(*shape, width), dim=-1),
        "values": torch.randn(*shape, columns),
        "rate": torch.rand(shape),
    }
    if memory.decay:
        tensors["decay"] = 0.6 + 0.4 * torch.rand(*shape, *([width] if memory.decay == "channel" else []))
    return {name: t.to(device) for name, t in tensors.items()}


def run(memory, tensors, backend, cut=None):
    """Output, state and gradients, in one pass or in two with a state carried over."""
    leaves = {name: t.detach().clone().requires_grad_() for name, t in tensors.items()}
    parts = [slice(None)] if cut is None else [slice(cut), slice(cut, None)]
    outputs, state = [], None
    for part in parts:
        flat = {"rate", *(["decay"] if memory.decay == "scalar" else [])}
        pieces = {n: t[..., part] if n in flat else t[..., part, :] for n, t in leaves.items()}
        output, state = associate(memory, **pieces, state=state, backend=backend)
        outputs.append(output)
    results = [torch.cat(outputs, -2), *(t for t in state if t is not None and t.is_floating_point())]
    loss = sum((t * torch.linspace(0.5, 1.5, t.numel(), device=t.device).view(t.shape).to(t.dtype)).sum() for t in results)
    grads = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return [*(t.detach() for t in results), *(torch.zeros_like(t) if g is None else g for g, t in zip(grads, leaves.values(), strict=True))]


def compare(memory, tensors, cut=None, inexact=INEXACT):
    truth = run(memory, {n: t.double() for n, t in tensors.items()}, "reference")
    plain = run(memory, tensors, "reference")
    for expected, came, own in zip(truth, run(memory, tensors, "triton", cut), plain, strict=True):
        assert came.isfinite().all()
        error, allowed = float((came.double() - expected).norm()), 3 * float((own.double() - expected).norm())
        assert error <= inexact * max(1.0, float(expected.norm())) + allowed


@pytest.mark.parametrize("length", [17, 70])
@pytest.mark.parametrize("name", CELLS)
def test_kernels_are_the_definition(name, length, device):
    memory = CELLS[name]
    step = "epanechnikov" in name.lower()  # its weights are steps, of gradient 0: kernels leave the rounding of terms that cancel
    compare(memory, given(memory, length, device), inexact=1e-3 if step else INEXACT)


@pytest.mark.parametrize("cut", [1, 40])
@pytest.mark.parametrize("name", ["delta_net", "kimi_delta_attention", "mesa_net", "delta_former", "delta_former_linear", "forgetting_attention", "own F"])
def test_a_state_is_carried(name, cut, device):
    memory = CELLS[name]
    compare(memory, given(memory, 41, device), cut)


@pytest.mark.parametrize("name", ["gated_delta_net", "delta_former", "forgetting_attention"])
def test_groups_padding_and_wide_values(name, device):
    memory = CELLS[name]
    tensors = given(memory, 20, device, lead=(2, 1, 1), columns=40)
    tensors["query"] = torch.randn(2, 1, 3, 20, 16, device=device)
    compare(memory, tensors)
    there = torch.arange(20, device=device) >= 5
    padded = associate(memory, **tensors, presence=there, backend="triton")[0]
    short = {n: t[..., 5:] if n in ("rate", "decay") else t[..., 5:, :] for n, t in tensors.items()}
    torch.testing.assert_close(padded[..., 5:, :], associate(memory, **short, backend="triton")[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gated_delta_net", "delta_former"])
def test_halves(name, device):
    memory = CELLS[name]
    tensors = {n: t if n in ("rate", "decay") else t.bfloat16() for n, t in given(memory, 50, device).items()}
    output = associate(memory, **tensors, backend="triton")[0]
    truth = associate(memory, **{n: t.double() for n, t in tensors.items()}, backend="reference")[0]
    assert output.dtype == torch.bfloat16
    assert float((output.double() - truth).norm()) <= 2e-2 * float(truth.norm())


def test_what_kernels_refuse(device):
    tensors = given(MEMORIES["delta_entmax"], 9, device)
    with pytest.raises(ValueError, match=r"predicts with Sum\(\) or Log\(\)"):
        associate(MEMORIES["delta_entmax"], **tensors, backend="triton")
    assert "triangular system" in str(explain(MEMORIES["delta_former"], tensors["query"], tensors["keys"], backend="triton"))
