"""Tens of thousands of stores and recalls: memory does not grow, and answers stay right. The million is ``python benchmarks/endurance.py``."""

import pytest
from endurance import SUBJECTS, endured


@pytest.mark.filterwarnings("ignore::hopfield_amem.layers.CapacityWarning")
@pytest.mark.parametrize("name", SUBJECTS)
def test_memory_does_not_grow(name):
    found = endured(name, 10_000)
    assert found["met"], found["growth"]
    assert found["worst"] > 0.95
