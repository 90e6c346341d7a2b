"""The generated kernels under random specs, shapes, dtypes and masks: the definition's numbers, or a refusal in words (few and small)."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

import torch
from fuzzing.cases import cases, mostly, presences, specs, tensors
from fuzzing.law import answered, hold
from fuzzing.limits import heard, overflows, relative, rounded, scored, steepness
from hypothesis import assume, given
from hypothesis import strategies as st

from hopfield_amem import retrieve
from hopfield_amem.kernels.explain import backends


@st.composite
def reads(draw):
    energy, dtype = draw(specs(learned=False)), draw(st.sampled_from((torch.float32, torch.bfloat16, torch.float16)))
    queries, slots, dim = draw(mostly((1, 17, 40), (0,))), draw(mostly((1, 17, 70), (0,))), draw(st.sampled_from((1, 17, 63)))
    positive = energy.similarity.nonnegative
    given = {
        "query": draw(tensors(2, queries, dim, dtype=dtype, positive=positive, scale=1.0)),
        "keys": draw(tensors(slots, dim, dtype=dtype, positive=positive, scale=1.0)),
        "values": draw(tensors(slots, 3, dtype=dtype)),
        "presence": draw(presences((2,), queries, slots)),
    }
    return energy, given, draw(st.sampled_from((False, True, 7)))


@cases(20)
@given(reads())
def test_reads(device, case):
    energy, given, causal = case
    assume("triton" in backends(energy))

    options = {"causal": causal, "steps": 1, "dropout": 0.0}

    def kernels(bias=None, **given):
        there = {name: None if t is None else t.to(device) for name, t in given.items()}
        return retrieve(energy, **there, causal=causal, backend="triton").cpu()

    given = given | {"bias": None}
    shown, scores = answered(lambda: heard(energy, given, options)), scored(energy, given, options)
    inside = torch.float32 if given["query"].dtype == torch.float32 else given["query"].dtype
    hold(
        kernels,
        lambda **given: retrieve(energy, **given, **options, backend="reference"),
        given,
        steepness(energy, given["query"], given["keys"]),
        inside=inside,
        shown=None if isinstance(shown, str) else shown,
        gradients=not overflows(energy, given, scores),
        nearby=rounded(energy, options, inside),
        relative=relative(energy, scores),
    )
