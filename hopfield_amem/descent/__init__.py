"""HOW IT MOVES: descents take a state downhill and return it with a certificate, ``Descended``; ``read`` reads values where one ends."""

from .certificate import Descended
from .fixed_point import FixedPoint
from .flow import Flow
from .gradient import GradientDescent
from .loop import Descent
from .reading import approach, read

__all__ = ["Descended", "Descent", "FixedPoint", "Flow", "GradientDescent", "approach", "read"]
