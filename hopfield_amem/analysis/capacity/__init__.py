"""How much a memory holds, three ways: proved (``bound``), estimated (``crosstalk``), measured (``measure``); ``compare`` shows them together.

And of the patterns that are stored: what guarantees their retrieval (``separation``), how much damage they bear (``basin_radius``), what lies between them
(``metastable_census``, ``spurious_states``).
"""

from .binary import BitError, bit_error_probability
from .certificates import Basins, Separation, basin_radius, separation
from .comparison import Comparison, Growth, compare
from .corruption import Corruption, Flips, Masking, Noise
from .crosstalk import crosstalk_capacity, predicted_recall
from .ensembles import Binary, Correlated, Ensemble, Gaussian, Spherical
from .exponential import StorageBound, Threshold, exponential_storage_bound, retrieval_threshold
from .facts import AttentionCapacity, LinearCapacity, attention_capacity, linear_memory_capacity, mlp_memory_capacity
from .given import Rows, Sampled
from .identity import Keep
from .mean_field import crosstalk
from .measurement import Measurement, measure
from .search import Search
from .states import Census, SpuriousStates, metastable_census, spurious_states
from .task import Reading, Task, each_memory
from .theorems import NoKnownBound, Setting, Theorem, Unmet, bound, theorem

__all__ = [
    "AttentionCapacity", "Basins", "Binary", "BitError", "Census", "Comparison", "Correlated", "Corruption", "Ensemble", "Flips", "Gaussian", "Growth", "Keep",
    "LinearCapacity", "Masking", "Measurement", "NoKnownBound", "Noise", "Reading", "Rows", "Sampled", "Search", "Separation", "Setting", "Spherical",
    "SpuriousStates", "StorageBound", "Task", "Theorem", "Threshold", "Unmet", "attention_capacity", "basin_radius", "bit_error_probability", "bound",
    "compare", "crosstalk", "crosstalk_capacity", "each_memory", "exponential_storage_bound", "linear_memory_capacity", "measure", "metastable_census",
    "mlp_memory_capacity", "predicted_recall", "retrieval_threshold", "separation", "spurious_states", "theorem",
]  # fmt: skip
