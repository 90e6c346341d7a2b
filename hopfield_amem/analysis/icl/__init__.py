"""In-context learning as the context grows: what every further token still changes in the memory that attention writes."""

from .contexts import Contexts
from .learners import Learner, learners
from .study import CLAIM, TOLERANCE, InContextUpdates, UpdateCurve, in_context_updates

__all__ = ["CLAIM", "TOLERANCE", "Contexts", "InContextUpdates", "Learner", "UpdateCurve", "in_context_updates", "learners"]
