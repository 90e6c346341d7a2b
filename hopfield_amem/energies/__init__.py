"""WHAT: energies as frozen, printable specs, and the rules that learn couplings. torch only, no parameters."""

from . import presets
from .binary import learning
from .binary.couplings import Bidirectional, Couplings
from .border import Border, OneSided, free_energy
from .boundedness import Boundedness
from .compressed.basis import Basis, Fourier, Legendre, Radial, Rectangular
from .compressed.continuous import Continuous
from .compressed.distributed import DistributedEnergy
from .compressed.features import Features, RandomFeatures
from .compressed.positive import PositiveFeatures, PositiveGaussianFeatures
from .compressed.projection import Gaussian, Orthogonal
from .compressed.quadrature import GaussLegendre, Midpoint, Quadrature, Trapezoid
from .confinement import Confinement, Free, Hypercube, Quadratic, Sphere
from .fenchel_young import fenchel_young_energy, fenchel_young_loss
from .graph import Graph, GraphMemory
from .layered import Layered
from .memory import Memory
from .network import Energies, Network
from .neurons import lagrangians
from .neurons.groups import Neurons
from .neurons.lagrangian import Factored, Lagrangian
from .neurons.lagrangians import LAGRANGIANS
from .neurons.norms import LayerNorm, SphericalNorm
from .presets import ENERGIES, MEMORIES
from .read import ReadEnergy
from .scalings.level import Level
from .scalings.scaling import Log, Scaling, Sum
from .scalings.simplex import Simplex
from .scalings.subsets import SequentialSubsets, TopK
from .separations.activation import Gelu, LogCosh, RectifiedExp, Silu, Softplus
from .separations.blend import Blend
from .separations.elementwise import Activation, Elementwise, gelu_tanh
from .separations.occupation import Clipped, ConjugatePower
from .separations.separation import Epanechnikov, Exp, Power, RectifiedPower, Relu, Rounded, Separation
from .separations.tsallis import Tsallis
from .similarities.distributions import Inverse, JensenShannon, KullbackLeibler, NormalisedDot, Probability, ReverseKullbackLeibler
from .similarities.functional import Custom, Invariant
from .similarities.manhattan import Manhattan
from .similarities.mapped import Mapped
from .similarities.similarity import Cosine, Dot, Euclidean, Similarity
from .similarities.simplicial import Simplices, Simplicial
from .stability import Stability, UnstableWrite
from .synapses.base import Bias, Linear, Synapse
from .synapses.convolution import Convolution
from .synapses.reads import Attention, Dense
from .write import Delta, Hebbian, ImplicitDelta, Loss, Ridge, WriteEnergy

__all__ = [
    "ENERGIES", "LAGRANGIANS", "MEMORIES", "Activation", "Attention", "Basis", "Bias", "Bidirectional", "Blend", "Border", "Boundedness", "Clipped",
    "Confinement", "ConjugatePower", "Continuous", "Convolution", "Cosine", "Couplings", "Custom", "Delta", "Dense", "DistributedEnergy", "Dot",
    "Elementwise", "Energies", "Epanechnikov", "Euclidean", "Exp", "Factored", "Features", "Fourier", "Free", "GaussLegendre", "Gaussian", "Gelu", "Graph",
    "GraphMemory", "Hebbian", "Hypercube", "ImplicitDelta", "Invariant", "Inverse", "JensenShannon", "KullbackLeibler", "Lagrangian", "LayerNorm", "Layered",
    "Legendre", "Level", "Linear", "Log", "LogCosh", "Loss", "Manhattan", "Mapped", "Memory", "Midpoint", "Network", "Neurons", "NormalisedDot", "OneSided",
    "Orthogonal", "PositiveFeatures", "PositiveGaussianFeatures", "Power", "Probability", "Quadratic", "Quadrature", "Radial", "RandomFeatures", "ReadEnergy",
    "Rectangular", "RectifiedExp", "RectifiedPower", "Relu", "ReverseKullbackLeibler", "Ridge", "Rounded", "Scaling", "Separation", "SequentialSubsets",
    "Silu", "Similarity", "Simplex", "Simplices", "Simplicial", "Softplus", "Sphere", "SphericalNorm", "Stability", "Sum", "Synapse", "TopK", "Trapezoid",
    "Tsallis", "UnstableWrite", "WriteEnergy", "fenchel_young_energy", "fenchel_young_loss", "free_energy", "gelu_tanh", "lagrangians", "learning", "presets",
]  # fmt: skip
