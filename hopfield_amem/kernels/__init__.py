"""HOW FAST: the same numbers at several speeds. ``retrieve`` is the door; ``explain`` says which path it takes."""

from .bounded import Bounded
from .explain import Explanation, explain
from .nearest import nearest
from .reference import Reference
from .retrieve import computation, engine, full_precision, retrieve
from .streaming import Streamed

__all__ = ["Bounded", "Explanation", "Reference", "Streamed", "computation", "engine", "explain", "full_precision", "nearest", "retrieve"]
