"""From spec to source: an energy's torch functions become expressions, are analysed and folded, and printed as leaf functions."""

from .analysis import compiled, leaves
from .generated import Compiled
from .trace import CannotCompile

__all__ = ["CannotCompile", "Compiled", "compiled", "leaves"]
