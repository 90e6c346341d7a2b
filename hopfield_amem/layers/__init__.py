"""WHERE IT IS USED: nn.Modules built from an energy spec, the only owners of parameters."""

from .attention import HopfieldAttention
from .cell import Addressing, Writing, retention
from .energy_norm import EnergyNorm
from .energy_transformer import EnergyTransformerBlock
from .lookup import HopfieldLookup
from .lookup_attention import LookupAttention
from .migration import from_hopfield_layers
from .mixer import MemoryMixer, MixerState
from .multihead import MultiheadAttention, replace_attention_
from .pooling import HopfieldPooling
from .report import Report
from .wiring import Wiring

__all__ = [
    "Addressing", "EnergyNorm", "EnergyTransformerBlock", "HopfieldAttention", "HopfieldLookup", "HopfieldPooling", "LookupAttention", "MemoryMixer",
    "MixerState", "MultiheadAttention", "Report", "Wiring", "Writing", "from_hopfield_layers", "replace_attention_", "retention",
]  # fmt: skip
