import sys
from pathlib import Path

import hypothesis
import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # whose modules are scripts, not a package

hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=2000, print_blob=True)  # twenty times as many, of another seed each time: make fuzz
hypothesis.settings.load_profile("repeatable")


def pytest_configure():
    torch.set_num_threads(1)  # tests run in parallel processes


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def poisoned():
    """Fresh memory is filled with NaN, so that a value that was never written shows."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def mostly_compared():
    """At least half of the cases of a fuzz test must come to a comparison with something that is neither empty nor zero."""
    from fuzzing.law import SEEN

    SEEN.clear()
    yield
    assert SEEN["compared"] >= SEEN.total() / 2, dict(SEEN)
