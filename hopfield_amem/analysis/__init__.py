"""HOW MUCH IT HOLDS: recall measured, capacity predicted, landscapes drawn. Figures are in ``analysis.plots``, which needs matplotlib."""

from .capacity import crosstalk_capacity, predicted_recall
from .landscape import Landscape, Plane, landscape, principal_plane
from .recall import DAMAGES, Recall, damage, exactly, identified, measure_recall

__all__ = [
    "DAMAGES", "Landscape", "Plane", "Recall", "crosstalk_capacity", "damage", "exactly", "identified", "landscape",
    "measure_recall", "predicted_recall", "principal_plane",
]  # fmt: skip
