"""HuggingFace transformers that run on energies. Needs the extra: ``pip install "hopfield_amem[hf]"``."""

from .inspection import inspect as inspect
