"""Scaling laws of associative memories: ``W = Σ q(x) u_f(x) e_xᵀ`` on Zipf data, stored or learned, its recall error against width, data and scheme.

Cabannes, Dohmatob & Bietti 2024 (arXiv 2310.02984), and the dynamics of learning by Cabannes, Simsek & Bietti 2024 (arXiv 2402.18724).
"""

from .curvature import hessian, sharpness
from .dynamics import UPDATES, Dynamics, learning_dynamics, margins, orthogonal_margin, two_particles
from .exponents import ROWS, DataRow, Exponents, Finding, UnlimitedRow, WidthRow, exponents
from .learning import MODELS, OPTIMIZERS, Learned, Learning, grid_run, learn
from .maps import AssociationMaps, association_maps
from .memory import association_map, memory_recall_probe, random_embeddings, recall_error, store
from .paths import LearningPaths, learning_paths
from .prediction import optimal_threshold, predicted_recall_error
from .sampling import sampled_errors
from .saturation import saturated_weight, sgd_storage_weights
from .schemes import SCHEMES, BestThresholdScheme, PowerScheme, Scheme, ThresholdScheme, scheme
from .study import Study
from .sweep import Sweep, joint_table, sweep
from .theory import overflow_dimension, recall_error_bounds, scaling_exponent
from .zipf import ZipfTask, finite_data_error, finite_data_law, unseen_mass, zipf

__all__ = [
    "MODELS", "OPTIMIZERS", "ROWS", "SCHEMES", "UPDATES", "AssociationMaps", "BestThresholdScheme", "DataRow", "Dynamics", "Exponents", "Finding",
    "Learned", "Learning", "LearningPaths", "PowerScheme", "Scheme", "Study", "Sweep", "ThresholdScheme", "UnlimitedRow", "WidthRow", "ZipfTask",
    "association_map", "association_maps", "exponents", "finite_data_error", "finite_data_law", "grid_run", "hessian", "joint_table", "learn",
    "learning_dynamics", "learning_paths", "margins", "memory_recall_probe", "optimal_threshold", "orthogonal_margin", "overflow_dimension",
    "predicted_recall_error", "random_embeddings", "recall_error", "recall_error_bounds", "sampled_errors", "saturated_weight", "scaling_exponent",
    "scheme", "sgd_storage_weights", "sharpness", "store", "sweep", "two_particles", "unseen_mass", "zipf",
]  # fmt: skip
