"""Log probabilities of tokens under a model of transformers, for ``analysis.memorization.audit``."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from ...analysis.memorization.auditing.tokens import LogProbabilities, next_token


def token_log_probabilities(model: nn.Module) -> LogProbabilities:
    """Tokens (b, t) -> ``log p`` of every token but the first under a causal language model, (b, t − 1), in float32.

    Args:
        model: a decoder with a read-out (``AutoModelForCausalLM``), also wrapped (compiled, with adapters). It is run in evaluation mode, without a cache.

    Raises:
        TypeError: a model that is not transformers'.
        ValueError: a model of encoder and decoder, or one without a read-out over tokens. That it does not see the tokens it is asked for (as BERT does)
            is tried out when it is first called.
    """
    inner = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), None) if isinstance(model, nn.Module) else None
    if inner is None:
        raise TypeError(
            f"token_log_probabilities reads models of transformers, also wrapped ones, got {type(model).__name__}. audit takes other modules itself."
        )
    if getattr(inner.config, "is_encoder_decoder", False):
        raise ValueError(f"{type(inner).__name__} has an encoder, whose input conditions every token. Give audit log_probabilities of its decoder instead.")
    if inner.get_output_embeddings() is None:
        raise ValueError(f"{type(inner).__name__} has no read-out over tokens, so that it gives no probabilities. Load it by AutoModelForCausalLM.")
    return next_token(model, lambda tokens: model(input_ids=tokens, use_cache=False))
