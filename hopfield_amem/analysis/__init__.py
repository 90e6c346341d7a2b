"""WHAT IT HOLDS. ``capacity``: proved, estimated, measured. ``snr``: what is heard among noise. ``scaling``: errors against size and data. ``memory_model``:
a transformer as a layered memory. ``icl``: what context still changes. Here the rest: recall, landscapes, densities, diffusion, detection, and what all of
them return (``Result``). Figures are in ``plots``, which needs matplotlib.
"""

from . import capacity, icl, memory_model, scaling, snr
from .capacity import crosstalk_capacity, predicted_recall
from .density import log_density, log_partition, von_mises_fisher_log_constant
from .depth import Depth, energy_by_depth
from .detection import Detection, detection
from .diffusion import Diffusion, Generated, commitment, denoised, memory_at, score, speciation_level
from .estimate import Estimate
from .landscape import FixedPoints, Landscape, Paths, Plane, descent_paths, fixed_points, landscape, principal_plane
from .novelty import Novelty, novelty, recovery_level
from .power_laws import PowerLaw, power_law
from .recall import DAMAGES, Recall, damage, exactly, identified, measure_recall
from .result import Result
from .runs import take
from .spherical_codes import minimal_separation, separating_beta, spherical_code, spherical_code_bounds

__all__ = [
    "DAMAGES", "Depth", "Detection", "Diffusion", "Estimate", "FixedPoints", "Generated", "Landscape", "Novelty", "Paths", "Plane", "PowerLaw", "Recall",
    "Result", "capacity", "commitment", "crosstalk_capacity", "damage", "denoised", "descent_paths", "detection", "energy_by_depth", "exactly",
    "fixed_points", "icl", "identified", "landscape", "log_density", "log_partition", "measure_recall", "memory_at", "memory_model", "minimal_separation",
    "novelty", "power_law", "predicted_recall", "principal_plane", "recovery_level", "scaling", "score", "separating_beta", "snr", "speciation_level",
    "spherical_code", "spherical_code_bounds", "take", "von_mises_fisher_log_constant",
]  # fmt: skip
