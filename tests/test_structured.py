"""Few patterns and subsets of them: normmax, k-subsets, sequences, top-k, the hard maximum, and their energies' constants."""

import itertools
import math

import pytest
import torch
from scipy.optimize import brentq, minimize

from hopfield_amem import ENERGIES, ReadEnergy, explain, presets, retrieve
from hopfield_amem.descent import FixedPoint
from hopfield_amem.energies import (
    Clipped,
    ConjugatePower,
    Dot,
    Epanechnikov,
    Exp,
    Level,
    Log,
    LogCosh,
    Manhattan,
    Power,
    RectifiedPower,
    Scaling,
    SequentialSubsets,
    Simplex,
    Softplus,
    Sum,
    TopK,
    Tsallis,
    fenchel_young_energy,
    fenchel_young_loss,
)
from hopfield_amem.kernels import Gates, backends, engine, operators
from hopfield_amem.testing import check_energy

close = torch.testing.assert_close
DOUBLE = {"dtype": torch.float64}

STRUCTURED = {
    "normmax 1.5": presets.normmax(1.5),
    "normmax 2": presets.normmax(2.0),
    "normmax 3": presets.normmax(3.0),
    "level of exp": ReadEnergy(Dot(), Exp(), Level()),
    "k-subsets": presets.k_subsets(2),
    "k-subsets, one": presets.k_subsets(1),
    "fractional budget": ReadEnergy(Dot(), Clipped(), Simplex(2.5), beta=0.7),
    "Fermi-Dirac": presets.fermi_dirac(3),
    "two entmaxes": ReadEnergy(Dot(), Tsallis(1.5), Simplex(2)),
    "sequence": presets.sequential_k_subsets(2, 0.8),
    "subsets": presets.sequential_k_subsets(3),
    "top 3": presets.top_k(3),
    "hard maximum": presets.hard_max(),
    "top 3 of kernels": ReadEnergy(Manhattan(), Epanechnikov(), TopK(3), beta=0.1),
    "top 4, sparse": ReadEnergy(Dot(), Tsallis(2.0), TopK(4, Simplex())),
    "sum of the best": ReadEnergy(Dot(), Power(1), TopK(2, Sum())),
}


@pytest.mark.parametrize("name", [name for name, energy in STRUCTURED.items() if energy not in ENERGIES.values()])  # those have their laws checked elsewhere
def test_laws(name):
    report = check_energy(STRUCTURED[name])
    assert len(report.held) >= 12


def test_settling_never_raises_these_energies():
    assert all(energy.monotone for energy in STRUCTURED.values())


def test_kernels_are_refused_with_the_reason_and_full_rows_take_over():
    for energy in (presets.normmax(), presets.k_subsets(), presets.top_k(2), presets.sequential_k_subsets()):
        assert backends(energy) == ("reference", "chunked")
        assert explain(energy, torch.zeros(2, 4), torch.zeros(9, 4), backend="chunked").engine == "full rows"
        assert explain(energy, torch.zeros(300, 4), torch.zeros(1000, 4)).backend == "chunked"
    assert backends(presets.entmax()) == ("reference", "chunked", "triton")


# ---------------------------------------------------------------------------------------------------------------- normmax


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 3.0])
def test_normmax_is_the_maximum_of_its_definition(alpha):
    for score in 2 * torch.randn(3, 5, **DOUBLE):
        value, weights = Level().value(ConjugatePower(alpha), score), Level().weights(ConjugatePower(alpha), score)
        close(weights.sum(), torch.ones((), **DOUBLE))
        close((weights * score).sum() - weights.norm(alpha), value, rtol=1e-11, atol=1e-12)
        others = torch.distributions.Dirichlet(torch.full((5,), 0.3, **DOUBLE)).sample((4000,))
        others = torch.cat([others, 0.99 * weights + 0.01 * others])
        assert ((others * score).sum(-1) - others.norm(alpha, dim=-1)).max() <= value + 1e-12


def test_normmax_equals_entmax_package():
    entmax = pytest.importorskip("entmax")
    score = 2 * torch.randn(20, 30, **DOUBLE)
    for alpha in (1.5, 2.0, 3.0):
        close(Level().weights(ConjugatePower(alpha), score), entmax.normmax_bisect(score, alpha, n_iter=80), rtol=0, atol=1e-7)


def test_the_level_of_exp_is_log_sum_exp():
    score, gate = 50 * torch.randn(6, 40, **DOUBLE), torch.rand(40, **DOUBLE) * (torch.arange(40) % 3 > 0)
    for presence in (None, gate, gate > 0):
        close(Level().value(Exp(), score, presence), Log().value(Exp(), score, presence), rtol=1e-12, atol=1e-12)
        close(Level().weights(Exp(), score, presence), Log().weights(Exp(), score, presence), rtol=1e-11, atol=1e-12)


# --------------------------------------------------------------------------------------------------------------- k-subsets


@pytest.mark.parametrize("total", [1, 2, 3.5, 7])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_k_subsets_are_projections(total, spread):
    """Optimality of ``max p·s − ½‖p‖²`` over the budget: free weights share one τ, full ones lie above it, empty ones below."""
    score = spread * torch.randn(100, 60, **DOUBLE)
    weights = Simplex(total).weights(Clipped(), score)
    assert (weights.sum(-1) - total).abs().max() < 1e-11 and weights.min() >= 0 and weights.max() <= 1
    rest = score - weights
    free, full, none = (weights > 0) & (weights < 1), weights == 1, weights == 0
    highest, lowest = (torch.where(free | side, rest, sign * math.inf) for side, sign in ((none, -1), (full, 1)))
    assert (highest.amax(-1) <= lowest.amin(-1) + 1e-10 * max(1.0, spread)).all()


def test_k_subsets_equal_entmax_package():
    entmax = pytest.importorskip("entmax")
    score = torch.randn(20, 50, **DOUBLE)
    for budget in (1, 2, 5):
        close(Simplex(budget).weights(Clipped(), score), entmax.budget_bisect(score, budget, n_iter=80), rtol=0, atol=1e-10)


def test_a_budget_of_one_is_sparsemax():
    score = torch.randn(30, 20, **DOUBLE)
    close(Simplex(1).weights(Clipped(), score), Simplex().weights(Tsallis(2.0), score), rtol=0, atol=1e-12)


def test_fermi_dirac_occupation_and_its_energy():
    score = 3 * torch.randn(8, **DOUBLE)
    level = brentq(lambda tau: float((score - tau).sigmoid().sum()) - 3, -50, 50, xtol=1e-14)
    weights = Simplex(3).weights(Softplus(), score)
    close(weights, (score - level).sigmoid(), rtol=0, atol=1e-12)
    entropy = -(weights * weights.log() + (1 - weights) * (1 - weights).log()).sum()
    close(Simplex(3).value(Softplus(), score), (weights * score).sum() + entropy, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("separation", [Clipped(), Softplus()])
def test_rows_with_too_few_slots_hold_them_all(separation):
    score = torch.randn(5, 6, **DOUBLE)
    for slots in ([1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0]):
        there = torch.tensor(slots).bool()
        weights = Simplex(3).weights(separation, score, there)
        close(weights, there.double().expand(5, 6), rtol=0, atol=1e-15)
        close(weights, Simplex(3).weights(separation, score, 0.0 + there.double()), rtol=0, atol=0)
    half = torch.tensor([0.5, 0.25, 1, 0, 0, 0], **DOUBLE)
    close(Simplex(3).weights(separation, score, half), half.expand(5, 6), rtol=0, atol=1e-15)
    value = Simplex(3).value(separation, score, half)
    offset = 0.5 if isinstance(separation, Clipped) else 0.0  # F(s) = s − offset where it has saturated
    close(value, (half * (score - offset)).sum(-1), rtol=1e-12, atol=1e-12)


def test_gradients_of_rows_that_are_full_partly_full_and_empty():
    gates = torch.tensor([[1, 1, 1, 1], [1, 0.5, 0, 0], [0.3, 0.9, 0.7, 0.8], [0, 0, 0, 0]], **DOUBLE)
    for separation in (Clipped(), Softplus()):
        for act in (Simplex(2).value, Simplex(2).weights):

            def run(score, gate, act=act, separation=separation):
                result = act(separation, score, gate * (gates > 0))
                return torch.where(result.isfinite(), result, 0.0)

            inputs = torch.randn(4, 4, **DOUBLE).requires_grad_(), gates.clamp(0.01, 0.99).requires_grad_()
            torch.autograd.gradcheck(run, inputs)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("slots", [1, 2, 17, 100, 1000])
def test_float32_at_the_extremes(slots, scale):
    score = scale * torch.randn(9, slots)
    for separation, scaling in ((Clipped(), Simplex(2)), (Softplus(), Simplex(2)), (ConjugatePower(2.0), Level()), (Tsallis(1.5), Simplex(2))):
        weights, exact = (scaling.weights(separation, s) for s in (score, score.double()))
        assert weights.isfinite().all() and scaling.value(separation, score).isfinite().all()
        full = 1.0 if isinstance(scaling, Level) else min(2, slots) if separation.saturation < math.inf else 2.0
        close(weights.sum(-1), torch.full((9,), float(full)), rtol=2e-5, atol=0)
        close(weights.double(), exact, rtol=0, atol=2e-5 if scale <= 1 else 1.0)


# --------------------------------------------------------------------------------------------------------------- sequences


def enumerated(score, total, transition):
    """Log-partition and marginals over all subsets, one by one."""
    subsets = [torch.zeros(len(score), **DOUBLE).index_fill(0, torch.tensor(s), 1.0) for s in itertools.combinations(range(len(score)), total)]
    y = torch.stack(subsets)
    energy = y @ score + transition * (y[:, 1:] * y[:, :-1]).sum(-1)
    return energy.logsumexp(0), energy.softmax(0) @ y


@pytest.mark.parametrize("total, transition", [(1, 0.0), (1, 2.0), (2, 0.0), (3, 1.5), (3, -2.0), (8, 1.0)])
def test_sequences_are_sums_over_all_subsets(total, transition):
    scaling = SequentialSubsets(total, transition)
    for score in 2 * torch.randn(3, 8, **DOUBLE):
        partition, marginals = enumerated(score, total, transition)
        close(scaling.value(Exp(), score), partition, rtol=1e-12, atol=1e-12)
        close(scaling.weights(Exp(), score), marginals, rtol=0, atol=1e-12)


def test_deleted_slots_let_their_neighbours_meet():
    score, there = torch.randn(4, 9, **DOUBLE), torch.tensor([1, 0, 1, 1, 0, 0, 1, 1, 1]).bool()
    scaling = SequentialSubsets(3, 1.0)
    close(scaling.value(Exp(), score, there), scaling.value(Exp(), score[:, there]))
    close(scaling.weights(Exp(), score, there)[:, there], scaling.weights(Exp(), score[:, there]))
    assert (scaling.weights(Exp(), score, there)[:, ~there] == 0).all()
    close(scaling.weights(Exp(), score[:, :2]), torch.ones(4, 2, **DOUBLE))
    halves = scaling.value(Exp(), score, torch.full((9,), 0.5, **DOUBLE))
    close(halves, scaling.value(Exp(), score) - 3 * math.log(2))


def test_transitions_make_runs():
    score = torch.zeros(12)
    score[2], score[9] = 0.5, 0.5
    apart, together = (presets.sequential_k_subsets(2, t).scaling.weights(Exp(), 4 * score) for t in (-4.0, 8.0))
    assert apart.topk(2).indices.sort().values.tolist() == [2, 9]
    assert (together[1] + together[3]) > 0.4 > apart[1] + apart[3]


def test_a_single_slot_is_softmax():
    score = torch.randn(4, 7, **DOUBLE)
    close(SequentialSubsets(1).weights(Exp(), score), score.softmax(-1))
    close(SequentialSubsets(1).value(Exp(), score), score.logsumexp(-1))


# ------------------------------------------------------------------------------------------------------------- k largest


def test_top_k_is_softmax_over_the_largest():
    score = torch.randn(6, 50, **DOUBLE)
    kept = score.topk(4, -1).indices
    expected = torch.zeros_like(score).scatter(-1, kept, score.gather(-1, kept).softmax(-1))
    close(TopK(4).weights(Exp(), score), expected)
    close(TopK(4).value(Exp(), score), score.topk(4, -1).values.logsumexp(-1))
    close(TopK(99).weights(Exp(), score), score.softmax(-1))


def test_of_equal_scores_the_earlier_slot_is_taken():
    score = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])
    assert TopK(1).weights(Exp(), score).tolist() == [[0, 1, 0, 0, 0]]
    assert TopK(2, Sum()).weights(Power(1), score).tolist() == [[0, 1, 1, 0, 0]]
    assert TopK(1).weights(Exp(), score, torch.tensor([1, 0, 1, 1, 1]).bool()).tolist() == [[0, 0, 1, 0, 0]]


def test_the_hard_maximum_is_where_cold_energies_end():
    query, keys = torch.randn(5, 6, **DOUBLE), torch.randn(30, 6, **DOUBLE)
    hard = presets.hard_max()
    close(hard(query, keys), 0.5 * query.square().sum(-1) - (query @ keys.T).amax(-1))
    for cold in (presets.log_sum_exp(1e6), presets.entmax(1.5, 1e6), presets.normmax(2.0, 1e6)):
        close(cold(query, keys), hard(query, keys), rtol=1e-4, atol=1e-4)
        close(retrieve(cold, query, keys), retrieve(hard, query, keys))
    best = ReadEnergy(Dot(), Power(1), TopK(3, Sum()))
    close(presets.k_subsets(3, 1e6)(query, keys), best(query, keys), rtol=1e-4, atol=1e-4)


# --------------------------------------------------------------------------------------------------- constants and margins

POLYTOPES = {
    "softmax": presets.log_sum_exp(0.7),
    "entmax": presets.entmax(1.5, 0.7),
    "sparsemax": presets.sparsemax(2.0),
    "normmax": presets.normmax(2.0, 0.7),
    "k-subsets": presets.k_subsets(2, 0.7),
    "Fermi-Dirac": presets.fermi_dirac(2, 0.7),
    "sequence": presets.sequential_k_subsets(2, 0.5, 0.7),
}


@pytest.mark.parametrize("name", POLYTOPES)
def test_energies_are_differences_of_fenchel_young_losses(name):
    """``E = −L_Ω/β + ½‖x − μ‖² + ½(M² − ‖μ‖²)`` with the weights of equal scores in L and in μ; never negative."""
    energy = POLYTOPES[name]
    keys = torch.randn(9, 4, **DOUBLE)
    query = torch.cat([3 * torch.randn(200, 4, **DOUBLE), keys])
    indifferent = energy.scaling.weights(energy.separation, torch.zeros(1, 9, **DOUBLE))
    mean, longest = indifferent @ keys, indifferent.sum() * keys.norm(dim=-1).max()
    loss, whole = fenchel_young_loss(energy, query, keys), fenchel_young_energy(energy, query, keys)
    parts = -loss / energy.beta + 0.5 * (query - mean).square().sum(-1) + 0.5 * (longest.square() - mean.square().sum())
    close(whole, parts, rtol=1e-11, atol=1e-11)
    assert (loss >= -1e-12).all() and (whole >= -1e-12).all()
    close(fenchel_young_loss(energy, torch.zeros(1, 4, **DOUBLE), keys), torch.zeros(1, **DOUBLE), rtol=0, atol=1e-12)


def test_the_constants_of_softmax_are_ramsauers():
    keys, query, beta = torch.randn(9, 4, **DOUBLE), torch.randn(5, 4, **DOUBLE), 0.7
    lse = (beta * query @ keys.T).logsumexp(-1) / beta
    expected = -lse + 0.5 * query.square().sum(-1) + math.log(9) / beta + 0.5 * keys.square().sum(-1).max()
    close(fenchel_young_energy(presets.log_sum_exp(beta), query, keys), expected)
    there = torch.arange(9) < 6
    close(fenchel_young_energy(presets.log_sum_exp(beta), query, keys, presence=there), fenchel_young_energy(presets.log_sum_exp(beta), query, keys[:6]))


def test_the_entropy_of_entmax_is_tsallis():
    """``Q = Ω* + 1/α`` with ``Ω(p) = (Σ pᵅ − 1)/(α(α − 1))``, whose conjugate is found by brute force."""
    score, alpha = torch.randn(4, **DOUBLE), 1.5

    def negative(logits):
        p = torch.tensor(logits, **DOUBLE).softmax(0)
        return float(((p**alpha).sum() - 1) / (alpha * (alpha - 1)) - (p * score).sum())

    conjugate = -minimize(negative, score.numpy(), method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 4000}).fun
    assert float(Simplex().value(Tsallis(alpha), score)) == pytest.approx(conjugate + 1 / alpha, abs=1e-8)


@pytest.mark.parametrize(
    "energy, margin",
    [
        (presets.sparsemax(), 1.0),
        (presets.entmax(1.5), 2.0),
        (presets.entmax(3.0), 0.5),
        (presets.normmax(1.5), 1.0),
        (presets.normmax(3.0), 1.0),
        (presets.k_subsets(3), 1.0),
        (presets.hard_max(), 0.0),
        (ReadEnergy(Dot(), Tsallis(2.0), Simplex(3)), 3.0),
        (presets.top_k(3), math.inf),
        (presets.log_sum_exp(), math.inf),
        (presets.fermi_dirac(), math.inf),
        (ReadEnergy(Dot(), Exp(), Level()), math.inf),
    ],
)
def test_margins_are_where_weights_become_whole(energy, margin):
    """Weights are those of the winners alone from the margin on, and not before."""
    scaling, separation = energy.scaling, energy.separation
    assert scaling.margin(separation) == pytest.approx(margin)
    if margin == math.inf:
        return
    winners = int(scaling.patterns(separation))
    score = torch.zeros(6, **DOUBLE)
    for gap, whole in ((margin + 1e-6, True), (margin - 1e-3, False)):
        score[:winners] = gap
        if winners > 1 or margin > 0:
            assert bool((scaling.weights(separation, score)[winners:] == 0).all()) == whole


@pytest.mark.parametrize("energy", [presets.sparsemax(8.0), presets.entmax(1.5, 12.0), presets.normmax(2.0, 8.0), presets.normmax(3.0, 8.0)])
def test_retrieval_is_exact_in_one_step_when_the_margin_holds(energy):
    """``Δ ≥ m/β + 2Mε`` for a query within ε of its pattern (Santos et al. 2024)."""
    keys = torch.nn.functional.normalize(torch.randn(12, 64, **DOUBLE), dim=-1)
    gap = (1 - (keys @ keys.T).fill_diagonal_(-1).amax(-1)).min()
    room = float(gap - energy.scaling.margin(energy.separation) / energy.beta) / 2
    assert room > 0.05
    query = keys + 0.999 * room * torch.nn.functional.normalize(torch.randn_like(keys), dim=-1)
    close(retrieve(energy, query, keys), keys, rtol=0, atol=1e-13)
    found = FixedPoint()(energy, query, keys)
    close(found.state, keys, rtol=0, atol=1e-13)
    assert (found.bound == 0).all()


def test_k_subsets_read_the_sum_of_k_patterns():
    keys = torch.eye(10, 32, **DOUBLE)
    pair = (keys[2] + keys[7]).unsqueeze(0)
    close(retrieve(presets.k_subsets(2, 4.0), pair + 0.05 * torch.randn(1, 32, **DOUBLE), keys), pair, rtol=0, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------- full rows


@pytest.mark.parametrize("name", ["normmax 2", "k-subsets", "top 3", "sequence", "top 3 of kernels"])
@pytest.mark.parametrize("options", [{}, {"causal": True}, {"causal": 7}, {"dropout": 0.4}, {"bias": True}, {"heads": True}])
def test_full_rows_are_the_definition(name, options, monkeypatch, poisoned):
    monkeypatch.setattr(operators, "ELEMENTS", 60)
    energy, options = STRUCTURED[name], dict(options)
    bias = 0.3 * torch.randn(2, 20, **DOUBLE) if options.pop("bias", None) else None
    spec = energy.at(torch.tensor([0.5, 1.5], **DOUBLE)) if options.pop("heads", None) else energy
    presence = torch.rand(2, 17, 20, **DOUBLE) * (torch.rand(2, 17, 20) > 0.3)
    for gate in (None, presence, presence[:, :1] > 0):
        found = []
        for backend in ("reference", "chunked"):
            torch.manual_seed(3)
            given = [torch.randn(2, n, d, generator=torch.Generator().manual_seed(n + d), **DOUBLE).requires_grad_() for n, d in ((17, 4), (20, 4), (20, 3))]
            output = retrieve(spec, *given, presence=gate, bias=bias, backend=backend, **options)
            found.append([output, *torch.autograd.grad((output * torch.linspace(1, 2, 3, **DOUBLE)).sum(), given, allow_unused=True)])
        for mine, truth in zip(found[1], found[0], strict=True):
            close(mine, truth, rtol=1e-10, atol=1e-10)


def test_full_rows_keep_no_weights_for_the_way_back(monkeypatch):
    monkeypatch.setattr(operators, "ELEMENTS", 1000)
    query, keys = torch.randn(200, 4, requires_grad=True), torch.randn(100, 4)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        retrieve(presets.normmax(), query, keys, keys, backend="chunked")
    assert max(kept) <= 200 * 4


def test_a_scaling_of_ones_own_is_served_by_full_rows():
    class Doubled(Sum):
        def value(self, separation, score, presence=None):
            return 2 * super().value(separation, score, presence)

        def weights(self, separation, score, presence=None):
            return 2 * super().weights(separation, score, presence)

    query, keys = torch.randn(300, 4), torch.randn(400, 4)
    energy, plain = (ReadEnergy(Dot(), Exp(), scaling, beta=0.1) for scaling in (Doubled(), Sum()))
    close(retrieve(energy, query, keys, keys, backend="chunked"), 2 * retrieve(plain, query, keys, keys))
    close(engine(energy, query, keys, Gates(), backend="chunked").energy(query), energy(query, keys))


def test_compiled_vmapped_and_under_autocast():
    query, keys = torch.randn(3, 5, 4, **DOUBLE), torch.randn(9, 4, **DOUBLE)
    for energy in (presets.normmax(), presets.k_subsets(), presets.top_k(3), presets.sequential_k_subsets(2, 0.5)):
        truth = retrieve(energy, query, keys, keys)
        close(torch.func.vmap(lambda q, energy=energy: retrieve(energy, q, keys, keys))(query), truth)
        close(torch.func.vmap(lambda q, energy=energy: retrieve(energy, q, keys, keys, backend="chunked"))(query), truth)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = retrieve(energy, query.float(), keys.float(), keys.float())
        assert half.dtype == torch.bfloat16 and (half.double() - truth).abs().max() < 0.2
    compiled = torch.compile(lambda q: retrieve(presets.top_k(3), q, keys, keys), backend="aot_eager")
    close(compiled(query), retrieve(presets.top_k(3), query, keys, keys))


# ----------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Simplex(0), "positive, finite total"),
        (lambda: ReadEnergy(Dot(), torch.nn.functional.softplus, Simplex(3)), "rises continuously from 0 through 3"),
        (lambda: ConjugatePower(1.0), "α > 1"),
        (lambda: ReadEnergy(Dot(), Power(2), Level()), "Level needs a convex F"),
        (lambda: TopK(0), "slots ≥ 1"),
        (lambda: TopK(2, SequentialSubsets(2, 1.0)), "in any order"),
        (lambda: ReadEnergy(Dot(), Power(2), TopK(2, Sum())), "increasing F"),
        (lambda: ReadEnergy(Dot(), Clipped(), SequentialSubsets(2)), "active-set solver"),
        (lambda: SequentialSubsets(1, math.inf), "finite transition"),
        (lambda: fenchel_young_loss(ENERGIES["linear_attention"], torch.ones(1, 2), torch.ones(3, 2)), "weights in a polytope"),
        (lambda: fenchel_young_energy(presets.distance(), torch.ones(1, 2), torch.ones(3, 2)), "Dot with Quadratic"),
        (lambda: retrieve(presets.normmax(), torch.ones(1, 2), torch.ones(3, 2), backend="triton"), "weighs all slots|needs a GPU"),
    ],
)
def test_errors_say_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_rectified_powers_have_levels_too():
    score = torch.randn(4, 6, **DOUBLE)
    close(Level().weights(RectifiedPower(2), score), Level().weights(ConjugatePower(2.0), score / math.sqrt(2)))
    assert isinstance(Level(), Scaling)


@pytest.mark.parametrize("separation", [Power(2), Power(4), LogCosh()])
def test_a_simplex_needs_weights_that_are_not_negative(separation):
    with pytest.raises(ValueError, match="rises continuously from 0"):
        ReadEnergy(Dot(), separation, Simplex())


def test_the_largest_of_a_sum_grow_like_the_sum():
    with pytest.raises(ValueError, match="unbounded below"):
        FixedPoint()(ReadEnergy(Dot(), RectifiedPower(3), TopK(1, Sum())), torch.full((1, 1), 10.0), torch.ones(1, 1))


def test_without_a_slot_nothing_is_lost():
    x, keys, nothing = torch.randn(2, 3), torch.randn(4, 3), torch.zeros(4, dtype=torch.bool)
    assert fenchel_young_loss(presets.log_sum_exp(), x, keys, presence=nothing).tolist() == [0.0, 0.0]
    close(fenchel_young_energy(presets.log_sum_exp(), x, keys, presence=nothing), 0.5 * x.square().sum(-1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("presence", [None, torch.arange(9) > 1, torch.linspace(0, 1, 9)])
def test_sequences_are_weighed_in_half_types(dtype, presence):
    """Computed in single precision: what is left is the rounding of the result."""
    scaling, score = SequentialSubsets(3, 0.7), torch.randn(4, 9).to(dtype)
    for of in (scaling.weights, scaling.value):
        found, exact = of(Exp(), score, presence), of(Exp(), score.double(), presence)
        assert found.dtype == dtype
        close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)
    x, keys = torch.randn(2, 4).to(dtype), torch.randn(6, 4).to(dtype)
    assert presets.sequential_k_subsets(2)(x, keys).isfinite().all() and retrieve(presets.sequential_k_subsets(2), x, keys).isfinite().all()
