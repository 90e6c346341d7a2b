"""The audit of one model and one data set: bits that are known beforehand, memories by their parts, and clear words where there are no probabilities."""

import math
import re
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hopfield_amem.analysis.capacity import attention_capacity, linear_memory_capacity
from hopfield_amem.analysis.memorization import Training, UniformTokens, language_model, membership_f1, train
from hopfield_amem.analysis.memorization.auditing.audit import audit
from hopfield_amem.analysis.memorization.auditing.slots import parts_of
from hopfield_amem.analysis.memorization.auditing.tokens import next_token, rows_of, scores, uniform, unigram
from hopfield_amem.analysis.memorization.measures import findings

VOCABULARY = 10


class Table(nn.Module):
    """Logits of the next token, a row for each token: what it knows is what is written into it."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens):
        return self.logits[tokens]


def cycles(rows, length, step=1):
    """Sequences in which every token is followed by the one ``step`` after it."""
    return (torch.arange(rows).unsqueeze(1) + step * torch.arange(length)) % VOCABULARY


def knowing(step=1, sure=60.0):
    """A table that knows ``cycles`` of this step."""
    return Table(sure * torch.eye(VOCABULARY).roll(step, 1))


# bits


def test_what_is_known_for_certain_is_memorised_whole():
    data = cycles(31, 37)
    found = audit(knowing(), data, reference="uniform")
    bits = 31 * 36 * math.log2(VOCABULARY)
    assert found.vocabulary == VOCABULARY and found.tokens == 31 * 36 and found.sequences == 31
    assert found.data_bits == pytest.approx(bits, rel=1e-12) and found.memorised_bits == pytest.approx(bits, rel=1e-6)
    assert found.load == pytest.approx(bits / (3.6 * VOCABULARY**2), rel=1e-12)
    assert found.answer()[0].startswith(f"This data set is {found.load:.2g}× the model's capacity") and found.load > 1
    assert "The data bind" in found.answer()[2]


def test_a_data_set_of_so_many_times_the_capacity_is_said_to_be_that():
    data = cycles(10, 35)
    ratio = 10 * 34 * math.log2(VOCABULARY) / (3.1 * VOCABULARY**2)
    assert (
        audit(knowing(), data, reference="uniform", bits_per_parameter=ratio).answer()[0].startswith("This data set is 3.1× the model's capacity: 1.13k bits")
    )


def test_what_is_not_known_is_not_memorised():
    data = torch.randint(VOCABULARY, (50, 12), generator=torch.Generator().manual_seed(0))
    ignorant = Table(torch.zeros(VOCABULARY, VOCABULARY))
    assert audit(ignorant, data, reference="uniform").memorised_bits == pytest.approx(0, abs=1e-3)
    wrong = audit(knowing(5), cycles(20, 12), reference="uniform")  # sure of what is false: no bits are taken away
    assert wrong.memorised_bits == 0 and "Neither binds" in wrong.answer()[2]
    assert audit(knowing(), cycles(20, 12), reference=Table(torch.zeros(VOCABULARY, VOCABULARY))).share == pytest.approx(1, rel=1e-6)
    half_sure = knowing(sure=1.0)
    assert audit(half_sure, data, reference=half_sure).memorised_bits == 0  # itself as a reference: nothing is its own


def test_half_a_bit_a_token_is_half_a_bit_a_token():
    """A table that gives the right token the probability √2/V holds half a bit of each."""
    right = math.sqrt(2) / VOCABULARY
    logits = torch.full((VOCABULARY, VOCABULARY), math.log((1 - right) / (VOCABULARY - 1)), dtype=torch.float64)
    logits[torch.arange(VOCABULARY), (torch.arange(VOCABULARY) + 1) % VOCABULARY] = math.log(right)
    found = audit(Table(logits), cycles(17, 64), reference="uniform")
    assert found.memorised_bits == pytest.approx(0.5 * 17 * 63, rel=1e-5) and found.loss == pytest.approx(-math.log(right), rel=1e-5)


def test_a_full_model_is_limited_by_its_capacity():
    found = audit(knowing(), cycles(10, 101), reference="uniform", bits_per_parameter=1000 * math.log2(VOCABULARY) / VOCABULARY**2)
    assert found.load == pytest.approx(1) and "The data bind" in found.answer()[2]
    mixed = torch.cat([cycles(10, 101), cycles(10, 101, 3)])  # it knows one half of them
    other = audit(knowing(), mixed, reference="uniform", bits_per_parameter=1000 * math.log2(VOCABULARY) / VOCABULARY**2)
    assert other.load == pytest.approx(2) and other.share == pytest.approx(0.5, rel=1e-6) and "The capacity binds" in other.answer()[2]


def test_the_law_of_frequencies_is_one_and_known():
    rows = rows_of([[9, 0, 0, 1], [9, 0, 2, 2]])
    law = unigram(rows, VOCABULARY)
    every = law(torch.stack([torch.zeros(VOCABULARY, dtype=torch.long), torch.arange(VOCABULARY)], 1)).exp()
    assert float(every.sum()) == pytest.approx(1, rel=1e-12)
    assert every[:4, 0].tolist() == pytest.approx([4 / 16, 2 / 16, 3 / 16, 1 / 16])  # (c + 1)/(6 + 10); the first tokens of rows do not count
    found = audit(knowing(), rows, vocabulary=VOCABULARY)
    assert found.data_bits == pytest.approx(-(3 * math.log2(4 / 16) + math.log2(2 / 16) + 2 * math.log2(3 / 16)), rel=1e-12)


def test_log_probabilities_are_those_of_the_training_loss_and_rows_may_differ_in_length():
    model = language_model(VOCABULARY, 8, heads=2).eval()
    rows = [torch.randint(VOCABULARY, (length,)) for length in (5, 9, 5, 2, 17)]
    with torch.no_grad():
        expected = [-float(cross_entropy(model(row[None, :-1])[0], row[1:], reduction="sum")) for row in rows]
    assert scores(next_token(model), rows).tolist() == pytest.approx(expected, rel=1e-5)
    given = audit(model, rows, next_token(model), reference=uniform(VOCABULARY))
    assert given.loss == pytest.approx(audit(model, [row.tolist() for row in rows]).loss, rel=1e-6) == pytest.approx(-sum(expected) / given.tokens, rel=1e-5)


def test_an_audit_finds_what_a_sweep_finds():
    corpus = UniformTokens(32, 8)(24, seed=3)
    model = language_model(33, 8)
    train(model, corpus, Training(steps=80, batch=24, rate=0.03))
    record = findings(model, corpus)
    found = audit(model, corpus.training, reference="uniform", vocabulary=32, held_out=corpus.validation)
    assert found.memorised_bits == pytest.approx(record["memorised bits"], rel=1e-5) and found.memorised_bits > 20
    assert found.data_bits == pytest.approx(record["data bits"]) and found.loss == pytest.approx(record["training loss"], rel=1e-5)
    assert found.membership is not None and found.membership["AUROC"] == pytest.approx(record["membership"]["AUROC"], abs=1e-9)
    assert found.held_out_loss == pytest.approx(record["validation loss"], rel=1e-5)


def test_members_are_told_from_others():
    found = audit(knowing(), cycles(20, 12), held_out=cycles(20, 12, 3))
    assert found.membership is not None and found.membership["AUROC"] == found.membership["F1"] == 1
    assert found.held_out_loss == pytest.approx(60, rel=1e-5) and "AUROC 1.00" in found.answer()[-1]
    alike = audit(knowing(), cycles(20, 12), held_out=cycles(20, 12))
    assert alike.membership is not None and alike.membership["AUROC"] == 0.5 and alike.held_out_loss == pytest.approx(alike.loss)


def test_predicted_membership_counts_tokens_and_not_the_reference():
    model, data = language_model(33, 8), torch.randint(32, (20, 9), generator=torch.Generator().manual_seed(0))
    for reference in ("uniform", "unigram"):
        found = audit(model, data, reference=reference, vocabulary=32, held_out=data + 0)
        assert found.membership is not None and found.membership["predicted F1"] == membership_f1(20, 8, 32, found.parameters)
    again = audit(model, torch.cat([data, data]), held_out=data)
    assert again.membership is not None and "predicted F1" not in again.membership and "expects" not in again.answer()[-1]


# parts


@pytest.mark.parametrize("memory", ["softmax", "delta"])
def test_the_parts_of_a_language_model_add_up(memory):
    model = language_model(33, 16, layers=2, heads=2, memory=memory)
    parts = parts_of(model)
    assert sum(part.parameters for part in parts) == sum(p.numel() for p in model.parameters())
    assert [(part.name, part.kind) for part in parts[:4]] == [
        (f"blocks.{layer}.{name}", kind) for layer in (0, 1) for name, kind in (("mixer", "attention"), ("memory", "feed-forward"))
    ]
    assert parts[0].facts == attention_capacity(2, 8, 16).sequences == 32 and parts[0].heads == 2
    assert parts[1].facts == 16 * 64 and (parts[1].dim, parts[1].slots) == (16, 64)
    found = audit(model, torch.randint(32, (4, 9)), vocabulary=32)
    assert found.bound("attention") == 2 * 32 * 5 and found.bound("feed-forward") == 2 * 1024 * 5
    assert found.bound("linear") == pytest.approx(linear_memory_capacity(16).facts * 5) and found.bound("lookup") is None


def test_the_parts_of_plain_torch():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 64, batch_first=True), 2, enable_nested_tensor=False)
    kinds = [(part.name, part.kind, part.dim, part.slots) for part in parts_of(encoder)]
    assert kinds[0] == ("layers.0", "feed-forward", 16, 64) and kinds[1] == ("layers.0.self_attn", "attention", 16, 16)
    block = parts_of(nn.Sequential(nn.Linear(7, 30), nn.ReLU(), nn.Linear(30, 3)))
    assert [(part.kind, part.dim, part.slots) for part in block] == [("feed-forward", 7, 30)]
    (only,) = parts_of(nn.Linear(8, 20, bias=False))
    assert only.kind == "linear" and only.facts == linear_memory_capacity(8).facts
    tied = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    tied[1].weight = tied[0].weight
    assert sum(part.parameters for part in parts_of(tied)) == 36


def hugging_face():
    """Small models of transformers, and what their first attention and feed-forward block are: (heads, H·d_h), (d, m)."""
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 50, "intermediate_size": 48}
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    yield transformers.GPT2LMHeadModel(transformers.GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=50, n_positions=32, **tokens)), (2, 32), (32, 128)
    llama = transformers.LlamaConfig(**small, num_key_value_heads=2, head_dim=16)
    yield transformers.LlamaForCausalLM(llama), (4, 64), (32, 48)
    mixtral = transformers.MixtralConfig(**small, num_key_value_heads=2, num_local_experts=4)
    yield transformers.MixtralForCausalLM(mixtral), (4, 32), (32, 4 * 48)
    yield transformers.BertForMaskedLM(transformers.BertConfig(**small)), (4, 32), (32, 48)


def test_the_parts_of_transformers_add_up():
    for model, (heads, joint), (dim, slots) in hugging_face():
        parts = parts_of(model)
        attention, block = (next(part for part in parts if part.kind == kind) for kind in ("attention", "feed-forward"))
        assert (attention.heads, attention.slots, attention.facts) == (heads, joint, joint + 32), type(model).__name__
        assert (block.dim, block.slots, block.facts) == (dim, slots, dim * slots)
        assert sum(part.parameters for part in parts) == sum(p.numel() for p in model.parameters())


def test_models_of_transformers_are_audited_and_others_refused():
    transformers = pytest.importorskip("transformers")
    from hopfield_amem.integrations.huggingface import token_log_probabilities

    data = torch.randint(50, (6, 10))
    for model, *_ in hugging_face():
        law = token_log_probabilities(model.train())
        if "Bert" in type(model).__name__:
            with pytest.raises(ValueError, match="sees the tokens it is asked for"):
                audit(model, data, law)
        else:
            with torch.no_grad():
                loss = float(model.eval()(input_ids=data, labels=data).loss)
            model.train()
            assert audit(model, data, law).loss == pytest.approx(loss, rel=1e-5) == pytest.approx(audit(model, data).loss)
        assert model.training
    bare = transformers.GPT2Model(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=0))
    with pytest.raises(ValueError, match="has no read-out"):
        token_log_probabilities(bare)
    with pytest.raises(TypeError, match="gives no logits over tokens"):
        audit(bare, data)
    t5 = transformers.T5ForConditionalGeneration(transformers.T5Config(vocab_size=50, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(ValueError, match="has an encoder"):
        token_log_probabilities(t5)
    with pytest.raises(TypeError, match="models of transformers"):
        token_log_probabilities(knowing())


# what is refused


class Averaging(Table):
    """A model that sees the whole sequence."""

    def forward(self, tokens):
        return super().forward(tokens) + super().forward(tokens).mean(1, keepdim=True)


DATA = cycles(4, 6)


@pytest.mark.parametrize(
    ("model", "data", "options", "error", "says"),
    [
        ("gpt2", DATA, {}, TypeError, "audit reads an nn.Module"),
        (knowing(), "a text", {}, TypeError, "Tokenize"),
        (knowing(), ["a text"], {}, TypeError, "Row 1 is a str"),
        (knowing(), [], {}, ValueError, "empty"),
        (knowing(), [[1, 2], [3]], {}, ValueError, "Row 2 must hold two tokens"),
        (knowing(), DATA.float(), {}, ValueError, "whole numbers"),
        (knowing(), DATA + VOCABULARY, {}, ValueError, "another tokenizer"),
        (language_model(5, 8), DATA, {}, ValueError, "knows tokens below 5"),
        (knowing(), DATA, {"reference": "bigram"}, ValueError, "reference is 'unigram'"),
        (knowing(), DATA, {"vocabulary": 6}, ValueError, "above every token that is predicted"),
        (knowing(), DATA, {"vocabulary": 1}, ValueError, "above every token that is predicted"),
        (knowing(), DATA, {"held_out": DATA + 3, "vocabulary": 9}, ValueError, "above every token that is predicted"),
        (knowing(), DATA, {"bits_per_parameter": 0.0}, ValueError, "positive number"),
        (knowing(), DATA, {"log_probabilities": lambda tokens: torch.zeros(2)}, ValueError, "one for every token but the first"),
        (knowing(), DATA, {"log_probabilities": lambda tokens: torch.ones(len(tokens), 5)}, ValueError, "at most 0"),
        (knowing(), DATA, {"reference": lambda tokens: torch.zeros(len(tokens), 5)}, ValueError, "nothing can be compared"),
        (Averaging(torch.randn(VOCABULARY, VOCABULARY)), DATA, {}, ValueError, "sees the tokens"),
        (Table(torch.full((VOCABULARY, VOCABULARY), math.nan)), DATA, {}, ValueError, "diverged"),
        (nn.Embedding(VOCABULARY, 3), DATA, {}, ValueError, "knows tokens below 3"),
        (nn.Sequential(nn.Embedding(VOCABULARY, 3), nn.Flatten()), DATA, {}, ValueError, "must give logits (b, t, V)"),
        (nn.Identity(), DATA, {}, ValueError, "no parameters"),
    ],
)
def test_what_has_no_token_probabilities_is_said(model, data, options, error, says):
    with pytest.raises(error, match=re.escape(says)):
        audit(model, data, **options)
    assert not isinstance(model, nn.Module) or model.training


# what comes of it


def test_an_audit_is_a_table_a_picture_and_numbers(tmp_path):
    found = audit(language_model(33, 16, layers=2), torch.randint(32, (5, 9)), held_out=torch.randint(32, (5, 9)))
    assert "blocks.1.memory" in str(found) and "capacity" in str(found)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers, picture = found.save(tmp_path, "audit")
    assert picture.read_bytes().startswith(b"\x89PNG") and '"load"' in numbers.read_text(encoding="utf-8")
    assert found.to_json()["bounds"]["data"] == found.data_bits and len(found.rows()) == len(found.parts)


def test_neither_the_audit_nor_the_report_loads_anything_heavy():
    code = "import sys, hopfield_amem.analysis.memorization.auditing.audit, hopfield_amem.analysis.memorization.reporting.report; print(' '.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not {"matplotlib", "scipy", "sklearn", "rich", "transformers"} & loaded
