"""What is said about one read: sizes, margins, noise, classes of the paper; and how it is told."""

import math
import os
from types import SimpleNamespace

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch

pytest.importorskip("transformers")

from tiny_models import build, padded

from hopfield_amem.analysis.association import effective_slots, metastable_class, metastable_size, retrieval_noise, score_margin
from hopfield_amem.analysis.inspection import tabulate
from hopfield_amem.analysis.plots.association import association_heads
from hopfield_amem.analysis.tally import HeadTally, Reading
from hopfield_amem.integrations.huggingface import inspect


def one_read(scores, *, first=0):
    """The summary of one head that reads these scores (q, n) with softmax; ½‖x‖² = 0, β = 1."""
    scores = scores[None, None]
    weights = scores.softmax(-1)
    seen = torch.ones_like(scores, dtype=torch.bool)
    tally = HeadTally()
    tally.add(Reading(-scores.logsumexp(-1), scores, weights, seen, torch.zeros(scores.shape[:-1])), seen[:, 0, :, 0], torch.tensor([first]))
    return tabulate({"layer": tally.summary() | {"beta": torch.ones(1)}}, {}, {}).heads


def test_one_pattern():
    q = 100 * torch.eye(40, 40)[:7]
    heads = one_read(q @ torch.eye(40).T)
    assert heads.effective.item() == pytest.approx(1) and heads.size.item() == 1 and heads.kind.item() == 4
    assert heads.classes.tolist() == [[[0, 0, 0, 7]]]
    assert heads.margin.item() == 100 and heads.snr.item() > 1e12 and heads.visible.item() == 40


def test_all_patterns():
    heads = one_read(torch.zeros(7, 40))
    assert heads.effective.item() == pytest.approx(40) and heads.size.item() == 36 and heads.kind.item() == 1
    assert heads.margin.item() == 0 and heads.snr.item() == pytest.approx(1 / 39) and heads.first.item() == pytest.approx(1 / 40)
    assert heads.energy.item() == pytest.approx(-math.log(40))


def test_a_sink_on_the_first_token():
    scores = torch.zeros(5, 17)
    scores[:, 3] = 200
    assert one_read(scores, first=3).first.item() == pytest.approx(1)
    assert one_read(scores, first=0).first.item() == pytest.approx(0)


def test_a_query_that_gives_all_to_a_sink_retrieves_nothing():
    scores = torch.tensor([[[[0.0, 0.0, 0.0], [5.0, 5.0, -9.0]]]])
    weights, null = torch.tensor([[[[0.0, 0.0, 0.0], [0.25, 0.25, 0.0]]]]), torch.tensor([[[1.0, 0.5]]])
    tally = HeadTally()
    tally.add(
        Reading(null, scores, weights, torch.ones(1, 1, 2, 3, dtype=torch.bool), null), torch.ones(1, 2, dtype=torch.bool), torch.zeros(1, dtype=torch.long)
    )
    heads = tabulate({"layer": tally.summary() | {"beta": torch.ones(1)}}, {}, {}).heads
    assert heads.queries.item() == 2 and heads.null.item() == 0.75 and heads.first.item() == 0.125 and heads.effective.item() == 1
    assert heads.snr.item() == 1 and heads.classes.tolist() == [[[1, 0, 0, 0]]]


def test_the_classes_are_those_of_the_paper():
    k = torch.tensor([512, 257, 256, 65, 64, 17, 16, 1, 0])
    assert metastable_class(k, torch.tensor(512)).tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 0]
    assert metastable_class(torch.tensor([1, 2, 3, 8]), torch.tensor(8)).tolist() == [4, 2, 2, 1]  # a single slot is a single pattern


def test_the_class_of_a_head_is_that_of_its_median_query():
    for sizes in ([1, 2, 60, 60, 300], [300, 60, 300], [1, 1, 300], [20], [1, 300]):
        scores = torch.full((len(sizes), 512), -100.0)
        for row, k in zip(scores, sizes, strict=True):
            row[: round(k / 0.9)] = 0.0
        median = torch.tensor(sizes).median()
        assert one_read(scores).kind.item() == metastable_class(median, torch.tensor(512)), sizes


@pytest.mark.parametrize("n", [1, 2, 17, 63])
def test_numbers_of_slots(n):
    uniform, single = torch.full((3, n), 1 / n), torch.eye(n)[:1]
    assert torch.allclose(effective_slots(uniform), torch.tensor(float(n))) and effective_slots(single).item() == 1
    assert metastable_size(uniform).tolist() == [math.ceil(0.9 * n - 1e-6)] * 3 and metastable_size(single).item() == 1
    assert torch.allclose(retrieval_noise(uniform), torch.tensor(n - 1.0), atol=1e-5) and retrieval_noise(single).item() == 0
    weights = torch.rand(5, 2 * n)[:, ::2]
    assert torch.allclose(effective_slots(-3 * weights), effective_slots(weights)) and torch.equal(metastable_size(3 * weights), metastable_size(weights))


def test_rows_without_weight_retrieve_nothing():
    nothing = torch.zeros(1, 4)
    assert effective_slots(nothing).item() == 0 and metastable_size(nothing).item() == 0 and retrieval_noise(nothing).isnan().all()
    assert score_margin(torch.ones(1, 1)).isnan().all()
    assert score_margin(torch.tensor([[3.0, 9.0, 1.0]]), torch.tensor([True, False, True])).item() == 2
    assert score_margin(torch.tensor([[3.0, 9.0]]), torch.tensor([True, False])).isnan().all()


def test_the_noise_is_that_of_random_values():
    weights, values = torch.rand(6, 9, dtype=torch.float64), torch.randn(20000, 9, 16, dtype=torch.float64)
    top = weights.argmax(-1)
    read = weights @ values
    signal = weights.gather(-1, top[:, None]) * values[:, top]
    measured = ((read - signal).square().sum(-1) / (signal.square().sum(-1).mean(0))).mean(0)
    assert torch.allclose(retrieval_noise(weights), measured, rtol=0.05)


def test_a_query_that_sees_one_slot_chooses_nothing():
    found = inspect(build("llama", "sdpa"), {"input_ids": torch.randint(3, 50, (2, 9))}).heads
    assert (found.queries == 2 * 8).all() and torch.allclose(found.visible, torch.tensor(5.5).double())
    alone = inspect(build("llama", "sdpa"), {"input_ids": torch.randint(3, 50, (2, 1))}).heads
    assert (alone.queries == 0).all() and alone.effective.isnan().all() and (alone.kind == 0).all()


def test_the_table():
    found = inspect(build("llama", "sdpa"), padded("llama"))
    rows = found.rows()
    assert len(rows) == 2 * 4 + 2 and rows[5]["layer"] == "model.layers.1.self_attn" and rows[5]["head"] == 1
    assert rows[5]["effective"] == found.heads.effective[1, 1].item() and rows[5]["kind"] in ("I", "II", "III", "IV")
    assert rows[8]["block"] == "model.layers.0.mlp.down_proj" and rows[8]["slots"] == 48
    lines = str(found).splitlines()
    assert lines[1].startswith("model.layers.0.self_attn") and lines[4].startswith("feed-forward") and len(lines) == 7


def test_data_frames(monkeypatch):
    found = inspect(build("bert", "sdpa"), padded("bert"))
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas"):
        found.to_pandas()
    monkeypatch.setitem(__import__("sys").modules, "pandas", SimpleNamespace(DataFrame=list))
    heads, blocks = found.to_pandas()
    assert [*heads, *blocks] == found.rows() and len(blocks) == 2


def test_layers_of_different_numbers_of_heads():
    def summary(heads):
        tally = HeadTally()
        scores = torch.randn(2, heads, 5, 9)
        seen = torch.ones(2, heads, 5, 9, dtype=torch.bool)
        tally.add(Reading(scores[..., 0], scores, scores.softmax(-1), seen, torch.zeros(2, heads, 5)), seen[:, 0, :, 0], torch.zeros(2, dtype=torch.long))
        return tally.summary() | {"beta": torch.ones(heads, dtype=torch.float64)}

    found = tabulate({"wide": summary(3), "narrow": summary(1)}, {}, {})
    assert found.heads.effective[1].isnan().tolist() == [False, True, True] and found.heads.kind[1, 1:].tolist() == [0, 0]
    assert len(found.rows()) == 4 and str(found).count("\n") == 2
    assert len(association_heads(found).subfigs) == 1  # no feed-forward blocks, no bars


def test_the_figure_says_what_it_shows(tmp_path):
    from hopfield_amem.analysis.plots import save

    figure = association_heads(inspect(build("gpt_oss"), padded("gpt_oss")), "gpt-oss")
    path = save(figure, tmp_path / "heads.png")
    assert path.stat().st_size > 10_000
    maps = [place for part in figure.subfigs for place in part.axes if place.get_title()]
    assert [place.get_title() for place in maps][2:] == ["weight on the first token or a sink", "margin, nearest to second nearest"]
    both = association_heads(inspect(build("llama"), padded("llama")))
    assert both.subfigs[1].axes[0].get_title() == "feed-forward blocks, 48 slots each"
