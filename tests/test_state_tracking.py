"""Tasks of tracking and recall: their answers by other means, the construction that needs no training, and a short training."""

from itertools import permutations

import pytest
import torch
from rich.progress import Progress
from state_tracking import report
from studies import finished
from tracking_construction import LINEAR, ROUNDED, Vocabulary, exactness, frame
from tracking_models import CELLS, Shape, Tracker
from tracking_runs import STUDIES, name, take
from tracking_tasks import IGNORED, Reachability, Recall, Swaps, Words
from tracking_train import Recipe, Run, train


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("elements", [3, 5, 8])
def test_the_class_of_a_swap_is_what_stands_first(elements):
    task = Swaps(elements)
    tokens, targets = task.sample(6, 20, generator())
    pairs = torch.combinations(torch.arange(elements)).tolist()
    assert tokens.max() < task.inputs == len(pairs) and targets.shape == (6, 20)
    for row, expected in zip(tokens.tolist(), targets.tolist(), strict=True):
        content, firsts = list(range(elements)), []
        for token in row:
            i, j = pairs[token]
            content[i], content[j] = content[j], content[i]
            firsts.append(content[0])
        assert firsts == expected


@pytest.mark.parametrize("transpositions", [False, True])
def test_the_class_of_a_word_is_its_product(transpositions):
    task = Words(4, transpositions)
    tokens, targets = task.sample(5, 9, generator())
    group, moves = list(permutations(range(4))), task.moves().tolist()
    assert len(moves) == task.inputs == (6 if transpositions else 24) and task.classes == 24
    for row, expected in zip(tokens.tolist(), targets.tolist(), strict=True):
        product, products = tuple(range(4)), []
        for token in row:
            product = tuple(group[moves[token]][i] for i in product)
            products.append(group.index(product))
        assert products == expected


def test_reachability_follows_parents_to_the_mark():
    task = Reachability(12)
    vectors, targets = task.sample(20, 12, generator())
    assert vectors.shape == (20, 12, task.inputs) and (targets.sum(1) == 6).all()
    for graph, expected in zip(vectors, targets.tolist(), strict=True):
        parents = (graph[:, :12] - torch.eye(12)).argmax(1).tolist()
        has_parent = graph[:, :12].sum(1) > 1
        reached = [True]
        for node in range(1, 12):
            reached.append(bool(has_parent[node]) and reached[parents[node]])
            assert not has_parent[node] or parents[node] < node
        assert reached == [bool(label) for label in expected] and graph[0, 12] == 1 and not graph[1:, 12].any()


def test_recall_asks_every_key_once():
    tokens, targets = Recall(8, 64).sample(5, 24, generator())
    for row, expected in zip(tokens.tolist(), targets.tolist(), strict=True):
        told = dict(zip(row[:16:2], row[1:16:2], strict=True))
        assert len(told) == 8 and sorted(row[16:]) == sorted(told)
        assert expected[:16] == [IGNORED] * 16 and expected[16:] == [told[key] for key in row[16:]]


@pytest.mark.parametrize("count, width", [(8, 8), (16, 8), (256, 128)])
def test_frames_are_unit_and_almost_orthogonal(count, width):
    gram = frame(count, width) @ frame(count, width).mT
    torch.testing.assert_close(gram.diagonal(), torch.ones(count))
    assert (gram - torch.eye(count)).abs().max() <= width**-0.5 + 1e-6
    with pytest.raises(ValueError, match="power of two"):
        frame(count, width + 1)
    with pytest.raises(ValueError, match="count"):
        frame(2 * width + 1, width)


def test_tokens_of_exchanges_are_numbered_like_their_pairs():
    vocabulary = Vocabulary(7)
    assert vocabulary.exchange(vocabulary.pairs).tolist() == list(range(7, 7 + 21))
    assert vocabulary.exchange(vocabulary.pairs.flip(1)).tolist() == list(range(7, 7 + 21)) and vocabulary.read(torch.tensor(0)) == 28


@pytest.mark.parametrize("elements, width", [(5, 8), (128, 128), (256, 128)])
def test_handwritten_weights_track_exactly_beyond_the_width_of_keys(elements, width):
    found = exactness(elements, width, 1024)
    assert found["along"] == found["end"] == 1.0


def test_without_rounding_the_width_of_keys_is_the_limit():
    assert exactness(128, 128, 1024, LINEAR)["end"] == 1.0
    assert exactness(256, 128, 1024, LINEAR)["end"] < 0.1


def test_ten_thousand_exchanges_of_128_elements_leave_no_error():
    found = exactness(128, 128, 10_000, ROUNDED)
    assert found["tokens"] == 10_256 and found["along"] == found["end"] == 1.0


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.filterwarnings("ignore::hopfield_amem.energies.UnstableWrite")
def test_every_cell_trains(cell):
    shape = Shape(dim=36, heads=2, taps=2, erase=cell.startswith("Delta"))
    task = (Swaps(3), Recall(3, 16), Reachability(6), Words(3))[list(CELLS).index(cell) % 4]
    record = train(Run(task, cell, shape, Recipe((6,), steps=2, batch=4)))
    assert 0 <= record["accuracy"] <= 1 and record["steps"] == 2 and record["cell"] == cell


def test_a_study_goes_on_where_it_was_cut_off(tmp_path):
    recipe, folder = Recipe((4,), steps=2, batch=4), tmp_path / "swaps"
    runs = [Run(Swaps(n), "DeltaFormer, linear", Shape(8, 1), recipe) for n in (3, 4)]
    take(runs[:1], folder, 1, Progress(disable=True))
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    take(runs, folder, 1, Progress(disable=True))
    assert len(before) == 1 and len(finished(folder)) == 2
    assert all(path.stat().st_mtime_ns == before[path.name] for path in folder.iterdir() if path.name in before)
    report(tmp_path)
    assert "DeltaFormer, linear" in (tmp_path / "tracking.md").read_text(encoding="utf-8") and (tmp_path / "swaps.png").stat().st_size > 1000


def test_names_of_runs_are_distinct():
    for study in STUDIES.values():
        for device in ("cpu", "cuda"):
            runs = study(device)
            assert len({name(run) for run in runs}) == len(runs)


def test_models_have_equal_parameters():
    counts = {cell: sum(p.numel() for p in Tracker(10, 5, CELLS[cell], Shape()).parameters()) for cell in CELLS if cell.startswith(("Trans", "DeltaF"))}
    assert len(set(counts.values())) == 1


def test_a_delta_former_learns_to_track_what_a_transformer_does_not():
    recipe = Recipe(steps=300)
    assert train(Run(Swaps(5), "DeltaFormer, linear", recipe=recipe))["accuracy"] > 0.99
    assert train(Run(Swaps(5), "Transformer", Shape(rotary=1e4), Recipe(steps=120)))["accuracy"] < 0.75
