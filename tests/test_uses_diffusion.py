"""Diffusion as memory: the exact score, its flow, and what generated samples are."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from hopfield_amem import presets, retrieve
from hopfield_amem.analysis import Diffusion, commitment, denoised, log_density, memory_at, novelty, recovery_level, score, speciation_level
from hopfield_amem.descent import FixedPoint

close = torch.testing.assert_close
D = torch.float64


@pytest.mark.parametrize("sigma", [0.05, 0.7, 20.0])
def test_the_score_is_the_gradient_of_the_log_density(sigma):
    data, x = torch.randn(9, 4, dtype=D), torch.randn(5, 4, dtype=D).requires_grad_()
    log_mixture = torch.logsumexp(-(x.unsqueeze(1) - data).square().sum(-1) / (2 * sigma**2), -1)
    (slope,) = torch.autograd.grad(log_mixture.sum(), x)
    close(score(x.detach(), data, sigma), slope)
    (force,) = torch.autograd.grad(memory_at(sigma)(x, data).sum(), x)
    close(score(x.detach(), data, sigma), -force / sigma**2)
    (whole,) = torch.autograd.grad(log_density(memory_at(sigma), x, data).sum(), x)
    close(whole, slope)


def test_a_single_gaussian_has_a_known_flow():
    """One sample: x_σ − ξ scales with σ exactly, whatever the steps."""
    data, start = torch.tensor([[1.0, -2.0]], dtype=D), torch.randn(6, 2, dtype=D)
    made = Diffusion((5.0, 2.0, 0.5))(start, data, record=True)
    close(made.trajectory[1], data + 0.4 * (start - data))
    close(made.trajectory[2], data + 0.1 * (start - data))
    close(made.state, data.expand(6, 2))


def test_ddim_steps_follow_the_probability_flow():
    """Against an ODE solver: dx/dσ = −σ ∇log p."""
    from torchdiffeq import odeint

    data, start = torch.randn(5, 2, dtype=D), 4 * torch.randn(8, 2, dtype=D)
    times = torch.tensor([4.0, 0.4], dtype=D)
    truth = odeint(lambda sigma, x: -sigma * score(x, data, float(sigma)), start, times, rtol=1e-9, atol=1e-9)[1]
    errors = []
    for count in (200, 800):
        levels = Diffusion.geometric(4.0, 0.4, count).levels
        errors.append(((Diffusion(levels)(start, data, record=True).trajectory[-2] - truth).abs().max()).item())
    assert errors[1] < 0.02 and errors[1] < errors[0] / 3  # first order


def test_a_variance_preserving_ddim_takes_the_same_path():
    alphas = torch.linspace(0.999, 0.01, 30, dtype=D)
    data, noise = torch.randn(6, 3, dtype=D), torch.randn(7, 3, dtype=D)
    x = noise  # Song et al. 2021, eq. 12 with σ = 0: ε from the exact score of √ᾱ ξ + √(1 − ᾱ) ε
    for now, then in zip(alphas.flip(0), alphas.flip(0)[1:], strict=False):
        clean = torch.softmax(-(x.unsqueeze(1) - now.sqrt() * data).square().sum(-1) / (2 * (1 - now)), -1) @ data
        epsilon = (x - now.sqrt() * clean) / (1 - now).sqrt()
        x = then.sqrt() * clean + (1 - then).sqrt() * epsilon
    diffusion = Diffusion.from_alphas(alphas)
    made = diffusion(noise / alphas[-1].sqrt(), data, record=True)
    close(made.trajectory[-2] * alphas[0].sqrt(), x, rtol=1e-10, atol=1e-10)


def test_generating_is_settling_while_beta_grows():
    data, start = torch.randn(6, 3, dtype=D), 9 * torch.randn(4, 3, dtype=D)
    state, levels = start, (9.0, 3.0, 1.0, 0.1)
    for sigma, ratio in zip(levels, (1 / 3, 1 / 3, 0.1, 0.0), strict=True):
        settled = retrieve(presets.distance(sigma**-2), state, data)
        state = settled + ratio * (state - settled)
    close(Diffusion(levels)(start, data).state, state)
    close(denoised(state, data, 0.3), presets.distance(0.3**-2).weights(state, data) @ data)


def test_an_exact_score_memorises_digits():
    """Down to little noise every sample is a stored digit; where the descent stops at much noise, attractors of several digits are spurious."""
    images = torch.tensor(load_digits().data[:300] / 16)
    generator = torch.Generator().manual_seed(0)
    diffusion = Diffusion.geometric(20.0, 0.02, 60)
    start = 20.0 * torch.randn(80, 64, generator=generator, dtype=D)
    made = diffusion(start, images, record=True)
    found = novelty(made.state, images, memorised=0.01, spurious=0.01)
    assert found.memorised.all() and str(found) == "80 samples: 100% memorised, 0% spurious, 0% generalised"
    nearest = torch.cdist(made.state, images).argmin(-1)
    assert nearest.unique().numel() > 30  # different noise, different digits
    level = commitment(made.trajectory, diffusion, images)
    assert ((level > 0.1) & (level < 20)).all()
    blurred = FixedPoint(steps=500, tolerance=1e-9)(memory_at(0.9), made.state, images).state
    kinds = novelty(blurred, images, memorised=0.2, spurious=0.05)
    assert kinds.spurious.double().mean() > 0.5


def test_circle_from_memorised_over_spurious_to_generalised():
    """The toy of Pham et al.: K points of a circle, minima of the energy at one noise level, labelled. K few: the points; more: minima that several points
    share; many: a valley all around."""
    sigma, generator = 0.3, torch.Generator().manual_seed(0)
    kinds = {}
    for count in (4, 12, 3000):
        angle = 2 * math.pi * (torch.arange(count, dtype=D) + 0.3 * torch.rand(count, generator=generator, dtype=D)) / count
        data = torch.stack([angle.cos(), angle.sin()], -1)
        start = Diffusion.geometric(5.0, sigma, 40)(5.0 * torch.randn(40, 2, generator=generator, dtype=D), data).state
        rest = FixedPoint(steps=400, tolerance=1e-6)(memory_at(sigma), start, data).state
        found = novelty(rest, data, memorised=0.02, spurious=0.005)
        kinds[count] = tuple(float(k.double().mean()) for k in (found.memorised, found.spurious, found.generalised))
        assert sum(kinds[count]) == pytest.approx(1)
    print("memorised, spurious, generalised by number of points", kinds)
    assert kinds[4][0] == 1 and kinds[12][1] > 0.5 and kinds[3000][2] > 0.5


def test_labels_exclude_each_other_and_follow_their_definition():
    training = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    samples = torch.tensor([[0.1, 0.0], [5.0, 0.0], [5.0, 0.05], [5.0, 3.0], [0.0, 0.1]])
    found = novelty(samples, training, memorised=0.2, spurious=0.1)
    assert found.memorised.tolist() == [True, False, False, False, True]
    assert found.spurious.tolist() == [False, True, True, False, False] and found.generalised.tolist() == [False, False, False, True, False]
    close(found.to_training[1], torch.tensor(5.0))
    close(found.to_generated[3], torch.tensor(2.95))
    alone = novelty(samples[1:2], training, memorised=0.2, spurious=0.1)
    assert alone.generalised.all() and alone.to_generated.isinf().all()
    assert novelty(samples[1:2], training, memorised=0.2, spurious=0.1, others=samples[2:]).spurious.all()
    many = torch.randn(700, 3)
    close(novelty(many, many[:5], memorised=0, spurious=0).to_generated, torch.cdist(many, many).fill_diagonal_(math.inf).amin(-1), rtol=1e-4, atol=1e-4)
    assert str(novelty(samples[:0], training, memorised=0.1, spurious=0.1)) == "no samples"


def test_two_samples_split_at_half_their_distance():
    """Symmetry breaking: the curvature of the energy at the middle is 1 − a²/σ², so the minimum splits at σ = a; trajectories commit near it."""
    a = 1.7
    data = torch.tensor([[a], [-a]], dtype=D)
    assert speciation_level(data) == pytest.approx(a)
    for sigma, sign in ((1.01 * a, 1), (0.99 * a, -1)):
        curvature = torch.autograd.functional.hessian(lambda x, s=sigma: memory_at(s)(x.unsqueeze(0), data).sum(), torch.zeros(1, dtype=D))
        assert curvature.item() * sign > 0 and curvature.item() == pytest.approx(1 - (a / sigma) ** 2)
    diffusion = Diffusion.geometric(30.0, 0.05, 100)
    made = diffusion(30.0 * torch.randn(50, 1, dtype=D), data, record=True)
    assert torch.equal(made.state.sign(), made.trajectory[0].sign())  # an even energy never changes a sign
    weight = torch.stack([memory_at(s).weights(x, data).amax(-1) for s, x in zip(diffusion.levels, made.trajectory[:-1], strict=True)])
    levels = torch.tensor(diffusion.levels, dtype=D)
    for share in (0.9, 0.5):
        first = torch.where(weight > share, levels.unsqueeze(-1), 0.0).amax(0)  # the weight of the nearer sample only grows
        close(commitment(made.trajectory, diffusion, data, share=share), first)
    assert 0.5 * a < commitment(made.trajectory, diffusion, data).median() < 2 * a


def test_trajectories_commit_once_and_for_all():
    data = torch.tensor([[0.0], [1.0]], dtype=D)
    path = torch.tensor([[0.9, 0.5], [0.05, 0.5], [0.9, 0.5], [0.02, 0.5], [0.0, 0.5]], dtype=D).unsqueeze(-1)
    diffusion = Diffusion((0.4, 0.3, 0.2, 0.1))  # at 0.05 and σ = 0.3 the nearer sample holds 1/(1 + e^(−0.45/0.09)) = 0.993, but it was left again
    assert commitment(path, diffusion, data).tolist() == [0.1, 0.0]
    assert commitment(path, diffusion, data, share=0.0).tolist() == [0.4, 0.4]
    with pytest.raises(ValueError, match="its diffusion"):
        commitment(path, Diffusion((4.0, 2.0)), data)


def test_single_precision_commits_where_double_precision_does():
    """Little noise among long patterns: energies of 10² whose differences of 10⁻⁶ decide."""
    data, diffusion = 5 * torch.randn(40, 8, dtype=D), Diffusion.geometric(30.0, 1e-3, 60)
    path = diffusion(30.0 * torch.randn(30, 8, dtype=D), data, record=True).trajectory
    exact, single = commitment(path, diffusion, data), commitment(path.float(), diffusion, data.float())
    assert (exact > 0.1).all() and single.dtype == torch.float32
    close(single.double(), exact, rtol=1e-6, atol=0)
    weight = torch.stack([memory_at(s).weights(x, data).amax(-1) for s, x in zip(diffusion.levels[:20], path, strict=False)])
    early = torch.tensor(diffusion.levels[:20], dtype=D).unsqueeze(-1).expand_as(weight)
    assert (weight[early > exact] <= 0.9).any() and (weight[early < exact] > 0.9).all()


def test_a_sample_that_is_stored_twice_is_one():
    data, diffusion = torch.randn(6, 3, dtype=D), Diffusion.geometric(20.0, 1e-4, 80)
    doubled = torch.cat([data, data])
    path = diffusion(20.0 * torch.randn(25, 3, dtype=D), data, record=True).trajectory
    close(commitment(path, diffusion, doubled), commitment(path, diffusion, data))
    assert (commitment(path, diffusion, doubled) > 0).all()
    assert (commitment(path, diffusion, torch.cat([data, data + 1e-7])) < 1e-6 + commitment(path, diffusion, data) / 10).all()  # close to it is another


def test_isolated_samples_come_back_from_more_noise():
    data = torch.tensor([[0.0, 0.0], [0.5, 0.0], [20.0, 0.0]], dtype=D)
    diffusion = Diffusion.geometric(30.0, 0.01, 40)
    level = recovery_level(diffusion, data, within=0.05, share=0.9, trials=40)
    assert level[2] > 10 * level[0] > 0 and level[:2].max() < 0.5 and 2 < level[2] < 20
    always, half = (recovery_level(diffusion, data, within=0.05, share=share, trials=40) for share in (1.0, 0.5))
    assert (always <= level).all() and (level <= half).all() and (always < half).any()
    assert (recovery_level(Diffusion((1e3,)), data, within=0.05, trials=4) == 0).all()


def test_recovery_ends_at_the_first_failure():
    """With one trial a sample may fail at some noise and come back from more, by luck; that does not count."""
    data, diffusion = torch.randn(60, 1, dtype=D), Diffusion.geometric(2.0, 0.001, 25)
    generator, back = torch.Generator().manual_seed(3), []
    for k in range(24, -1, -1):
        start = data + diffusion.levels[k] * torch.randn(1, 60, 1, generator=generator, dtype=D)
        back.append(((Diffusion(diffusion.levels[k:])(start, data).state - data).abs() < 1e-3).flatten())
    back = torch.stack(back)
    lasting = back.long().cumprod(0).sum(0)
    expected = torch.tensor([0.0, *reversed(diffusion.levels)], dtype=D)[lasting]
    assert (lasting < back.sum(0)).any()  # there was luck
    close(recovery_level(diffusion, data, within=1e-3, share=1.0, trials=1, seed=3), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 17), (5, 63)])
def test_dtypes_and_shapes(dtype, shape):
    data, start = torch.randn(8, shape[-1], dtype=dtype), 5 * torch.randn(*shape, dtype=dtype)
    made = Diffusion.geometric(5.0, 0.01, 20)(start, data, record=True)
    assert made.state.dtype == dtype and made.trajectory.shape == (21, *shape) and made.state.isfinite().all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: memory_at(0.0), "noise level"),
        (lambda: memory_at(math.nan), "noise level"),
        (lambda: Diffusion(()), "fall"),
        (lambda: Diffusion((1.0, 1.0)), "fall"),
        (lambda: Diffusion((1.0, 0.0)), "noise level"),
        (lambda: Diffusion.geometric(1.0, 2.0, 5), "lowest < highest"),
        (lambda: Diffusion.from_alphas(torch.tensor([0.5, 1.0])), "open interval"),
        (lambda: Diffusion((1.0,))(torch.zeros(2, 3), torch.zeros(0, 3)), "at least one sample"),
        (lambda: Diffusion((1.0,))(torch.zeros(2, 3), torch.zeros(2, 4)), "last dimension"),
        (lambda: novelty(torch.zeros(2, 3), torch.zeros(0, 3), memorised=0.1, spurious=0.1), "no training|of one width|training samples"),
        (lambda: novelty(torch.zeros(2, 3), torch.zeros(2, 3), memorised=-0.1, spurious=0.1), "thresholds"),
        (lambda: speciation_level(torch.zeros(1, 3)), "two samples"),
        (lambda: recovery_level(Diffusion((1.0,)), torch.zeros(2, 3), within=0.1, trials=0), "trials"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_diverged_is_not_new():
    with pytest.raises(ValueError, match="diverged"):
        novelty(torch.full((2, 3), torch.nan), torch.zeros(4, 3), memorised=0.1, spurious=0.1)


def test_few_trajectories_at_a_time_change_nothing(monkeypatch):
    data, diffusion = torch.randn(9, 3, dtype=D), Diffusion.geometric(9.0, 0.01, 20)
    path = diffusion(9 * torch.randn(11, 3, dtype=D), data, record=True).trajectory
    level, near = commitment(path, diffusion, data), novelty(path[-1], data, memorised=0.1, spurious=0.1)
    monkeypatch.setattr("hopfield_amem.kernels.rows.BUDGET", 4 * 9)
    assert torch.equal(commitment(path, diffusion, data), level) and commitment(path[:, :0], diffusion, data).shape == (0,)
    parts = novelty(path[-1], data, memorised=0.1, spurious=0.1)
    assert torch.equal(parts.to_generated, near.to_generated) and torch.equal(parts.to_training, near.to_training)
