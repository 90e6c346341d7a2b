"""Similarities of distributions, and the Universal Hopfield table: every similarity with every separation, at exact, masked and noisy queries."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from hopfield_amem import ReadEnergy, explain, presets, retrieve
from hopfield_amem.descent import FixedPoint, Flow, GradientDescent
from hopfield_amem.energies import (
    Activation,
    ConjugatePower,
    Cosine,
    Dot,
    Epanechnikov,
    Euclidean,
    Exp,
    Inverse,
    JensenShannon,
    KullbackLeibler,
    Log,
    Manhattan,
    NormalisedDot,
    Power,
    Probability,
    Quadratic,
    RectifiedPower,
    ReverseKullbackLeibler,
    Simplex,
    Sum,
    TopK,
    Tsallis,
)
from hopfield_amem.testing import check_energy

close = torch.testing.assert_close
DOUBLE = {"dtype": torch.float64}
DIVERGENCES = (KullbackLeibler(), ReverseKullbackLeibler(), JensenShannon())
DISTANCES = (Manhattan(), Euclidean(), *DIVERGENCES)
PRODUCTS = (Dot(), NormalisedDot(), Cosine())
INVERSES = tuple(Inverse(distance) for distance in DISTANCES)

# The separation of the table is the weight of a slot, so that F is its integral.
POWERS = {
    "identity": Power(2),
    "square root": ConjugatePower(3.0),
    "logarithm": Activation(lambda s: s.relu().log1p()),
    "square": Power(3),
    "cube": Power(4),
    "quartic": Power(5),
    "ten": Power(11),
    "rectified": RectifiedPower(4),
}
NEAR = {"softmax": (Exp(), Log()), "max": (Exp(), TopK(1)), "entmax": (Tsallis(1.5), Simplex()), "kernel": (Tsallis(2.0), Log())}
TABLE = {
    **{f"{s}, {name}": ReadEnergy(s, f, Sum()) for s in PRODUCTS + INVERSES for name, f in POWERS.items()},
    **{f"{s}, {name}": ReadEnergy(s, f, q, beta=8.0 if name != "kernel" else 2.0) for s in PRODUCTS + DISTANCES for name, (f, q) in NEAR.items()},
}


def patterns(count=9, dim=24):
    """Images in [0, 1] of unit norm, so that no inner product is larger than that of a pattern with itself."""
    images = torch.rand(count, dim, generator=torch.Generator().manual_seed(4), **DOUBLE).square()
    return torch.nn.functional.normalize(images, dim=-1)


def damaged(keys):
    """Exact, half-masked and noisy copies."""
    masked = keys.clone()
    masked[:, keys.shape[-1] // 2 :] = 0
    noise = 0.05 * torch.randn(keys.shape, generator=torch.Generator().manual_seed(5), **DOUBLE)
    return {"exact": keys, "masked": masked, "noisy": (keys + noise).clamp_min(0)}


@pytest.mark.parametrize("name", TABLE)
def test_the_universal_hopfield_table(name):
    energy, keys = TABLE[name], patterns()
    values = torch.eye(len(keys), **DOUBLE)
    for kind, query in damaged(keys).items():
        given = [t.clone().requires_grad_() for t in (query, keys, values)]
        read = retrieve(energy, *given)
        assert read.isfinite().all(), kind
        assert energy(query, keys).isfinite().all() or not energy.weights(query, keys).any(-1).all()
        grads = torch.autograd.grad((read * torch.linspace(1, 2, 9, **DOUBLE)).sum(), given, allow_unused=True)
        assert all(grad is None or grad.isfinite().all() for grad in grads), kind
        if kind == "exact":
            assert torch.equal(read.argmax(-1), torch.arange(len(keys)))
        if energy.similarity.steps:
            assert retrieve(energy, query, keys).isfinite().all() and retrieve(energy, query, keys, keys).isfinite().all()


@pytest.mark.parametrize("similarity", DISTANCES, ids=str)
def test_float32_reads_exact_queries_without_nan(similarity):
    """One over a distance of zero is what breaks elsewhere; so does a logarithm of an empty pixel."""
    keys = patterns(40, 64).float()
    keys = torch.where(keys < keys.median(), 0.0, keys)
    for energy in (ReadEnergy(similarity, Exp(), Log(), beta=50.0), ReadEnergy(Inverse(similarity), Power(4), Sum())):
        query = keys.clone().requires_grad_()
        read = retrieve(energy, query, keys, torch.eye(40))
        assert read.isfinite().all() and torch.equal(read.argmax(-1), torch.arange(40))
        assert torch.autograd.grad(read.diagonal().sum(), query)[0].isfinite().all()


def test_jensen_shannon_recognises_half_masked_patterns():
    keys = patterns(60, 100)
    query = damaged(keys)["masked"]
    assert torch.equal(retrieve(presets.jensen_shannon(50.0), query, keys, torch.eye(60, **DOUBLE)).argmax(-1), torch.arange(60))


def test_divergences_are_scipys():
    x, k = torch.rand(4, 7, **DOUBLE), torch.rand(5, 7, **DOUBLE)
    tiny = 1e-15
    for i in range(4):
        for j in range(5):
            assert float(-KullbackLeibler(tiny)(x, k)[i, j]) == pytest.approx(entropy(k[j], x[i]), abs=1e-12)
            assert float(-ReverseKullbackLeibler(tiny)(x, k)[i, j]) == pytest.approx(entropy(x[i], k[j]), abs=1e-12)
            assert float(-JensenShannon(tiny)(x, k)[i, j]) == pytest.approx(jensenshannon(x[i], k[j]) ** 2, abs=1e-12)
            assert float(NormalisedDot(tiny)(x, k)[i, j]) == pytest.approx(float(x[i] @ k[j] / x[i].sum() / k[j].sum()))


def test_divergences_see_proportions_only_and_never_blow_up():
    x, k = torch.rand(4, 7, **DOUBLE), torch.rand(5, 7, **DOUBLE)
    one = torch.eye(7, **DOUBLE)
    for similarity in DIVERGENCES:
        close(similarity(3 * x, k), similarity(x, 7 * k), rtol=1e-9, atol=1e-12)
        close(similarity(x, x).diagonal(), torch.zeros(4, **DOUBLE), rtol=0, atol=1e-14)
        far = similarity(one, one)
        assert far.isfinite().all() and similarity(torch.zeros(1, 7, **DOUBLE), k).isfinite().all()
    close(JensenShannon()(one, one)[0, 1], torch.tensor(-math.log(2), **DOUBLE), rtol=0, atol=2e-4)


INSIDE = Probability(1e-3)
LAWFUL = {
    "KL": ReadEnergy(KullbackLeibler(), Exp(), Log(), INSIDE, 3.0),
    "reverse KL": ReadEnergy(ReverseKullbackLeibler(), Exp(), Log(), INSIDE, 3.0),
    "Jensen-Shannon": ReadEnergy(JensenShannon(), Exp(), Log(), INSIDE, 3.0),
    "KL, entmax": ReadEnergy(KullbackLeibler(), Tsallis(1.5), Simplex(), INSIDE, 2.0),
    "reverse KL, kernel": ReadEnergy(ReverseKullbackLeibler(), Epanechnikov(), Log(), INSIDE, 0.2),
    "normalised dot": ReadEnergy(NormalisedDot(), RectifiedPower(3), Sum(), INSIDE),
    "inverse JS": ReadEnergy(Inverse(JensenShannon(), 0.3), Power(3), Sum(), INSIDE),
    "inverse L1": ReadEnergy(Inverse(Manhattan(), 0.3), Power(3), Sum()),
    "dot among distributions": ReadEnergy(Dot(), Exp(), Log(), INSIDE),
    "Euclidean among distributions": ReadEnergy(Euclidean(), Exp(), Log(), INSIDE),
}


@pytest.mark.parametrize("name", LAWFUL)
def test_laws(name):
    assert len(check_energy(LAWFUL[name]).held) >= 10


@pytest.mark.parametrize("preset", [presets.jensen_shannon, presets.kullback_leibler, presets.reverse_kullback_leibler])
def test_presets_of_distributions_obey_the_laws_as_they_are(preset):
    assert "a cold memory returns the nearest slot" in check_energy(preset()).held


def test_settled_states_minimise_at_fixed_weights():
    """The mean for KL(ξ‖x), the normalised geometric mean for KL(x‖ξ): no other distribution is better."""
    keys = torch.rand(6, 5, **DOUBLE)
    for energy in (presets.kullback_leibler(2.0), presets.reverse_kullback_leibler(2.0)):
        query = torch.rand(1, 5, **DOUBLE)
        weights = energy.weights(query, keys)
        rest = energy.settle(query, keys)
        close(rest.sum(-1), torch.ones(1, **DOUBLE))
        others = torch.distributions.Dirichlet(torch.ones(5, **DOUBLE)).sample((2000,))
        others = torch.cat([others, 0.999 * rest + 0.001 * others])
        loss = lambda x, energy=energy, weights=weights: -(energy.similarity(x, keys) * weights).sum(-1)
        assert loss(rest) <= loss(others).min() + 1e-12
    unit = keys / keys.sum(-1, keepdim=True)
    close(presets.kullback_leibler(1e-6).settle(query, keys), unit.mean(0, keepdim=True), rtol=1e-5, atol=1e-6)


def test_exact_patterns_are_fixed_points_zeros_included():
    keys = torch.rand(12, 30, **DOUBLE)
    keys = torch.where(keys < 0.4, 0.0, keys)
    keys = keys / keys.sum(-1, keepdim=True)
    for energy in (presets.kullback_leibler(200.0), presets.reverse_kullback_leibler(200.0)):
        found = FixedPoint()(energy, keys, keys)
        assert found.converged.all()
        close(found.state, keys, rtol=0, atol=1e-9)
    descended = GradientDescent(0.01, steps=50)(presets.jensen_shannon(20.0), keys, keys)
    close(descended.state.sum(-1), torch.ones(12, **DOUBLE))
    assert (descended.state >= 0).all() and descended.state.isfinite().all()


def test_probability_projects_to_the_nearest_distribution():
    point = torch.randn(50, 6, **DOUBLE)
    for floor in (0.0, 0.05):
        near = Probability(floor).project(point)
        close(near.sum(-1), torch.ones(50, **DOUBLE))
        assert near.min() >= floor - 1e-15
        others = floor + (1 - 6 * floor) * torch.distributions.Dirichlet(torch.ones(6, **DOUBLE)).sample((50, 300))
        assert ((point - near).norm(dim=-1, keepdim=True) <= (point.unsqueeze(1) - others).norm(dim=-1) + 1e-12).all()
    close(Probability().minimise(torch.tensor([[0.0, 3.0, 1.0]]), None, torch.ones(1, 3) / 3), torch.tensor([[0.0, 1.0, 0.0]]))


def test_inverse_distances_compile_where_distances_do():
    from hopfield_amem.kernels import backends

    assert backends(ReadEnergy(Inverse(Euclidean()), Power(3), Sum())) == ("reference", "chunked", "triton")
    assert backends(presets.jensen_shannon()) == ("reference", "chunked")
    assert explain(presets.kullback_leibler(), torch.ones(300, 4), torch.ones(400, 4)).backend == "chunked"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: retrieve(presets.jensen_shannon(), torch.randn(5, 4), torch.rand(6, 4), torch.rand(6, 4)), "query must not have negative"),
        (lambda: retrieve(presets.kullback_leibler(), torch.rand(5, 4), torch.randn(6, 4)), "keys must not have negative"),
        (lambda: retrieve(presets.jensen_shannon(), torch.rand(5, 4), torch.rand(6, 4)), "no closed-form step"),
        (lambda: JensenShannon(0.0), "floor in"),
        (lambda: Inverse(Dot()), "minus a distance"),
        (lambda: Inverse(Euclidean(), 0.0), "1/0"),
        (lambda: Probability(1.0), "floor in"),
        (lambda: Probability(0.3).project(torch.rand(2, 4)), "leaves no distribution"),
        (lambda: Flow()(presets.kullback_leibler(), torch.rand(2, 4), torch.rand(3, 4)), "does not follow the probability simplex"),
        (lambda: ReadEnergy(Dot(), torch.log, Sum()), "undefined at s"),
        (lambda: ReadEnergy(Dot(), torch.sqrt, Sum()), "undefined at s"),
        (lambda: ReadEnergy(Euclidean(), Power(2), Sum()), "A distance needs an increasing F"),
        (lambda: ReadEnergy(Cosine(), Exp(), Log(), Quadratic()), "lives on a sphere"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_negative_entries_cost_nothing_while_traced():
    keys = torch.rand(6, 4)
    energy, query = presets.kullback_leibler(), torch.rand(5, 4)
    read = torch.compile(lambda q: retrieve(energy, q, keys, keys), backend="aot_eager", fullgraph=True)
    close(read(query), retrieve(energy, query, keys, keys))
