"""Every head and feed-forward block of a transformer, read as an associative memory, while its output stays what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from ...analysis.association import check_threshold
from ...analysis.inspection import Inspection, tabulate
from ...layers.feedforward import HopfieldFFN
from .recording import Recorder
from .replace import HINT
from .tokens import presence

HALVES = {
    "down_proj": ("up_proj", "gate_up_proj", "gate_proj"), "c_proj": ("c_fc",), "fc2": ("fc1",), "Wo": ("Wi",), "wo": ("wi", "wi_0"), "w2": ("w1",),
    "fc_out": ("fc_in",), "dense_4h_to_h": ("dense_h_to_4h",), "lin2": ("lin1",), "linear2": ("linear1",), "linear_2": ("linear_1",),
    "linear_fc2": ("linear_fc1",), "output_dense": ("intermediate_dense",), "dense2": ("dense1",), "output_linear": ("input_linear",),
    "ffn_output": ("ffn",),
}  # fmt: skip
"""Names that transformers gives to the two halves of a feed-forward block: the values (its second projection), beside one of the keys (its first)."""


def inspect(model: nn.Module, inputs: Mapping[str, Any] | Iterable[Mapping[str, Any]], *, threshold: float = 0.01) -> Inspection:
    """What the memories of a transformer do with these inputs: a table over all heads and feed-forward blocks.

    Every attention head is an associative memory that its queries read, ``E(x) = ½‖x‖² − log Σ exp(βx·k)/β``, every feed-forward block one whose
    slots are its hidden units. Of the heads: energy, effective number of slots, size and class of the metastable state (Ramsauer et al. 2020,
    arXiv 2008.02217), retrieval signal-to-noise ratio, margin, weight on the first token and on sinks. Of the blocks: how many slots are
    active at a token, and how many never.

    The model runs as it is, in evaluation mode and without gradients: its own attention functions are called and then looked at, whatever
    implementation is set, and everything is restored afterwards, also after an error. Statistics are streamed: extra memory is that of a few blocks
    of rows, and one number per query and head for the median. What each attention answers is held against what its energy reads: where they
    differ it is skipped, with the reason. Attention registered by ``register_attention`` is read by its own energy, at the states its descent reaches.

    Args:
        model: a decoder or an encoder of transformers, also wrapped (compiled, with adapters); on the device of the inputs.
        inputs: keyword arguments of the model, or several of them, one batch at a time. Padding is told by ``attention_mask``, (batch, tokens), or
            (batch, 1, tokens, tokens) by its diagonal. Where it describes another number of tokens than an attention has (the image tower of
            a model of image and text) all of those count; a feed-forward block of which that is so is skipped.
        threshold: a slot of a feed-forward block is active above this share of the token's largest activation, in [0, 1); 0, for ReLU, counts what is not 0.

    Returns:
        An ``Inspection``: arrays, ``rows()``, ``to_pandas()``; it prints as a table, and ``analysis.plots.association.association_heads`` draws it.

    Raises:
        TypeError: a model that is not transformers', inputs that are not keyword arguments.
        ValueError: no inputs, a model of encoder and decoder, a threshold out of range, or nothing in the model that can be read.
    """
    batches = _batches(model, inputs)
    check_threshold(threshold)
    memories, skipped = feed_forward_memories(model)
    recorder = Recorder(model, memories, threshold)
    with recorder.recording():
        for batch in batches:
            recorder.tokens = _tokens(batch)
            model(**batch)
    return _result(model, recorder, skipped)


def feed_forward_memories(model: nn.Module) -> tuple[dict[nn.Module, str], dict[str, str]]:
    """Where a model's feed-forward memories can be watched, and their names: a ``HopfieldFFN`` itself, of any other block the projection that holds the values.

    By the names of children, which say enough for looking on, where ``hopfield_`` must know what a block computes. And the blocks that cannot be watched,
    with the reason.
    """
    found: dict[nn.Module, str] = {}
    skipped: dict[str, str] = {}
    for name, module in model.named_modules():
        children = dict(module.named_children())
        if isinstance(module, HopfieldFFN):
            found |= {} if module.values is None else {module: name}
            continue
        halves = [half for half, others in HALVES.items() if half in children and any(other in children for other in others)]
        if hasattr(children.get("intermediate"), "dense") and hasattr(children.get("output"), "dense"):
            halves.append("output.dense")
        found |= {module.get_submodule(half): f"{name}.{half}" for half in halves}
        if any(half in module._parameters for half in HALVES):
            skipped[name] = "its values are one tensor of all experts, not modules, and what they are multiplied by passes no hook"
        elif not halves and HINT.search(type(module).__name__) and not hasattr(module, "experts") and "dense" not in children:
            skipped[name] = f"which of {', '.join(children) or 'its parameters'} holds the values is not known"
    return found, skipped


def _batches(model: nn.Module, inputs: Any) -> Iterable[Mapping[str, Any]]:
    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None) if isinstance(model, nn.Module) else None
    if inner is None:
        raise TypeError(f"inspect reads models of transformers, also wrapped ones, got {type(model).__name__}.")
    if getattr(inner.config, "is_encoder_decoder", False) and inner.get_encoder() is not inner:
        raise ValueError("inspect reads a decoder or an encoder. Of a model with both, give model.get_encoder() and the encoder's inputs.")
    if isinstance(inputs, Mapping):
        return [inputs]
    if isinstance(inputs, Tensor | str) or not isinstance(inputs, Iterable):
        raise TypeError(f"inputs are keyword arguments of the model, such as {{'input_ids': ...}}, or an iterable of them; got {type(inputs).__name__}.")
    return _checked(inputs)


def _checked(inputs: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    count = 0
    for count, batch in enumerate(inputs, 1):
        if not isinstance(batch, Mapping):
            raise TypeError(f"Every batch holds keyword arguments of the model, such as {{'input_ids': ...}}; number {count} is a {type(batch).__name__}.")
        yield batch
    if not count:
        raise ValueError("There are no inputs to look at: the iterable was empty. A generator that has been used up cannot be read again.")


def _tokens(batch: Mapping[str, Any]) -> Tensor | None:
    """Which tokens of a batch are no padding, (batch, tokens), or None where the inputs do not say."""
    mask = batch.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.ndim not in (2, 4):
        return None
    return presence(mask, len(mask), mask.shape[-1] if mask.ndim == 2 else mask.shape[-2])


def _result(model: nn.Module, recorder: Recorder, skipped: dict[str, str]) -> Inspection:
    skipped = skipped | {name: "it was not called" for name in recorder.blocks if name not in recorder.seen} | recorder.skipped
    names = {name for name, module in model.named_modules() if type(module).__name__.endswith("Attention")}
    for name in sorted(names):
        if not any(seen == name or seen.startswith(f"{name}.") for seen in recorder.seen):
            skipped[name] = "it did not call an attention function of transformers' table"
    heads = {name: tally.summary() | {"beta": recorder.beta[name]} for name, tally in recorder.heads.items()}
    blocks = {name: tally.summary() for name, tally in recorder.blocks.items() if name in recorder.seen}
    if not heads and not blocks:
        raise ValueError(f"Nothing in {type(model).__name__} could be read as a memory: {skipped or 'no attention and no feed-forward block were found'}.")
    return tabulate(heads, blocks, skipped)
