"""What is remembered of the interpreter is what it would work out anew, refusals included."""

import pytest
import triton.language as tl
from triton.runtime import interpreter


@pytest.mark.parametrize("shape", [[16], [16, 32], [4, 1, 8]])
def test_blocks_are_the_same_the_second_time(shape):
    first, again = tl.block_type(tl.float32, shape), tl.block_type(tl.float32, list(map(tl.constexpr, shape)))
    other = tl.block_type(tl.int64, shape)
    assert first == again and first != other and first.numel == other.numel
    assert (first.name, other.name) == (f"<{first.shape}, fp32>", f"<{other.shape}, int64>")


@pytest.mark.parametrize(("shape", "error"), [([16.0], TypeError), ([16, 12], ValueError), ([], TypeError), ([2**20, 2], ValueError)])
def test_sizes_that_a_compiler_refuses_are_refused_however_often_their_like_was_seen(shape, error):
    tl.block_type(tl.float32, [16])
    for _ in range(2):
        with pytest.raises(error):
            tl.block_type(tl.float32, shape)


@pytest.mark.parametrize("kind", [tl.float32, tl.bfloat16, tl.int1, tl.int64])
def test_a_pointer_is_not_taken_for_what_it_points_to(kind):
    found = [interpreter._get_np_dtype(given) for given in (kind, tl.pointer_type(kind), tl.block_type(kind, [8]), kind)]
    assert found[0] == found[2] == found[3] and found[1] == interpreter._get_np_dtype(tl.uint64)
