"""Random specs, shapes, dtypes, layouts, masks and backends: the definition's numbers, or a refusal in words. ``make fuzz`` draws many more."""

from importlib import import_module
from unittest import mock

import pytest
import torch
from fuzzing import (
    DTYPES,
    LEADS,
    NO_LEAD,
    SEEN,
    answered,
    cases,
    coarse,
    far,
    heard,
    hold,
    mostly,
    ordinary,
    overflows,
    presences,
    specs,
    steepness,
    tensors,
    vanishes,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn.functional import normalize

from hopfield_amem import MEMORIES, Memory, ReadEnergy, associate, explain, presets, retrieve
from hopfield_amem.energies import Delta, Dot, Epanechnikov, Exp, Gelu, ImplicitDelta, Log, Power, RectifiedPower, Sum
from hopfield_amem.kernels import fused
from hopfield_amem.layers import HopfieldAttention, HopfieldFFN, HopfieldLookup, HopfieldPooling

door = import_module("hopfield_amem.kernels.retrieve")  # the module, which its function hides
pytestmark = pytest.mark.filterwarnings("ignore::hopfield_amem.energies.UnstableWrite")


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


@pytest.fixture
def mostly_compared():
    """At least half of the cases of a test must come to a comparison with something that is neither empty nor zero."""
    SEEN.clear()
    yield
    assert SEEN["compared"] >= SEEN.total() / 2, dict(SEEN)


@pytest.mark.usefixtures("mostly_compared")
@cases(180)
@given(reads())
def test_reads(case):
    energy, given, options, backend = case
    assume(not coarse(energy, given))
    shown = answered(lambda: heard(energy, given, options["causal"], options["steps"]))
    hold(
        lambda **given: retrieve(energy, **given, **options, backend=backend),
        lambda **given: retrieve(energy, **given, **options, backend="reference"),
        given,
        max(1.0, steepness(energy, given["query"], given["keys"])) ** options["steps"],  # a gradient passes every step
        shown=None if isinstance(shown, str) else shown,
        gradients=not overflows(energy, given),
    )


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
    assume(not coarse(energy, given) and ordinary(energy, given["query"], given["keys"]))
    method = getattr(energy, name)
    hold(method_of(method), method_of(method), given, steepness(energy, given["query"], given["keys"]), inside=given["query"].dtype, gradients=False)


def method_of(method):
    """With the names that ``given`` has."""
    return lambda query, keys, values=None: method(query, keys) if values is None else method(query, keys, values)


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


@st.composite
def memories(draw) -> Memory:
    """A cell of the table, or one of its own."""
    if draw(st.booleans()):
        return MEMORIES[draw(st.sampled_from(sorted(MEMORIES)))]
    read, write, decay = draw(specs()), draw(st.sampled_from((None, Delta(), ImplicitDelta()))), draw(st.sampled_from((None, "scalar")))
    found = answered(lambda: Memory(read, *(() if write is None else (write,)), decay=decay))
    return found if isinstance(found, Memory) else Memory(read, decay=decay)


@st.composite
def sequences(draw):
    """Everything that ``associate`` takes, and where the sequence is cut in two, the state being handed on. Erased is at unit keys, so that it contracts."""
    memory, dtype, (first, second) = draw(memories()), draw(st.sampled_from(DTYPES)), draw(mostly(LEADS, (NO_LEAD,)))
    length, dim = draw(mostly((1, 2, 17, 63, 100), (0,))), draw(st.sampled_from((1, 5, 17, 63)))
    positive = memory.read.similarity.nonnegative
    amount = st.integers(0, 99).map(lambda seed: torch.rand(*second, length, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype))
    keys = draw(tensors(*second, length, dim, dtype=torch.float64, positive=positive, scale=1.0))
    given = {
        "query": draw(tensors(*first, length, dim, dtype=dtype, positive=positive, scale=1.0)),
        "keys": normalize(keys, dim=-1).to(dtype),
        "values": draw(tensors(*second, length, draw(st.sampled_from((1, 3, dim))), dtype=dtype)),
        "rate": draw(st.none() | amount),
        "presence": draw(st.none() | amount.map(lambda t: t > 0.3)),
        "decay": None
        if memory.decay is None
        else draw(amount)
        if memory.decay == "scalar"
        else draw(tensors(*second, length, dim, dtype=dtype, scale=1.0)).sigmoid(),
    }
    return memory, given, draw(st.integers(0, length)), draw(st.sampled_from(("auto", "reference", "recurrent", "chunked", "chunked")))


def written(memory: Memory, cut: int, backend: str):
    """Outputs of a sequence that is written in two parts."""

    def run(**given):
        def part(rows):
            along = {name: -2 if name in ("query", "keys", "values") or (name == "decay" and memory.decay == "channel") else -1 for name in given}
            return {name: None if t is None else t.narrow(along[name], *rows) for name, t in given.items()}

        length = given["keys"].shape[-2]
        before, state = associate(memory, **part((0, cut)), backend=backend)
        after, _ = associate(memory, **part((cut, length - cut)), state=state, backend=backend)
        return torch.cat([before, after], -2)

    return run


@pytest.mark.usefixtures("mostly_compared")
@cases(80)
@given(sequences())
def test_writes(case):
    memory, given, cut, backend = case
    assume(not coarse(memory.read, given) and not far(memory.read, given["query"], given["keys"]))
    steep = steepness(memory.read, given["query"], given["keys"])
    hold(written(memory, cut, backend), written(memory, cut, "reference"), given, steep, shown=given["presence"])


@st.composite
def modules(draw):
    """A layer, and what it is given: tokens, a mask, and parameters."""
    energy, dtype, dim, heads = draw(specs(learned=False)), draw(st.sampled_from(DTYPES)), draw(st.sampled_from((8, 20))), draw(st.sampled_from((1, 4)))
    kind, length = draw(st.sampled_from(("attention", "pooling", "lookup", "feed-forward"))), draw(mostly((1, 17, 63), (0,)))
    makers = {
        "attention": lambda: HopfieldAttention(dim, heads, energy, dtype=dtype),
        "pooling": lambda: HopfieldPooling(dim, heads, energy, queries=3, dtype=dtype),
        "lookup": lambda: HopfieldLookup(dim, 30, energy, values=5, dtype=dtype),
        "feed-forward": lambda: HopfieldFFN(dim, 40, energy, dtype=dtype),
    }
    torch.manual_seed(draw(st.integers(0, 99)))
    layer = answered(makers[kind])
    lead = draw(mostly(((), (3,), (2, 2)), ((0,),)))
    tokens = draw(tensors(*lead, length, dim, dtype=dtype, scale=1.0))
    options = {}
    if kind in ("attention", "pooling") and draw(st.booleans()):
        options["presence"] = torch.rand(*lead, length, generator=torch.Generator().manual_seed(length)) > 0.5
    if kind == "attention":
        options["causal"] = draw(st.sampled_from((False, True, 5)))
    return layer, {"tokens": tokens}, options


@pytest.mark.usefixtures("mostly_compared")
@cases(60)
@given(modules())
def test_layers(case):
    layer, given, options = case
    if isinstance(layer, str):  # a refusal in words
        return

    def run(tokens, **parameters):
        return functional_call(layer, parameters, (tokens,), options)

    given |= {name: parameter.detach() for name, parameter in layer.named_parameters()}
    dtype = given["tokens"].dtype
    assume(not vanishes(layer.given, dtype))  # scores lie inside, so that nobody can say whether float32 counts a read as nothing
    hold(run, run, given, steepness(layer.given, *given.values()), inside=dtype)


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
