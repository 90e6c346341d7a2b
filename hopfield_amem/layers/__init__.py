"""WHERE IT IS USED: nn.Modules built from an energy spec, the only owners of parameters."""

from .cell import Addressing, Writing, retention
from .lookup import HopfieldLookup
from .mixer import MemoryMixer, MixerState

__all__ = ["Addressing", "HopfieldLookup", "MemoryMixer", "MixerState", "Writing", "retention"]
