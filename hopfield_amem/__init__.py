"""hopfield_amem: write the energy, get the layer, the kernel and the capacity law."""

from .energies import ENERGIES, MEMORIES, Memory, ReadEnergy, presets
from .kernels import associate, explain, retrieve

__all__ = ["ENERGIES", "MEMORIES", "Memory", "ReadEnergy", "associate", "explain", "presets", "retrieve"]
__version__ = "0.1.0"
