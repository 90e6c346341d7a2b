"""HuggingFace transformers on associative memories."""

from .mixer import mixing

__all__ = ["mixing"]
