"""HuggingFace transformers that run on energies. Needs the extra: ``pip install "hopfield_amem[hf]"``."""

from ...layers.replacement import Replacement as Replacement
from .attention import EnergyAttention as EnergyAttention
from .attention import register_attention as register_attention
from .depth import states_by_depth as states_by_depth
from .feedforward import FeedForwardMemory as FeedForwardMemory
from .feedforward import own_activation as own_activation
from .inspection import inspect as inspect
from .mixer import mixing as mixing
from .probabilities import token_log_probabilities as token_log_probabilities
from .replace import hopfield_ as hopfield_

__all__ = [
    "EnergyAttention", "FeedForwardMemory", "Replacement", "hopfield_", "inspect", "mixing", "own_activation", "register_attention", "states_by_depth",
    "token_log_probabilities",
]  # fmt: skip
