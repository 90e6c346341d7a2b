"""WHERE IT IS USED: nn.Modules built from an energy spec, the only owners of parameters."""

from .attention import HopfieldAttention
from .cell import Addressing, Writing, retention
from .energy_norm import EnergyNorm
from .energy_transformer import EnergyTransformerBlock
from .lookup import HopfieldLookup
from .mixer import MemoryMixer, MixerState
from .multihead import MultiheadAttention, replace_attention_
from .pooling import HopfieldPooling
from .report import Report
from .wiring import Wiring

__all__ = [
    "Addressing",
    "EnergyNorm",
    "EnergyTransformerBlock",
    "HopfieldAttention",
    "HopfieldLookup",
    "HopfieldPooling",
    "MemoryMixer",
    "MixerState",
    "MultiheadAttention",
    "Report",
    "Wiring",
    "Writing",
    "replace_attention_",
    "retention",
]
