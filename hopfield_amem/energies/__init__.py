"""WHAT: energies as frozen, printable specs. torch only, no parameters, no loops."""

from . import presets
from .activation import Gelu, Silu
from .confinement import Confinement, Free, Hypercube, Quadratic, Sphere
from .elementwise import Elementwise
from .memory import Memory
from .presets import ENERGIES
from .read import ReadEnergy
from .scaling import Log, Scaling, Simplex, Sum
from .separation import Epanechnikov, Exp, Power, RectifiedPower, Relu, Separation, Tsallis
from .similarity import Cosine, Custom, Dot, Euclidean, Invariant, Manhattan, Similarity
from .write import Delta, Hebbian, Loss, Ridge, WriteEnergy

__all__ = [
    "ENERGIES", "Confinement", "Cosine", "Custom", "Delta", "Dot", "Elementwise", "Epanechnikov", "Euclidean", "Exp", "Free",
    "Gelu", "Hebbian", "Hypercube", "Invariant", "Log", "Loss", "Manhattan", "Memory", "Power", "Quadratic", "ReadEnergy", "RectifiedPower",
    "Relu", "Ridge", "Scaling", "Separation", "Silu", "Similarity", "Simplex", "Sphere", "Sum", "Tsallis", "WriteEnergy", "presets",
]  # fmt: skip
