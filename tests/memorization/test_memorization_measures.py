"""How much a model memorises: exact bits, models that know everything or nothing, membership, extraction."""

import gzip
import math
import re

import pytest
import torch
from small_models import Knowing, small
from torch import nn

from hopfield_amem.analysis import memorization
from hopfield_amem.analysis.memorization import (
    Corpus,
    Glosses,
    Text,
    Training,
    UniformTokens,
    ZipfFacts,
    attainable_memorization,
    double_descent_size,
    extracted,
    membership_f1,
    predicted_memorization,
    sweep,
    unintended_memorization,
)
from hopfield_amem.analysis.memorization.measures import findings


def test_published_membership():
    """F1 of GPT-2 XL and small at the sizes predicted for 0.55, 0.75 and 0.95 (arXiv 2505.24832; numbers of the corrected formula)."""
    for size, counts, values in (
        (1.556e9, (170_654_583, 76_795_021, 18_851_574), (0.5463, 0.7451, 0.9499)),
        (1.24e8, (13_566_442, 6_104_935, 1_498_634), (0.5467, 0.7457, 0.9501)),
    ):
        for count, value in zip(counts, values, strict=True):
            assert membership_f1(count, 64, 50257, size) == pytest.approx(value, abs=1.5e-3)
    assert membership_f1(1e15, 64, 50257, 1e6) == pytest.approx(0.5)
    assert membership_f1(1, 64, 50257, 1e12) == 1


def test_the_capacity_law_has_its_corner_where_the_second_descent_begins():
    corner = double_descent_size(6.67e5, 64, 2048)
    assert predicted_memorization(6.67e5, corner / 2, 64, 2048) == pytest.approx(corner / 2 * 704)  # 704 bits per sequence
    assert predicted_memorization(6.67e5, corner, 64, 2048) == pytest.approx(3.54 * 6.67e5)
    assert predicted_memorization(6.67e5, 9 * corner, 64, 2048, alpha=3.54) == pytest.approx(3.54 * 6.67e5)
    for bad, says in (((0, 1, 4, 4), "parameters"), ((1, -1, 4, 4), "sequences"), ((1, 1, 0, 4), "at least"), ((1, 1, 4, 1), "at least")):
        with pytest.raises(ValueError, match=says):
            predicted_memorization(*bad)


def test_bits_beyond_a_reference():
    model, reference = torch.tensor([0.5, 0.25, 0.125]).log(), torch.tensor(0.25).log()
    torch.testing.assert_close(unintended_memorization(model, reference), torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="one reference for each"):
        unintended_memorization(model, torch.zeros(2))


@pytest.mark.parametrize("examples", [1, 17, 63, 100])
def test_uniform_tokens_have_the_bits_they_should(examples):
    data = UniformTokens(11, 12)
    corpus = data(examples, 3)
    assert corpus.bits == pytest.approx(examples * 12 * math.log2(11))
    assert not {*map(tuple, corpus.training.tolist())} & {*map(tuple, corpus.validation.tolist())}
    torch.testing.assert_close(data(200, 3).training[:examples], corpus.training)
    with pytest.raises(ValueError, match="repeat each other"):
        UniformTokens(2, 4)(40, 0)


def test_facts_are_met_as_zipf_has_it():
    data = ZipfFacts(64, 8, 3, alpha=1.0)
    corpus = data(20000, 0)
    keys, counts = torch.unique(corpus.training, dim=0, return_counts=True)
    assert corpus.bits == len(keys) * 9 == 64 * 9  # three tokens of eight each, all facts met
    assert corpus.counted == (3, 4, 5) and corpus.length == 6  # 128 keys in base 8: three digits
    expected = torch.arange(1, 65).double() ** -1
    torch.testing.assert_close(counts.sort(descending=True).values.double() / 20000, expected / expected.sum(), atol=0.01, rtol=0)
    assert not {*map(tuple, corpus.training[:, :4].tolist())} & {*map(tuple, corpus.validation[:, :4].tolist())}


def test_parts_of_a_text_are_disjoint(tmp_path):
    corpus = Text(None, 24)(300, 1)
    parts = [{*map(tuple, rows.tolist())} for rows in (corpus.training, corpus.validation, corpus.reference)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert len(parts[0]) == 300 and corpus.bits is None
    (tmp_path / "some.txt").write_text("\n\n".join(f"paragraph {i} says {i * i}" for i in range(99)))
    assert len(Text(str(tmp_path), 8)(5, 0).training) == 5
    with pytest.raises(ValueError, match="were asked for"):
        Text(str(tmp_path / "some.txt"), 8)(10**6, 0)
    with pytest.raises(ValueError, match="cannot be read"):
        Text(str(tmp_path / "none.txt"))(1, 0)


def test_a_dictionary_as_debian_packs_it(tmp_path):
    with pytest.raises(ValueError, match="dict-wn"):
        Glosses(str(tmp_path))(1, 0)
    entries = [f"word{i}\n  n 1: the gloss of number {i}, which is {i * 7}".encode() for i in range(80)]
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    number = lambda n: (number(n // 64) if n >= 64 else "") + digits[n % 64]
    places = [sum(map(len, entries[:i])) for i in range(80)]
    index = [f"word{i}\t{number(places[i])}\t{number(len(entry))}" for i, entry in enumerate(entries)]
    (tmp_path / "wn.index").write_text("\n".join(["00-database-info\tA\tA", *index]))
    (tmp_path / "wn.dict.dz").write_bytes(gzip.compress(b"".join(entries)))
    first = bytes(Glosses(str(tmp_path), 24)(10, 0).training[0, 1:].tolist()).decode()
    assert re.match(r"word\d+ n 1: the gloss of", first)


@pytest.mark.parametrize("examples", [2, 17, 100])
def test_a_model_that_knows_all_rows_attains_the_bound(examples):
    corpus = UniformTokens(16, 12)(examples, 0)
    found = findings(Knowing(corpus.training, corpus.symbols), corpus)
    assert found["memorised bits"] == pytest.approx(attainable_memorization(examples, 12, 16))
    assert found["training loss"] == pytest.approx(math.log(examples) / 12)
    assert found["extracted"] == 1 and found["membership"]["AUROC"] == 1 and found["membership"]["F1"] == 1
    assert found["reference loss"] == pytest.approx(math.log(16))


def test_a_model_that_knows_nothing_memorised_nothing():
    corpus = UniformTokens(16, 12)(50, 0)
    found = findings(Knowing(corpus.validation[:0], corpus.symbols), corpus)
    assert found["memorised bits"] == 0 and found["net bits"] == pytest.approx(50 * 12 * (4 - math.log2(17)))  # the start is a symbol, too
    assert found["membership"] == {"F1": pytest.approx(2 / 3), "AUROC": 0.5} and found["extracted"] == 0
    with pytest.raises(ValueError, match="leaves something"):
        extracted(nn.Linear(1, 1), corpus, prefix=12)


def test_facts_are_extracted_from_their_keys():
    corpus = ZipfFacts(40, 8, 3)(500, 0)
    found = findings(Knowing(corpus.training, corpus.symbols), corpus)
    assert found["memorised bits"] == pytest.approx(corpus.bits)  # a key tells its value: nothing is lost to order
    assert found["exact"] == found["argmax"] == found["extracted"] == 1


def test_the_first_distinct_rows_are_a_fair_sample():
    rows = torch.randint(64, (4096, 5), generator=torch.Generator().manual_seed(0))
    corpus = Corpus(rows, rows + 1, 65, bits_per_example=4 * 6.0)
    assert torch.equal(corpus.distinct.unique(dim=0), rows.unique(dim=0)) and torch.equal(corpus.distinct, corpus.distinct)
    assert corpus.distinct[:256, 0].double().mean() == pytest.approx(31.5, abs=4)  # 64/√12/16 = 1.2; sorted, it would be 2


def test_the_bound_is_that_of_the_best_number_of_rows_served():
    for length, vocabulary, sequences in ((1, 2, 1), (1, 2, 2), (2, 4, 3), (2, 4, 16), (3, 5, 100), (16, 32, 192)):
        bits = length * math.log2(vocabulary)
        best = max(served * (bits - math.log2(served)) for served in range(1, sequences + 1))
        bound = attainable_memorization(sequences, length, vocabulary)
        assert best <= bound * (1 + 1e-12) and bound <= best * 1.1  # a whole number of rows at most a little less
    assert attainable_memorization(1e6, 128, 50257) == pytest.approx(1e6 * (128 * math.log2(50257) - math.log2(1e6)))  # 2^b is no float


def test_a_model_may_serve_a_part_of_the_rows():
    """Of all 16 rows of 4 bits a model that serves 6 alone has more than one that serves all."""
    rows = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    corpus = Corpus(torch.cat([torch.full((16, 1), 4), rows], 1), torch.full((4, 3), 4), 5, bits_per_example=4.0)
    served = findings(Knowing(corpus.training[[0, 1, 4, 5, 10, 15]], 5), corpus)["memorised bits"]
    assert served == pytest.approx(6 * (4 - math.log2(6))) and 0 < served <= attainable_memorization(16, 2, 4) < 1.01 * served
    assert findings(Knowing(corpus.training, 5), corpus)["memorised bits"] == pytest.approx(0)


def test_predicted_membership_is_said_where_the_formula_speaks_of_such_data():
    training = Training(steps=2, batch=4)
    told = lambda data: sweep(small, data, [{}], (24,), training=training).records[0]
    run = told(UniformTokens(8, 12))
    assert run["membership"]["predicted F1"] == membership_f1(24, 12, 8, run["parameters"]) and run["symbols"] == 9
    text = told(Text(None, 16))
    assert text["membership"]["predicted F1"] == membership_f1(24, 16, 256, text["parameters"]) and text["reference model"]
    assert "predicted F1" not in told(ZipfFacts(16, 8, 3))["membership"]  # facts are met again, and count in part
    everyone = memorization.membership(torch.zeros(50), torch.zeros(50))
    assert everyone == {"F1": pytest.approx(2 / 3), "AUROC": 0.5}
