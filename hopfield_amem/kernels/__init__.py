"""HOW FAST: the same numbers at several speeds. ``retrieve`` is the door; ``explain`` says which path it takes."""

from .nearest import nearest
from .retrieve import Explanation, computation, engine, explain, full_precision, retrieve

__all__ = ["Explanation", "computation", "engine", "explain", "full_precision", "nearest", "retrieve"]
