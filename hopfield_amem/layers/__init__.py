"""WHERE IT IS USED: nn.Modules built from an energy spec, the only owners of parameters."""

from typing import TYPE_CHECKING, Any

from .attention import HopfieldAttention
from .cell import Addressing, Writing, retention
from .energy_norm import EnergyNorm
from .energy_transformer import EnergyTransformerBlock
from .feedforward import HopfieldFFN
from .lookup import HopfieldLookup
from .lookup_attention import LookupAttention
from .migration import from_hopfield_layers
from .mixer import MemoryMixer, MixerState
from .multihead import MultiheadAttention, replace_attention_
from .pattern_memory import CapacityWarning, PatternMemory
from .pooling import HopfieldPooling
from .recalled import Recalled
from .report import Report
from .wiring import Wiring

if TYPE_CHECKING:
    from .classifier import HopfieldClassifier

__all__ = [
    "Addressing", "CapacityWarning", "EnergyNorm", "EnergyTransformerBlock", "HopfieldAttention", "HopfieldClassifier", "HopfieldFFN", "HopfieldLookup",
    "HopfieldPooling", "LookupAttention", "MemoryMixer", "MixerState", "MultiheadAttention", "PatternMemory", "Recalled", "Report", "Wiring", "Writing",
    "from_hopfield_layers", "replace_attention_", "retention",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The classifier is imported when it is asked for, because scikit-learn is heavy."""
    if name != "HopfieldClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .classifier import HopfieldClassifier

    return HopfieldClassifier
