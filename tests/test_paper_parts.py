"""The parts of reproductions that papers define exactly: tasks and models with known answers."""

import sys
from pathlib import Path

import pytest
import torch
from scipy import stats

sys.path.append(str(Path(__file__).parents[1] / "examples" / "papers"))
from parts import induction, latent_concepts, two_memories
from parts.paired import lead, paired


def test_a_written_value_matrix_counts_the_nearest_neighbours_of_every_token():
    torch.manual_seed(0)
    context = torch.randint(latent_concepts.TOKENS, (20, 9))
    counts = (latent_concepts.hamming()[:, context] == 1).sum(-1).T  # (20, tokens)
    said = latent_concepts.constructed(torch.eye(latent_concepts.TOKENS))(context)
    torch.testing.assert_close(9 * said, counts.float())


def test_contexts_leave_out_what_they_are_about_and_are_likelier_near_it():
    likelihood, apart = latent_concepts.neighbours(), latent_concepts.hamming()
    torch.testing.assert_close(likelihood.sum(-1), torch.ones(latent_concepts.TOKENS))
    assert not likelihood.diagonal().any()
    torch.testing.assert_close(likelihood[apart == 1][0] / likelihood[apart == 2][0], torch.tensor(1 / latent_concepts.TEMPERATURE).exp())
    shared = latent_concepts.neighbours(2)
    assert not shared[apart == latent_concepts.BITS].any() and (shared > 0).sum(-1).unique().tolist() == [2 ** (latent_concepts.BITS - 2) - 1]


def test_who_knows_the_distribution_names_the_only_possible_target():
    likelihood = latent_concepts.neighbours()
    context = torch.tensor([[token for token in range(latent_concepts.TOKENS) if token != 7]])
    assert latent_concepts.best(context, likelihood).tolist() == [7]  # every other token is in the context, which no context about it has


def test_two_memories_read_one_unit_step_of_their_summed_energies():
    torch.manual_seed(0)
    model = two_memories.TwoMemories(30, 8, 16, 20).double()
    read, step = model.stepped(model.keys[:5], model.keys[torch.randint(30, (5, 6))], torch.randint(8, (5, 6)))
    torch.testing.assert_close(read, step)


def test_paired_runs_tell_the_mean_difference_and_its_interval_by_student():
    mean, low, high = paired([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    assert mean == pytest.approx(2) and (high - mean, mean - low) == pytest.approx([4.302653 / 3**0.5] * 2)  # 97.5 % quantile of t with two degrees of freedom
    assert paired([1.0, 2.0, 3.0]) == (mean, low, high)


@pytest.mark.parametrize(("first", "second"), [([1.0], [2.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])])
def test_paired_refuses_what_is_no_pairs(first, second):
    with pytest.raises(ValueError, match="of both kinds"):
        paired(first, second)


def test_the_lead_of_paired_differences_is_their_t_statistic():
    one, other = torch.tensor([3.0, 5.0, 4.0, 9.0]), torch.tensor([2.0, 1.0, 4.0, 6.0])
    assert lead((one - other).tolist()) == pytest.approx(float(stats.ttest_rel(one, other).statistic))
    assert lead([0.3]) == 0  # one draw settles nothing


def test_written_keys_are_an_induction_head():
    torch.manual_seed(0)
    bigrams, model = induction.Bigrams.of_text(), induction.TwoLayers(16, 256)
    for layer in model.layers:
        for part in (layer.values, layer.output):
            torch.nn.init.normal_(part.weight, std=256**-0.5)
    model.write_keys(40.0)
    found = model.probes(bigrams)
    assert found["previous"] == found["induction"] == 1
    first = model.layers[0].association(model.embeddings[:16] + model.positions, causal=True).squeeze(0)
    assert first.diagonal(-1).min() > 0.9  # every position looks at the one before


def test_what_follows_a_trigger_is_drawn_by_the_law_given():
    torch.manual_seed(0)
    only = torch.nn.functional.one_hot(torch.tensor(40), induction.SYMBOLS).float()
    tokens, told = induction.Bigrams.of_text().sequences(20, 30, only)
    assert told.any() and (tokens[:, 1:][tokens[:, :-1] < induction.TRIGGERS] == 40).all()
    assert not told[:, 0].any()  # nothing was met before
