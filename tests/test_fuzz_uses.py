"""Random sequences that are written and read, and random layers: the definition's numbers, or a refusal in words."""

import pytest
import torch
from fuzzing.cases import DTYPES, LEADS, NO_LEAD, cases, mostly, specs, tensors
from fuzzing.law import answered, hold
from fuzzing.limits import far, remembered, steepness, vanishes
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.func import functional_call
from torch.nn.functional import normalize

from hopfield_amem import MEMORIES, Memory, associate
from hopfield_amem.energies import Delta, ImplicitDelta
from hopfield_amem.layers import HopfieldAttention, HopfieldFFN, HopfieldLookup, HopfieldPooling

pytestmark = pytest.mark.filterwarnings("ignore::hopfield_amem.energies.UnstableWrite")


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
    assume(not far(memory.read, given["query"], given["keys"]))
    steep = steepness(memory.read, given["query"], given["keys"])
    shown = remembered(memory, given)
    shown = given["presence"] if shown is None else shown if given["presence"] is None else shown & given["presence"]
    hold(written(memory, cut, backend), written(memory, cut, "reference"), given, steep, shown=shown)


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
