"""HOW FAST: the same numbers at several speeds. ``retrieve`` and ``associate`` are the doors; ``explain`` says which path they take."""

from .associate import associate
from .association.tokens import MatrixState, RidgeState, SlotState, State
from .bounded import Bounded
from .explain import Explanation, explain
from .gates import Gates, gated
from .nearest import nearest
from .reference import Reference
from .retrieve import computation, engine, full_precision, retrieve
from .streaming import Streamed

__all__ = [
    "Bounded", "Explanation", "Gates", "MatrixState", "Reference", "RidgeState", "SlotState", "State", "Streamed", "associate", "computation", "engine",
    "explain", "full_precision", "gated", "nearest", "retrieve",
]  # fmt: skip
