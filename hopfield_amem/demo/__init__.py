"""The demo: every preset energy recalls scikit-learn's digits, and a layer learns to classify them."""

from .pictures import PICTURES
from .run import run

__all__ = ["PICTURES", "run"]
