"""Memorization against scale: how many bits a model of so many parameters holds, of which data (Morris et al. 2025, arXiv 2505.24832)."""

from .auditing.audit import Audit, audit
from .auditing.tokens import next_token
from .corpus import Corpus
from .double_descent import Onset
from .fits import capacity_from_sweep
from .laws import BITS_PER_PARAMETER, LITERATURE, attainable_memorization, double_descent_size, membership_f1, predicted_memorization
from .measures import extracted, membership, recall, unintended_memorization
from .models import FEED_FORWARDS, MEMORIES, LanguageModel, language_model, parameters
from .presets import PRESETS, Preset, study
from .reporting.report import MemorizationReport, report, summarise
from .reporting.rules import Rules
from .result import Memorization
from .stacked import train_together
from .sweeps import sweep
from .synthetic import UniformTokens, ZipfFacts
from .text import Glosses, Text
from .training import Trained, Training, train

__all__ = [
    "BITS_PER_PARAMETER", "FEED_FORWARDS", "LITERATURE", "MEMORIES", "PRESETS", "Audit", "Corpus", "Glosses", "LanguageModel", "Memorization",
    "MemorizationReport", "Onset", "Preset", "Rules", "Text", "Trained", "Training", "UniformTokens", "ZipfFacts", "attainable_memorization", "audit",
    "capacity_from_sweep", "double_descent_size", "extracted", "language_model", "membership", "membership_f1", "next_token", "parameters",
    "predicted_memorization", "recall", "report", "study", "summarise", "sweep", "train", "train_together", "unintended_memorization",
]  # fmt: skip
