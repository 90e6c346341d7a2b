"""How a memory's energy looks: on planes, along descents, and at the states where descents rest."""

from .fixed_points import FixedPoints, fixed_points
from .paths import Paths, descent_paths
from .plane import Plane, principal_plane
from .surface import Landscape, landscape

__all__ = ["FixedPoints", "Landscape", "Paths", "Plane", "descent_paths", "fixed_points", "landscape", "principal_plane"]
