"""HOW FAST: the same numbers at several speeds. ``retrieve`` and ``associate`` are the doors; ``explain`` says which path they take."""

from ..energies.truth import full_precision
from .associate import associate
from .association.tokens import MatrixState, RidgeState, SlotState, State
from .bits import PackedPatterns, pack
from .bounded import Bounded
from .explain import backends, explain
from .explanation import Explanation
from .gates import Gates, gated
from .nearest import nearest
from .reference import Reference
from .retrieve import computation, engine, retrieve
from .streaming import Streamed

__all__ = [
    "Bounded", "Explanation", "Gates", "MatrixState", "PackedPatterns", "Reference", "RidgeState", "SlotState", "State", "Streamed", "associate", "backends",
    "computation", "engine", "explain", "full_precision", "gated", "nearest", "pack", "retrieve",
]  # fmt: skip
