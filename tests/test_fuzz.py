"""Random reads, of any spec, shape, dtype, layout, mask and backend: the definition's numbers, or a refusal in words. ``make fuzz`` draws many more."""

from importlib import import_module
from unittest import mock

import pytest
import torch
from fuzzing.cases import DTYPES, LEADS, NO_LEAD, cases, mostly, presences, specs, tensors
from fuzzing.law import answered, hold, precision
from fuzzing.limits import heard, moved_bias, ordinary, overflows, relative, rounded, scored, steepness
from hypothesis import assume, given
from hypothesis import strategies as st

from hopfield_amem import ReadEnergy, explain, presets, retrieve
from hopfield_amem.energies import Dot, Epanechnikov, Exp, Gelu, Log, Power, RectifiedPower, Sum
from hopfield_amem.kernels import fused

door = import_module("hopfield_amem.kernels.retrieve")  # the module, which its function hides


@st.composite
def reads(draw):
    """Everything that ``retrieve`` takes."""
    energy, dtype, (first, second) = draw(specs()), draw(st.sampled_from(DTYPES)), draw(mostly(LEADS, (NO_LEAD,)))
    queries, slots = draw(mostly((1, 2, 17, 63), (0,))), draw(mostly((1, 2, 17, 63, 100), (0,)))
    dim = draw(st.sampled_from((1, 17, 63, 100)))
    positive = energy.similarity.nonnegative
    given = {
        "query": draw(tensors(*first, queries, dim, dtype=dtype, positive=positive)),
        "keys": draw(tensors(*second, slots, dim, dtype=dtype, positive=positive)),
        "values": draw(st.none() | tensors(*draw(st.sampled_from(((), second))), slots, draw(st.sampled_from((1, 3, dim))), dtype=dtype)),
        "bias": draw(st.none() | st.none() | tensors(1, slots, dtype=dtype).map(lambda t: t[0])),
        "presence": draw(presences(torch.broadcast_shapes(first, second), queries, slots)),
    }
    options = {
        "causal": draw(st.sampled_from((False, False, True, 1, 7))), "steps": draw(st.sampled_from((1, 1, 2, 3))),
        "dropout": draw(st.sampled_from((0.0, 0.0, 0.0, 0.4))),
    }  # fmt: skip
    return energy, given, options, draw(st.sampled_from(("auto", "reference", "chunked", "chunked")))


@pytest.mark.usefixtures("mostly_compared")
@cases(180)
@given(reads())
def test_reads(case):
    energy, given, options, backend = case
    shown = answered(lambda: heard(energy, given, options))
    scores = scored(energy, given, options)
    hold(
        lambda **given: retrieve(energy, **given, **options, backend=backend),
        lambda **given: retrieve(energy, **given, **options, backend="reference"),
        given,
        max(1.0, steepness(energy, given["query"], given["keys"])) ** options["steps"],  # a gradient passes every step
        shown=None if isinstance(shown, str) else shown,
        gradients=not overflows(energy, given, scores),
        nearby=rounded(energy, options, precision(given["query"].dtype)),
        relative=relative(energy, scores),
    )


@pytest.mark.parametrize("separation", [Exp(), RectifiedPower(2)], ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("soft", [False, True])
def test_an_empty_slot_stands_beside_the_slots_on_every_path(separation, dropout, soft):
    """Fused, in tiles, and with what sends a read from one to the other: too rare among random cases."""
    energy, options = ReadEnergy(Dot(), separation, Log(null_slot=True)), {"dropout": dropout}
    given = {"query": torch.randn(5, 3), "keys": torch.randn(9, 3), "values": torch.randn(9, 2), "presence": torch.rand(9) if soft else None}
    chunked, reference = (lambda backend=backend, **given: retrieve(energy, **given, **options, backend=backend) for backend in ("chunked", "reference"))
    hold(chunked, reference, given)


@st.composite
def methods(draw):
    """A read energy whose own methods are asked, in the dtype that is given: nothing computes in float32 inside."""
    energy, dtype = draw(specs(learned=False)), draw(st.sampled_from((*DTYPES, torch.float16)))
    energy, dim, slots = energy.at(10.0 ** draw(st.floats(-2, 0.5))), draw(st.sampled_from((1, 3, 8))), draw(st.sampled_from((1, 2, 17)))
    positive = energy.similarity.nonnegative
    given = {
        "query": draw(tensors(5, dim, dtype=dtype, positive=positive, scale=1.0)),
        "keys": draw(tensors(slots, dim, dtype=dtype, positive=positive, scale=1.0)),
    }
    name = draw(st.sampled_from(("weights", "settle", "read")))
    return energy, name, given | ({"values": draw(tensors(slots, 3, dtype=dtype, scale=1.0))} if name == "read" else {})


@pytest.mark.usefixtures("mostly_compared")
@cases(100)
@given(methods())
def test_methods_of_a_read_energy(case):
    energy, name, given = case
    assume(ordinary(energy, given["query"], given["keys"]))
    bound = getattr(energy, name)

    def method(query, keys, values=None, bias=None):
        return bound(query, keys, bias=bias) if values is None else bound(query, keys, values, bias=bias)

    dtype = given["query"].dtype
    hold(
        method,
        method,
        given,
        steepness(energy, given["query"], given["keys"]),
        inside=dtype,
        gradients=False,
        nearby=lambda seed: lambda **given: method(**given, bias=moved_bias(energy, given, None, dtype, seed)),
    )


@pytest.mark.parametrize("separation", [Exp(), Epanechnikov(), Power(2), RectifiedPower(2), Gelu()], ids=str)
@pytest.mark.parametrize("scaling", [Sum(), Log(), Log(null_slot=True)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_of_every_dtype_are_those_of_float64(separation, scaling, dtype):
    """Sums of F between 1 and 20 are numbers of every dtype."""
    energy = answered(lambda: ReadEnergy(Dot(), separation, scaling))
    if isinstance(energy, str):  # no logarithm of a negative F
        return
    query, keys = torch.rand(4, 3).to(dtype), torch.rand(9, 3).to(dtype)
    weights, truth = energy.weights(query, keys), energy.weights(query.double(), keys.double())
    assert (truth > 0).any()
    torch.testing.assert_close(weights.double(), truth, rtol=32 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


def test_a_refusal_of_what_the_definition_answers_counts_as_wrong():
    def refusing(query, keys):
        raise ValueError("The retrieval overflowed torch.float32: F(β S) is too large for these patterns. Use a smaller beta.")

    given = {"query": torch.randn(2, 3), "keys": torch.randn(4, 3)}
    with pytest.raises(AssertionError, match="where the definition answers"):
        hold(refusing, lambda query, keys: retrieve(presets.log_sum_exp(), query, keys), given)
    hold(refusing, refusing, given)


@cases(30)
@given(specs(), st.sampled_from(("auto", "reference", "chunked")), st.sampled_from((3, 300)))
def test_what_explain_says_serves_a_read(energy, backend, slots):
    """The path that is opened is the one that was named, and torch's fused attention runs where it was promised."""
    query, keys = torch.rand(5, 8), torch.rand(slots, 8)
    said, taken, fused_runs = explain(energy, query, keys, backend=backend), [], []
    opened, fused_forward = door.opened, fused.forward

    def recorded(name):
        taken.append(name)
        return opened(name)

    def fused_recorded(*arguments):
        fused_runs.append(True)
        return fused_forward(*arguments)

    with mock.patch.object(door, "opened", recorded), mock.patch.object(fused, "forward", fused_recorded):
        answered(lambda: retrieve(energy, query, keys, torch.rand(slots, 2), backend=backend))
    assert taken == [said.backend] and backend in ("auto", said.backend)
    assert bool(fused_runs) == (said.engine == "torch fused attention")
