"""Energy against depth: scale-free in every layer, and what a trained network does."""

import pytest
import torch

from hopfield_amem.analysis import energy_by_depth


def test_the_energy_is_the_papers_and_scales_drop_out():
    torch.manual_seed(0)
    patterns, x = torch.randn(9, 5), torch.randn(4, 5)
    found = energy_by_depth([x, 100 * x], [patterns, 100 * patterns])
    apart = (patterns.double().unsqueeze(1) - patterns.double()).norm(dim=-1) + torch.diag(torch.full((9,), torch.inf, dtype=torch.float64))
    r = apart.amin(-1).median()
    squares = (x.double().unsqueeze(1) - patterns.double()).square().sum(-1)
    torch.testing.assert_close(found.energy[0], -torch.logsumexp(-0.5 * squares / r**2, -1), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.nearest[0], squares.amin(-1).sqrt() / r, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.energy[0], found.energy[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.radius, torch.stack([r, 100 * r]), rtol=1e-5, atol=0)
    assert found.identified is None


def test_who_is_nearest_to_its_own_pattern_is_counted():
    patterns = 5 * torch.eye(4)
    near = patterns + 0.1
    found = energy_by_depth([near, near.flip(0)], [patterns, patterns], own=torch.arange(4))
    assert found.identified.tolist() == [1.0, 0.0] and "identified" in str(found)


@pytest.mark.parametrize(
    "states, patterns, why",
    [
        ([], [], "same layers"),
        ([torch.ones(2, 3)], [torch.ones(2, 3)] * 2, "same layers"),
        ([torch.ones(2, 3)], [torch.ones(2, 4)], "Layer 0"),
        ([torch.ones(2, 3)], [torch.ones(1, 3)], "at least two"),
        ([torch.ones(2, 3)], [torch.ones(4, 3)], "all the same"),
    ],
)
def test_what_does_not_fit_is_refused(states, patterns, why):
    with pytest.raises(ValueError, match=why):
        energy_by_depth(states, patterns)


def test_every_query_has_one_pattern_of_its_own():
    patterns = torch.eye(4)
    for own in (torch.tensor([0]), torch.tensor(0), torch.arange(3)):
        with pytest.raises(ValueError, match="one index for each"):
            energy_by_depth([patterns], [patterns], own=own)


class TestTransformers:
    transformers = pytest.importorskip("transformers")

    def model(self, kind="GPT2"):
        torch.manual_seed(0)
        if kind == "GPT2":
            return self.transformers.GPT2LMHeadModel(
                self.transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=3, n_head=2, n_positions=12, bos_token_id=0, eos_token_id=0)
            )
        return self.transformers.BertModel(
            self.transformers.BertConfig(
                vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, max_position_embeddings=12
            )
        )

    @pytest.mark.parametrize("kind", ["GPT2", "Bert"])
    @pytest.mark.parametrize("pool", ["last", "mean"])
    def test_padding_is_not_looked_at(self, kind, pool):
        from hopfield_amem.integrations.huggingface import states_by_depth

        model, tokens = self.model(kind).eval(), torch.randint(1, 20, (2, 5))
        padded = torch.cat([tokens, torch.zeros(2, 3, dtype=torch.long)], 1)
        mask = torch.cat([torch.ones(2, 5), torch.zeros(2, 3)], 1).long()
        whole = states_by_depth(model, {"input_ids": padded, "attention_mask": mask}, pool)
        plain = states_by_depth(model, {"input_ids": tokens}, pool)
        assert len(plain) == (4 if kind == "GPT2" else 3) and plain[0].shape == (2, 8)
        for mine, theirs in zip(whole, plain, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
        found = energy_by_depth(plain, states_by_depth(model, {"input_ids": torch.randint(1, 20, (6, 5))}, pool))
        assert found.energy.shape == (len(plain), 2) and bool(found.energy.isfinite().all())

    def test_training_mode_comes_back_and_what_does_not_fit_is_refused(self):
        from hopfield_amem.integrations.huggingface import states_by_depth

        model, tokens = self.model().train(), torch.ones(2, 4, dtype=torch.long)
        states_by_depth(model, {"input_ids": tokens})
        assert model.training
        with pytest.raises(ValueError, match="'last' or 'mean'"):
            states_by_depth(model, {"input_ids": tokens}, "first")
        with pytest.raises(ValueError, match="a token in every row"):
            states_by_depth(model, {"input_ids": tokens, "attention_mask": torch.zeros(2, 4)})
