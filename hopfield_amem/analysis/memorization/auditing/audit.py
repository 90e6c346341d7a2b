"""One given model and one data set: how much it could hold, how much it holds, and which bound binds. Nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from ...result import Result, plain
from ..laws import LITERATURE, membership_f1_at
from ..measures import membership, unintended_memorization
from .slots import Part, parts_of
from .tokens import LogProbabilities, next_token, rows_of, scores, uniform, unigram
from .words import answer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tokens = Tensor | Iterable[Tensor | Sequence[int]]
Reference = Literal["unigram", "uniform"] | nn.Module | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Audit(Result):
    """What a model holds of a data set, beside what it could.

    Attributes:
        parts: its memories, in the order of its modules (``parts_of``).
        vocabulary: V; a fact is one token of it, log₂ V bits.
        sequences, tokens: of the data set; the first token of a sequence is given, and not counted.
        data_bits: information in the data set under the reference, ``−Σ log₂ p_θ(x)``.
        memorised_bits: ``Σ max(log₂ p_θ̂(x) − log₂ p_θ(x), 0)`` over sequences (Morris et al. 2025, arXiv 2505.24832).
        loss, reference_loss: nats per token of the model and of the reference.
        reference: its name.
        bits_per_parameter: at which the capacity is taken.
        held_out_loss: nats per token on sequences held out, None without them.
        membership: how well the loss tells data from held-out sequences: "F1" at the best threshold, "AUROC", and, where no sequence repeats, the "predicted
            F1" of a model that was trained on the data to its capacity (``membership_f1``; its threshold is another one); None without them.
    """

    parts: tuple[Part, ...]
    vocabulary: int
    sequences: int
    tokens: int
    data_bits: float
    memorised_bits: float
    loss: float
    reference_loss: float
    reference: str
    bits_per_parameter: float
    held_out_loss: float | None = None
    membership: Mapping[str, float] | None = None

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def capacity(self) -> float:
        """Bits at ``bits_per_parameter``."""
        return self.bits_per_parameter * self.parameters

    @property
    def load(self) -> float:
        """Bits of data over bits of capacity: 3.1 says that the data set is 3.1 times what the model can hold."""
        return self.data_bits / self.capacity

    @property
    def share(self) -> float:
        """Memorised bits over bits of data."""
        return self.memorised_bits / self.data_bits

    def bound(self, kind: str) -> float | None:
        """Bits that all memories of a kind hold by what is known of each: facts of ``log₂ V`` bits, summed. The sum is no theorem. None where there is none."""
        facts = [part.facts for part in self.parts if part.kind == kind and part.facts is not None]
        return sum(facts) * math.log2(self.vocabulary) if facts else None

    def bounds(self) -> dict[str, float]:
        """Bits by name: of the data, memorised, of the whole model from the literature, and of its memories by kind, summed over layers."""
        found = {
            "data": self.data_bits,
            "memorised": self.memorised_bits,
            f"capacity at {self.bits_per_parameter:g} bits a parameter": self.capacity,
            "attention: H·d_h + d a layer": self.bound("attention"),
            "feed-forward: m·d a layer, in order": self.bound("feed-forward"),
            "linear maps read by argmax": self.bound("linear"),
        }
        return {name: bits for name, bits in found.items() if bits is not None}

    def answer(self) -> list[str]:
        """In plain words: how the data set compares with the model, how much is memorised, and which bound binds."""
        return answer(self)

    def rows(self) -> list[dict[str, Any]]:
        """One row per memory, with the facts and bits it can hold."""
        fact = math.log2(self.vocabulary)
        return [vars(part) | {"bits": None if part.facts is None else part.facts * fact} for part in self.parts]

    def to_json(self) -> dict[str, Any]:
        numbers = {name: value for name, value in vars(self).items() if name != "parts"}
        return plain(
            {"kind": type(self).__name__, "answer": self.answer(), **numbers, "parameters": self.parameters, "load": self.load, "bounds": self.bounds()}
            | {"rows": self.rows()}
        )

    def plot(self) -> Figure:
        from ...plots.audit import bounds

        return bounds(self)

    def __str__(self) -> str:
        return "\n".join([self.table(), "", *self.answer()])


def audit(
    model: nn.Module,
    dataset: Tokens,
    log_probabilities: LogProbabilities | None = None,
    *,
    reference: Reference = "unigram",
    held_out: Tokens | None = None,
    vocabulary: int | None = None,
    bits_per_parameter: float = LITERATURE[1],
) -> Audit:
    """How much of a data set a model has memorised, how much it could, and which bound binds; the model is only read.

    Args:
        model: any causal language model; its modules say what its memories are (``parts_of``).
        dataset: sequences of tokens, (n, t) or rows of any lengths ≥ 2.
        log_probabilities: tokens (b, t) -> ``log p`` of all but the first, (b, t − 1). None: from the model's logits (``next_token``); for a model of
            transformers ``integrations.huggingface.token_log_probabilities`` refuses what has none before it runs.
        reference: what can be known without having seen the data: "unigram", the frequencies of the data's own tokens (which make few bits of a text's
            structure known, so that what a model learned of the language counts as memorised, too); "uniform", exact for random tokens; or a model, or a
            function like ``log_probabilities``, that never saw the data.
        held_out: sequences like those of the data that the model did not see, for membership and generalisation.
        vocabulary: V. None: that of the model's first embedding; without one, one more than the largest token.
        bits_per_parameter: of the capacity. 3.6 is what GPT-2 models reach in a million steps (Morris et al. 2025, arXiv 2505.24832).

    Raises:
        TypeError: no module, texts instead of tokens, no token probabilities.
        ValueError: empty data, a model that sees the tokens it is asked for, tokens outside of its vocabulary, numbers that are no log probabilities.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"audit reads an nn.Module, got {type(model).__name__}.")
    if not 0 < bits_per_parameter < math.inf:
        raise ValueError(f"bits_per_parameter is a positive number, got {bits_per_parameter!r}.")
    parts = parts_of(model)
    if not parts:
        raise ValueError(f"{type(model).__name__} has no parameters: there is nothing to audit.")
    rows, others = rows_of(dataset), None if held_out is None else rows_of(held_out)
    law, symbols = log_probabilities or next_token(model), _vocabulary(model, [*rows, *(others or [])], vocabulary)
    beside, name = _reference(reference, rows, symbols)
    found, expected = scores(law, rows), scores(beside, rows)
    counted = torch.tensor([len(row) - 1 for row in rows])
    data = -float(expected.sum()) / math.log(2)
    if not 0 < data < math.inf:
        raise ValueError(f"Under the reference {name} the data have {data:.3g} bits, with which nothing can be compared. Take another reference.")
    numbers = {} if others is None else _told(found / counted, others, law)
    if numbers and len({tuple(row.tolist()) for row in rows}) == len(rows):
        numbers["membership"]["predicted F1"] = membership_f1_at(int(counted.sum()) * math.log2(symbols) / sum(part.parameters for part in parts))
    return Audit(
        parts, symbols, len(rows), int(counted.sum()), data, float(unintended_memorization(found, expected).sum()), -float(found.sum() / counted.sum()),
        -float(expected.sum() / counted.sum()), name, bits_per_parameter, **numbers,
    )  # fmt: skip


def _told(inside: Tensor, others: list[Tensor], law: LogProbabilities) -> dict[str, Any]:
    """Loss and membership against rows held out, from log p per token of the data."""
    counted, found = torch.tensor([len(row) - 1 for row in others]), scores(law, others)
    return {"held_out_loss": -float(found.sum() / counted.sum()), "membership": membership(-inside, -found / counted)}


def _reference(asked: Reference, rows: list[Tensor], vocabulary: int) -> tuple[LogProbabilities, str]:
    if asked == "uniform":
        return uniform(vocabulary), "uniform law"
    if asked == "unigram":
        return unigram(rows, vocabulary), "frequencies of the tokens"
    if isinstance(asked, nn.Module):
        return next_token(asked), f"reference model {type(asked).__name__}"
    if callable(asked):
        return asked, getattr(asked, "__name__", type(asked).__name__)
    raise ValueError(f"reference is 'unigram', 'uniform', a model, or a function from tokens to log probabilities; got {asked!r}.")


def _vocabulary(model: nn.Module, rows: list[Tensor], given: int | None) -> int:
    """What is given, or rows of the first embedding, of tokens wherever there are others (of positions, …); without one more than the largest token."""
    if given is not None:
        most = max(int(row[1:].max()) for row in rows)
        if isinstance(given, int) and max(1, most) < given:
            return given
        raise ValueError(f"vocabulary is a whole number, at least 2 and above every token that is predicted ({most} at most), got {given!r}.")
    largest = max(int(row.max()) for row in rows)
    table = next((module.num_embeddings for module in model.modules() if isinstance(module, nn.Embedding)), None)
    if table is not None and table <= largest:
        raise ValueError(f"{type(model).__name__} knows tokens below {table}, and the data have {largest}: another tokenizer made them. Or give vocabulary.")
    return table or max(largest + 1, 2)
