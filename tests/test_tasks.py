"""The tasks that show that layers learn: their data, their models, their pages."""

import math

import learning_bits
import learning_language
import learning_retrieval
import pytest
import results
import torch
from learning import report
from learning_bits import FORMS, LAYERS, NETWORKS, Bags, Detection, train
from learning_language import ITERATED, MIXERS, Text, biweight
from learning_retrieval import BINARY, STEPS, Binary, Digit, binary
from learning_runs import OBJECTION, STUDIES
from studies import spread

from hopfield_amem import ReadEnergy, presets, retrieve
from hopfield_amem.energies import Euclidean, Log

language_model, windows = learning_language.language_model.language_model, learning_language.language_model.windows


def codes(bags):
    """Every instance as the number that its bits spell."""
    return (bags.long() * 2 ** torch.arange(bags.shape[-1])).sum(-1)


def peers_bags():
    data = pytest.importorskip("difflayers.auxiliary.data").BitPatternSet(num_bags=2048, num_instances=16, num_signals=8)
    bags = [data[place] for place in range(2048)]
    return torch.stack([bag["data"] for bag in bags]), torch.stack([bag["target"] for bag in bags])


@pytest.mark.parametrize("draw", [lambda: Bags().draw(0), lambda: Bags().draw(1), peers_bags], ids=["ours", "another seed", "hopfield-layers"])
def test_bags_are_what_hopfield_layers_defines(draw):
    bags, labels = draw()
    found = codes(bags)
    signals = set(found[labels == 1].unique().tolist()) - set(found[labels == 0].unique().tolist())
    others = set(found[labels == 0].unique().tolist())
    assert bags.shape == (2048, 16, 8) and labels.mean() == 0.5 and set(bags.unique().tolist()) == {0.0, 1.0}
    assert len(signals) == 8 and len(others) == 2**8 - 1 - 8 and 0 not in others | signals
    implanted = torch.isin(found, torch.tensor(sorted(signals))).sum(-1)
    assert torch.equal(implanted, labels.long())


def test_bags_of_only_signals_are_refused():
    with pytest.raises(ValueError, match="7 patterns"):
        Bags(bits=3, signals=7)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_fits_every_network(network):
    task = Bags(bags=8, instances=3)
    for name, layer in LAYERS.items():
        if name.startswith("hopfield-layers"):
            pytest.importorskip("difflayers")
        if (name, network) != ("no layer", "notebook"):
            assert NETWORKS[network](layer, task)(task.draw(0)[0]).shape == (8,)


def test_a_layer_finds_the_signals_that_its_network_alone_does_not():
    assert train(Detection("association", epochs=8))["held out"] > 0.75
    assert train(Detection("no layer", epochs=8))["held out"] < 0.65


def test_nothing_held_out_was_trained_on():
    trained, held_out = (bytes(windows(part).flatten().tolist()).decode(errors="replace") for part in (False, True))
    assert not set(trained.split("\n\n")) & set(held_out.split("\n\n"))


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_language_model_sees_no_future(mixer):
    model = language_model(MIXERS[mixer]).double()
    text = torch.randint(256, (2, 12))
    later = torch.cat([text[:, :8], (text[:, 8:] + 1) % 256], 1)
    with torch.no_grad():
        torch.testing.assert_close(model(text)[:, :8], model(later)[:, :8], rtol=0, atol=1e-12)
        assert not torch.allclose(model(text)[:, 8:], model(later)[:, 8:])


def test_models_of_every_number_of_steps_are_of_one_size():
    assert len({sum(p.numel() for p in language_model(mixer).parameters()) for mixer in ITERATED.values()}) == 1


def test_biweight_weighs_by_epanechnikovs_kernel_and_epanechnikov_by_nothing():
    query, keys, values = (torch.randn(n, 4, dtype=torch.float64, requires_grad=True) for n in (3, 9, 9))
    kernel = torch.relu(1 - 0.1 * torch.cdist(query, keys).square() / 2)
    smooth = ReadEnergy(Euclidean(), biweight, Log(), beta=0.1)
    torch.testing.assert_close(retrieve(smooth, query, keys, values), kernel @ values / kernel.sum(-1, keepdim=True))
    flat = retrieve(presets.epanechnikov(0.1), query, keys, values)
    torch.testing.assert_close(flat, (kernel > 0).double() @ values / (kernel > 0).sum(-1, keepdim=True))
    gradients = torch.autograd.grad(flat.square().sum(), (query, keys), retain_graph=True)
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients)  # so that attention by it cannot learn where to look


def test_further_steps_correct_crosstalk():
    for energy in ("quadratic (1982)", "dense, degree 3"):
        exact = [row["exact"] for row in binary(Binary(energy, 7))["rows"]]
        assert exact == sorted(exact) and exact[-1] > exact[0] + 0.3


def test_studies_leave_their_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(learning_retrieval, "UPDATES", 1)
    small = Bags(bags=32, instances=3)
    jobs = {
        "bits": [learning_bits.job(Detection(layer, seed, 1, task=small)) for layer in (*FORMS, "no layer") for seed in (0, 1)],
        "language": [learning_language.job(Text(mixer, 0, 1)) for mixer in ("softmax", "DeltaFormer")],
        "objection-retrieval": [learning_retrieval.job(run) for run in (Digit("pixel noise"), *(Binary(energy) for energy in BINARY))],
        "objection-bits": [learning_bits.job(Detection(f"pooling, {steps} steps, fixed β", 0, 1, task=small)) for steps in STEPS],
        "objection-language": [learning_language.job(Text("3 steps, learned β", 0, 1))],
    }
    for study, asked in jobs.items():
        for job in asked:
            results.save(tmp_path / "learning" / study, job.name, job.asked | job.work() | {"environment": results.environment(1, quick=True)})
    report(tmp_path)
    learned, objection = ((tmp_path / name).read_text(encoding="utf-8") for name in ("learning.md", "objection.md"))
    assert all(form in learned for form in FORMS) and "DeltaFormer" in learned and (tmp_path / "learning" / "language.png").stat().st_size > 1000
    assert all(energy in objection for energy in BINARY) and "| pooling | fixed β | " in objection and "| learned β | – | – | " in objection


def test_names_of_runs_are_distinct():
    for study in (STUDIES | OBJECTION).values():
        jobs = study()
        assert len({job.name for job in jobs}) == len(jobs)


def test_the_spread_of_runs_is_their_standard_error():
    assert spread([1.0, 2.0, 3.0]) == f"2.000 ± {1 / math.sqrt(3):.3f}" and spread([0.5]) == "0.500"
