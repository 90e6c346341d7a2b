"""What the fuzz tests found, once each."""

import pytest
import torch

from hopfield_amem import Memory, ReadEnergy, associate, presets, retrieve
from hopfield_amem.descent import FixedPoint
from hopfield_amem.energies import (
    Blend,
    ConjugatePower,
    Cosine,
    Dot,
    Epanechnikov,
    Euclidean,
    Exp,
    Free,
    Hypercube,
    ImplicitDelta,
    Inverse,
    JensenShannon,
    KullbackLeibler,
    Log,
    Manhattan,
    Power,
    RectifiedExp,
    RectifiedPower,
    ReverseKullbackLeibler,
    Rounded,
    Simplex,
    Sphere,
    Sum,
    TopK,
    Tsallis,
)
from hopfield_amem.layers import HopfieldAttention, HopfieldFFN

BACKENDS = pytest.mark.parametrize("backend", ["reference", "chunked"])


@BACKENDS
def test_gradients_stay_numbers_where_the_sum_of_f_nearly_underflows(backend):
    """1/ΣF times a gradient was ∞, and 0 · ∞ NaN, at scores of −75 to −103 in float32."""
    for distance in torch.linspace(8, 15, 40):
        query = torch.full((1, 4), float(distance) / 2).requires_grad_()
        keys = torch.zeros(3, 4, requires_grad=True)
        read = retrieve(presets.hybrid(0.1, 1.0), query, keys, 30 * torch.eye(3), backend=backend)
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(read.sum(), (query, keys)))


@BACKENDS
def test_small_sums_are_read_as_in_float64(backend):
    """Sums of F down to e⁻⁸⁰ are numbers of float32 whose reciprocals are numbers, too."""
    query, keys, values = 1e-4 * torch.randn(3, 8), 1e-4 * torch.randn(5, 8), torch.randn(5, 2)
    power = ReadEnergy(Dot(), Power(4), Log())
    shift = ReadEnergy(Euclidean(), Exp(), Sum(), Free())
    far = torch.tensor([[72.0], [75.0], [77.0]]).mul(2).sqrt()  # scores −72, −75, −77
    near = torch.tensor([[0.0], [-0.01]])

    def answers(kind):
        given = [t.to(kind).requires_grad_() for t in (query, keys, values, far, near)]
        read = retrieve(power, *given[:3], backend=backend)
        yield read
        yield from torch.autograd.grad(read.sum(), given[:3])
        yield retrieve(shift, given[3], given[4], given[2][:2], backend=backend)
        yield FixedPoint(steps=1)(shift, given[3], given[4], backend=backend).state
        yield FixedPoint(steps=1)(presets.hybrid(0.1, 1.0), given[3], given[4], backend=backend).state

    for mine, truth in zip(answers(torch.float32), answers(torch.float64), strict=True):
        assert truth.isfinite().all() and truth.abs().max() > 0
        torch.testing.assert_close(mine.double(), truth, rtol=1e-3, atol=1e-6)


def test_derivatives_of_a_steep_simplex_do_not_move_its_weights():
    """Newton's step away from the root, where a slot enters with a slope of infinity, made weights sum to 3 instead of 1."""
    energy = ReadEnergy(Dot(), ConjugatePower(12.0), Simplex())
    query, keys = torch.randn(2000, 4, dtype=torch.float64).requires_grad_(), torch.randn(9, 4, dtype=torch.float64)
    assert (energy.weights(query, keys).sum(-1) - 1).abs().max() < 0.1  # what 53 bits of a τ leave


@pytest.mark.parametrize("alpha", [13.0, 20.0])
def test_a_simplex_steeper_than_floats_is_refused(alpha):
    with pytest.raises(ValueError, match="no steeper than float64 can tell"):
        ReadEnergy(Dot(), ConjugatePower(alpha), Simplex())


def test_half_precision_has_small_sums_too():
    """Weights were all 0 in float16 wherever ΣF was below 4096."""
    score = torch.randn(3, 7).half()
    torch.testing.assert_close(Log().weights(RectifiedPower(2), score), Log().weights(RectifiedPower(2), score.float()).half(), rtol=5e-3, atol=5e-3)
    assert Log().weights(Power(2), torch.zeros(3, 7).half()).eq(0).all()
    layer = HopfieldAttention(8, energy=presets.epanechnikov(0.1), heads=2).half()
    assert (layer.association(torch.randn(1, 4, 8).half()).sum(-1) > 0.5).all()
    block = HopfieldFFN(8, 16, ReadEnergy(Euclidean(), Exp(), Sum(), Free(), beta=0.1), gated=True, dtype=torch.float16)
    tokens = torch.randn(4, 8).half()
    torch.testing.assert_close(block(tokens), block.float()(tokens.float()).half(), rtol=2e-2, atol=2e-2)
    query, keys = torch.randn(3, 4), torch.randn(5, 4)
    spec = ReadEnergy(Dot(), Power(2), Log())
    with torch.autocast("cpu", torch.float16):
        found = spec.weights(query, keys)
    torch.testing.assert_close(found.float(), spec.weights(query, keys), rtol=2e-2, atol=2e-2)


@BACKENDS
def test_a_sum_that_overflows_to_minus_infinity_is_refused(backend):
    """It gave weights of −0."""
    energy = ReadEnergy(Dot(), lambda s: (s + 31) ** 3, Log())
    with pytest.raises(ValueError, match="overflowed"):
        retrieve(energy, -1e7 * torch.ones(1, 4), 1e6 * torch.ones(2, 4), torch.eye(2), backend=backend)


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


@pytest.mark.parametrize("separation", [Exp(), Tsallis(3.0), Tsallis(5.0), ConjugatePower(2.5)], ids=str)
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


def test_a_feed_forward_memory_looks_at_its_parameters_only_when_a_result_is_not_finite(monkeypatch):
    """Sums of all parameters cost as much as the block itself."""
    layer, passes = HopfieldFFN(8, 16, presets.relu_feed_forward()), []
    named = layer.named_parameters
    monkeypatch.setattr(layer, "named_parameters", lambda: passes.append(1) or named())
    layer(torch.randn(2, 8))
    assert not passes
    with torch.no_grad():
        layer.values.bias[3] = torch.nan
    with pytest.raises(ValueError, match=r"values.bias holds NaN or Inf \(first at index \(3,\)\)"):
        layer(torch.randn(2, 8))


def test_a_beta_beyond_all_floats_is_refused():
    with pytest.raises(ValueError, match="positive and finite"):
        presets.log_sum_exp(10**400)


def test_a_zero_vector_has_no_direction_in_half_precision():
    """torch's least length is 0 in float16, and 0 / 0 is NaN."""
    for dtype in (torch.float16, torch.bfloat16):
        assert Cosine()(torch.ones(2, 3, dtype=dtype), torch.zeros(1, 3, dtype=dtype)).eq(0).all()


DISTANCES = (Euclidean(), Manhattan(), KullbackLeibler(), ReverseKullbackLeibler(), JensenShannon())


@pytest.mark.parametrize("similarity", DISTANCES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_no_distance_is_below_zero(similarity, dtype):
    """By rounding those of a pattern from itself were: down to −10⁻⁷ in float32."""
    patterns = torch.rand(50, 30).to(dtype)
    assert similarity(patterns, patterns).amax() == 0
    state = patterns.clone().requires_grad_()
    step = torch.autograd.grad(similarity(state, patterns).diagonal().sum(), state)[0]
    assert step.isfinite().all() and step.abs().max() <= 8 * 30 * torch.finfo(dtype).eps * (2 if similarity.inner else 30)  # 0, where the maximum is


@BACKENDS
@pytest.mark.parametrize("similarity", [s for s in DISTANCES if s.steps], ids=str)
@pytest.mark.parametrize("separation", [RectifiedPower(1), RectifiedPower(3), RectifiedExp()], ids=str)
def test_a_rectified_f_reads_nothing_of_a_distance(similarity, separation, backend):
    """F′ is 0 at every score there is, and Log divided what rounding left by its own sum."""
    patterns = torch.rand(50, 30)
    for scaling in (Sum(), Log(), TopK(3)):
        energy = ReadEnergy(similarity, separation, scaling)
        torch.testing.assert_close(retrieve(energy, patterns, patterns, backend=backend), patterns, rtol=0, atol=0)
        assert retrieve(energy, patterns, patterns, torch.ones(50, 1), backend=backend).eq(0).all()
        assert energy.weights(patterns.half(), patterns.half()).eq(0).all()


def test_a_gradient_beyond_float16_is_found_by_a_scaler():
    """It is infinite and then NaN, as in every module of torch; set to the largest float16, it would be a wrong step that nobody sees."""
    layer, tokens = HopfieldAttention(20, 1, ReadEnergy(Dot(), RectifiedPower(3), Sum(), Hypercube(), 42.0)), 0.3 * torch.randn(3, 5, 20)
    with torch.autocast("cpu", torch.float16):
        read = layer(tokens)
    assert read.isfinite().all()
    before, optimizer, scaler = layer.query.weight.clone(), torch.optim.SGD(layer.parameters(), 1.0), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    scaler.scale(read.float().sum()).backward()
    assert layer.query.weight.grad.isnan().any()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() < 2**10 and torch.equal(layer.query.weight, before)


@pytest.mark.parametrize("backend", ["reference", "recurrent", "chunked"])
@pytest.mark.parametrize("null", [False, True])
def test_a_memory_that_averages_is_read_from_afar(null, backend):
    """Beside an empty slot, whose F of 1 the average cancels, scores below −745 read zeros where torch's fused attention served."""
    memory = Memory(ReadEnergy(Euclidean(), Exp(), Log(null_slot=null), Free()))
    keys, values = torch.randn(3, 17, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    read, _ = associate(memory, keys + 10, keys, values, backend=backend)
    torch.testing.assert_close(read, memory.read.scores(keys + 10, keys).masked_fill(torch.ones(3, 3).triu(1) > 0, -torch.inf).softmax(-1) @ values)


def test_gradients_of_a_simplex_whose_slot_enters_steeply():
    """What rounding left of Σ p − 1, 1.7e-5, times F‴ at a weight of 4e-4 was taken for a derivative of τ: gradients were three times too large."""
    energy = ReadEnergy(Dot(), Tsallis(3.0), Simplex())
    for gap in torch.linspace(0.49999, 0.5, 200, dtype=torch.float64):  # the second slot enters at 1/2

        def gradient(dtype, gap=gap):
            score = torch.tensor([[0.0, -float(gap)]], dtype=dtype, requires_grad=True)
            weights = energy.scaling.weights(energy.separation, score)
            return torch.autograd.grad(weights[0, 1], score)[0]

        assert gradient(torch.float32).abs().max() < 1.1, float(gap)


@pytest.mark.parametrize("energy", [presets.k_subsets(2), presets.fermi_dirac(2)], ids=["k-subsets", "Fermi–Dirac"])
@pytest.mark.parametrize("beta", [1.0, 1e2, 1e4, 1e6])
def test_k_weights_sum_to_k_at_every_temperature(energy, beta):
    """τ was sought among scores relative to the largest: between equal scores far below it, no τ of float32 made the weights sum to k."""
    steps = torch.randn(200, 63).mul(4).round() / 4
    score = beta * torch.cat([steps, steps.amax(-1, keepdim=True) + 10], -1)
    weights = energy.scaling.weights(energy.separation, score)
    torch.testing.assert_close(weights.sum(-1), torch.full((200,), 2.0), rtol=1e-6, atol=0)
    torch.testing.assert_close(weights.double(), energy.scaling.weights(energy.separation, score.double()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "recurrent", "chunked"])
def test_gradients_of_an_implicit_write_whose_kernel_leaves_the_range(backend):
    """κ(k, k) = e²⁸⁰⁰ makes a rate of 0, whose gradient was 0 · ∞."""
    memory = Memory(ReadEnergy(Inverse(Euclidean(), 0.01), Exp(), Sum(), Sphere(), beta=28.0), ImplicitDelta())
    query, keys, values = (torch.tensor(rows, dtype=torch.float64, requires_grad=True) for rows in ([[0.2], [1.9]], [[1.0], [4.0]], [[0.4], [0.7]]))
    read, _ = associate(memory, query, keys, values, backend=backend)
    assert read.isfinite().all() and all(slope.isfinite().all() for slope in torch.autograd.grad(read.sum(), (query, keys, values)))
