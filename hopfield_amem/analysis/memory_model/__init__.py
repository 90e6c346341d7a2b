"""Beyond Scaling Laws (Niu, Bai, Deng, Han 2024, arXiv 2405.08707): a transformer as a layered memory, what follows, and what does not."""

from .balance import HELD, Architecture, Balance, model_data_balance, parameters_per_block
from .energies import distance_energy, global_energy
from .loss import LossBound, loss_bound
from .partition import BallPartition, UnitPartition, ball_partition, pattern_radius_reference, unit_partition
from .radius import PatternRadius, pattern_radius
from .training import DataSelection, first_below, select_data_size

__all__ = [
    "HELD", "Architecture", "Balance", "BallPartition", "DataSelection", "LossBound", "PatternRadius", "UnitPartition", "ball_partition", "distance_energy",
    "first_below", "global_energy", "loss_bound", "model_data_balance", "parameters_per_block", "pattern_radius", "pattern_radius_reference",
    "select_data_size", "unit_partition",
]  # fmt: skip
