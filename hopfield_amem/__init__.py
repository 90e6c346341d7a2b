"""hopfield_amem: write the energy, get the layer, the kernel and the capacity law."""

from .energies import ENERGIES, Memory, ReadEnergy, presets
from .kernels import explain, retrieve

__all__ = ["ENERGIES", "Memory", "ReadEnergy", "explain", "presets", "retrieve"]
__version__ = "0.1.0"
