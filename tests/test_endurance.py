"""Tens of thousands of stores and recalls: the objects held do not grow, and answers stay right. The million is ``python benchmarks/endurance.py``."""

import pytest
from endurance import LIMITS, SUBJECTS, endured


@pytest.mark.filterwarnings("ignore::hopfield_amem.layers.CapacityWarning")
@pytest.mark.parametrize("name", SUBJECTS)
def test_memory_does_not_grow(name):
    found = endured(name, 10_000)
    assert found["growth"]["objects"] <= LIMITS["objects"], found["growth"]  # the resident size of a process that other tests share says nothing
    assert found["worst"] > 0.95
