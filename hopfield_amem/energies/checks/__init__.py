"""Errors at the door: what was expected, what came, what to do. The inside of the library trusts its inputs."""

from .spec import at_risk, bounded, factors, growth, inverse_temperature, step
from .tensors import contents, floating, foreign, inputs

__all__ = ["at_risk", "bounded", "contents", "factors", "floating", "foreign", "growth", "inputs", "inverse_temperature", "step"]
