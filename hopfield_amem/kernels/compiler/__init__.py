"""From spec to source: an energy's torch functions become expressions, are analysed and folded, and printed as leaf functions."""

from .analysis import Compiled, compiled, leaves
from .trace import CannotCompile

__all__ = ["CannotCompile", "Compiled", "compiled", "leaves"]
