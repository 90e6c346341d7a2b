"""Figures: each function takes what an analysis found and draws it, and computes nothing. ``save`` writes a figure whole or not at all."""

from .base import COLOURS, save
from .landscape import landscapes
from .recall import energy_curves, gallery, recall_curves, training

__all__ = ["COLOURS", "energy_curves", "gallery", "landscapes", "recall_curves", "save", "training"]
