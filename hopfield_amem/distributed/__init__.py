"""BEYOND ONE MACHINE: memories whose slots are spread over the processes of torch.distributed, read as one."""

from .gathered import Gathered
from .memory import ShardedMemory
from .ranks import RankLost, Ranks
from .retrieve import retrieve

__all__ = ["Gathered", "RankLost", "Ranks", "ShardedMemory", "retrieve"]
