"""HOW IT MOVES: descents take a state downhill and return it with a certificate, ``Descended``."""

from .certificate import Descended
from .fixed_point import FixedPoint
from .flow import Flow
from .gradient import GradientDescent

__all__ = ["Descended", "FixedPoint", "Flow", "GradientDescent"]
