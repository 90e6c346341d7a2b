"""WHAT: energies as frozen, printable specs. torch only, no parameters, no loops."""

from . import presets
from .activation import Gelu, Silu
from .confinement import Confinement, Free, Hypercube, Quadratic, Sphere
from .elementwise import Activation, Elementwise, gelu_tanh
from .memory import Memory
from .presets import ENERGIES, MEMORIES
from .read import ReadEnergy
from .scaling import Log, Scaling, Simplex, Sum
from .separation import Epanechnikov, Exp, Power, RectifiedPower, Relu, Rounded, Separation, Tsallis
from .similarity import Cosine, Custom, Dot, Euclidean, Invariant, Manhattan, Similarity
from .stability import Stability, UnstableWrite
from .write import Delta, Hebbian, ImplicitDelta, Loss, Ridge, WriteEnergy

__all__ = [
    "ENERGIES", "MEMORIES", "Activation", "Confinement", "Cosine", "Custom", "Delta", "Dot", "Elementwise", "Epanechnikov", "Euclidean", "Exp", "Free",
    "Gelu", "Hebbian", "Hypercube", "ImplicitDelta", "Invariant", "Log", "Loss", "Manhattan", "Memory", "Power", "Quadratic", "ReadEnergy",
    "RectifiedPower", "Relu", "Ridge", "Rounded", "Scaling", "Separation", "Silu", "Similarity", "Simplex", "Sphere", "Stability", "Sum", "Tsallis",
    "UnstableWrite", "WriteEnergy", "gelu_tanh", "presets",
]  # fmt: skip
