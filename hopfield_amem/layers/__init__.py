"""WHERE IT IS USED: nn.Modules built from an energy spec, the only owners of parameters."""

from typing import TYPE_CHECKING, Any

from .attention import HopfieldAttention
from .cell import Addressing, Writing, retention
from .continuous_memory import ContinuousMemory
from .distributed_memory import DistributedMemory
from .energy_norm import EnergyNorm
from .energy_transformer import EnergyTransformerBlock
from .feedforward import HopfieldFFN
from .learned_kernel import LearnedKernel, separation_loss, spread
from .lookup import HopfieldLookup
from .lookup_attention import LookupAttention
from .migration import from_hopfield_layers
from .mixer import MemoryMixer, MixerState
from .multihead import MultiheadAttention, replace_attention_
from .network import HopfieldNetwork
from .pattern_memory import CapacityWarning, PatternMemory
from .pooling import HopfieldPooling
from .quantised_memory import QuantisedMemory
from .recalled import Recalled
from .replacement import Replacement
from .synapses import AttentionSynapse, BiasSynapse, ConvolutionSynapse, DenseSynapse, LinearSynapse
from .wiring import Wiring

if TYPE_CHECKING:
    from .classifier import HopfieldClassifier
    from .detector import HopfieldDetector

__all__ = [
    "Addressing", "AttentionSynapse", "BiasSynapse", "CapacityWarning", "ContinuousMemory", "ConvolutionSynapse", "DenseSynapse", "DistributedMemory",
    "EnergyNorm", "EnergyTransformerBlock", "HopfieldAttention", "HopfieldClassifier", "HopfieldDetector", "HopfieldFFN", "HopfieldLookup", "HopfieldNetwork",
    "HopfieldPooling", "LearnedKernel", "LinearSynapse", "LookupAttention", "MemoryMixer", "MixerState", "MultiheadAttention", "PatternMemory",
    "QuantisedMemory", "Recalled", "Replacement", "Wiring", "Writing", "from_hopfield_layers", "replace_attention_", "retention", "separation_loss", "spread",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Estimators are imported when they are asked for, because scikit-learn is heavy."""
    if name == "HopfieldClassifier":
        from .classifier import HopfieldClassifier

        return HopfieldClassifier
    if name == "HopfieldDetector":
        from .detector import HopfieldDetector

        return HopfieldDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
