"""What the fuzz tests found, once each."""

import pytest
import torch

from hopfield_amem import Memory, ReadEnergy, associate, presets, retrieve
from hopfield_amem.energies import Blend, Dot, Epanechnikov, Exp, Log, Power, Rounded, Simplex, Tsallis
from hopfield_amem.layers import HopfieldFFN

BACKENDS = pytest.mark.parametrize("backend", ["reference", "chunked"])


@BACKENDS
def test_gradients_stay_numbers_where_the_sum_of_f_nearly_underflows(backend):
    """1/ΣF times a gradient was ∞, and 0 · ∞ NaN, at scores of −75 to −103 in float32."""
    for distance in torch.linspace(8, 15, 40):
        query = torch.full((1, 4), float(distance) / 2).requires_grad_()
        keys = torch.zeros(3, 4, requires_grad=True)
        read = retrieve(presets.hybrid(0.1, 1.0), query, keys, 30 * torch.eye(3), backend=backend)
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(read.sum(), (query, keys)))


def test_a_memory_that_forgets_has_gradients_where_it_nearly_forgot():
    """The same for what is divided by a sum of slopes."""
    memory = Memory(presets.hybrid(0.1, 37.0), decay="scalar")
    given = [t.requires_grad_() for t in (2 * torch.randn(17, 1), torch.randn(17, 1), 5 * torch.randn(17, 1), torch.rand(17))]
    read, _ = associate(memory, *given[:3], decay=given[3])
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(read.sum(), given))


@BACKENDS
@pytest.mark.parametrize("null", [False, True])
def test_a_sum_that_overflows_is_refused_and_does_not_read_zeros(backend, null):
    energy = ReadEnergy(Dot(), Power(4), Log(null_slot=null), beta=1e10)
    with pytest.raises(ValueError, match="overflowed"):
        retrieve(energy, torch.ones(1, 4), torch.ones(2, 4), 3 * torch.eye(2), backend=backend)


@pytest.mark.parametrize("separation", [Blend(Exp(), Epanechnikov(), 0.1), Rounded(1), Power(1)], ids=str)
def test_a_simplex_without_a_solution_is_refused(separation):
    """Σ F′(s − τ) = k jumps past k, or is n at every τ: weights summed to 50 instead of 2."""
    for total in (1, 2):
        with pytest.raises(ValueError, match="slope rises continuously from 0"):
            ReadEnergy(Dot(), separation, Simplex(total))


@pytest.mark.parametrize("separation", [Exp(), Tsallis(3.0), Tsallis(5.0)], ids=str)
def test_a_simplex_with_a_steep_slope_is_not(separation):
    weights = ReadEnergy(Dot(), separation, Simplex(2)).weights(torch.randn(3, 4, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64))
    torch.testing.assert_close(weights.sum(-1), torch.full((3,), 2.0, dtype=torch.float64))


@pytest.mark.filterwarnings("ignore::hopfield_amem.energies.UnstableWrite")
@pytest.mark.parametrize("backend", ["reference", "recurrent", "chunked"])
@pytest.mark.parametrize("name", ["longhorn", "delta_former", "mesa_net"])
def test_no_sequence_at_all_of_a_memory_that_all_share(name, backend):
    query, keys = torch.randn(0, 17, 5), torch.nn.functional.normalize(torch.randn(17, 5), dim=-1)
    assert associate(getattr(presets, name)(), query, keys, torch.randn(17, 3), backend=backend)[0].shape == (0, 17, 3)


def test_a_feed_forward_memory_says_when_it_overflows():
    layer = HopfieldFFN(8, 16, presets.squared_relu_feed_forward(1e4), dtype=torch.float16)
    with pytest.raises(ValueError, match=r"overflowed torch.float16"):
        layer(torch.full((2, 8), 3.0, dtype=torch.float16))
    with pytest.raises(ValueError, match="x holds NaN"):
        layer(torch.full((2, 8), torch.nan, dtype=torch.float16))


def test_a_beta_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match="positive and finite"):
        presets.log_sum_exp(10**400)
