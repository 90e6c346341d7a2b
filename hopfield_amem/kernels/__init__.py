"""HOW FAST: the same numbers at several speeds. ``retrieve`` is the door; ``explain`` says which path it takes."""

from .retrieve import Explanation, engine, explain, retrieve

__all__ = ["Explanation", "engine", "explain", "retrieve"]
