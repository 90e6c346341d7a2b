"""What a sharded read and a sweep of runs cost: operations, bytes and messages, and the seconds that follow for a machine.

A read of q queries among N slots of width d with values of width v, on W ranks that hold n = ⌈N/W⌉ slots each. Of one sweep over the slots, per rank:

    operations   2 q n (d + v)              two products; backward five, 2.5 times as many
    bytes        n (d + v) b ⌈q/block⌉      every slot once for each block of queries
    messages     Sum 1, Log 2, Simplex 2 and one per step of its search (two more where gradients are on); one of 40 bytes to agree on the inputs
    payload      Sum 4 q (v + 1), Log 4 q (v + 2), Simplex 4 q (v + 2) and 8 q per step (12 q more with gradients): no scores, no slots

An all-reduce of p bytes takes 2 ⌈log₂ W⌉ latencies and 2 (W − 1)/W · p / network (the better of trees and rings, as libraries choose).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

SEARCH = 10  # sweeps that a search for a threshold takes, about
SUM = 4  # bytes of a number that is exchanged


@dataclass(frozen=True)
class Machine:
    """One rank: what it computes and moves in a second, what it holds, and what an exchange costs it.

    Attributes:
        operations: per second, in products.
        bandwidth: bytes per second between its memory and its cores.
        memory: bytes.
        network: bytes per second to other ranks.
        latency: seconds of one hop.
    """

    operations: float
    bandwidth: float
    memory: float
    network: float
    latency: float


H100 = Machine(989e12, 3.35e12, 80e9, 50e9, 5e-6)
"""One NVIDIA H100 SXM by its data sheet (bf16 without sparsity, HBM3) with 400 Gb/s of network; the latency of a hop is assumed."""


@dataclass(frozen=True)
class Read:
    """A read, as it is asked for.

    Attributes:
        slots, queries, width, values: N, q, d and v; v is 0 where states settle, which read the keys themselves.
        number: bytes of one number of a slot.
        steps: how many.
        scaling: "Sum", "Log" or "Simplex" (with weights other than softmax).
        block: queries that share one pass over the slots.
    """

    slots: float
    queries: float
    width: int = 128
    values: int = 128
    number: int = 2
    steps: int = 1
    scaling: str = "Log"
    block: int = 1024

    def __post_init__(self):
        if self.scaling not in ("Sum", "Log", "Simplex"):
            raise ValueError(f"A read over ranks has the scaling Sum, Log or Simplex, got {self.scaling!r}.")
        if min(self.slots, self.queries, self.width, self.number, self.steps, self.block) <= 0 or self.values < 0:
            raise ValueError(f"Sizes are positive, got {self}.")


@dataclass(frozen=True)
class Cost:
    """What one rank does for a read, and how long it takes.

    Attributes:
        held: bytes of slots on the rank, without the room that a growing memory keeps for more; more than it has room for makes ``fits`` False.
        operations, bytes: of its sweeps.
        messages, payload: all-reduces, and bytes of them all.
        sweeping, exchanging: seconds.
    """

    held: float
    operations: float
    bytes: float
    messages: int
    payload: float
    sweeping: float
    exchanging: float
    fits: bool

    @property
    def seconds(self) -> float:
        return self.sweeping + self.exchanging

    @property
    def efficiency(self) -> float:
        """The share of the time in which slots are swept."""
        return self.sweeping / self.seconds


def read_cost(read: Read, machine: Machine, ranks: int) -> Cost:
    """The forward cost of a read on so many ranks."""
    slots = math.ceil(read.slots / ranks)
    searches = SEARCH if read.scaling == "Simplex" else 0
    out = read.values or read.width
    held = slots * (read.width + read.values) * read.number
    operations = read.steps * 2 * read.queries * slots * (read.width * (1 + searches) + out)
    moved = read.steps * math.ceil(read.queries / read.block) * (held + searches * slots * read.width * read.number)
    sums = SUM * read.queries * (out + 1)
    each = {"Sum": (1, sums), "Log": (2, sums + SUM * read.queries), "Simplex": (2 + searches, SUM * read.queries * (out + 2 * (1 + searches)))}
    messages, payload = each[read.scaling]
    messages, payload = 1 + read.steps * messages, read.steps * payload
    sweeping = max(operations / machine.operations, moved / machine.bandwidth)
    return Cost(held, operations, moved, messages, payload, sweeping, _exchanging(messages, payload, machine, ranks), held <= machine.memory)


def most_ranks(read: Read, machine: Machine, efficiency: float = 0.5) -> int:
    """The largest number of ranks, a power of two, that still spend this share of their time on slots; 1 where sharding does not pay."""
    ranks = 1
    while ranks < 2**40 and read_cost(read, machine, 2 * ranks).efficiency >= efficiency:
        ranks *= 2
    return ranks


def fewest_ranks(read: Read, machine: Machine) -> int:
    """How many ranks have room for the slots."""
    return max(1, math.ceil(read.slots * (read.width + read.values) * read.number / machine.memory))


def balance(read: Read, machine: Machine) -> float:
    """The number of queries from which on a sweep is limited by operations, and no longer by moving slots."""
    one = read_cost(replace(read, queries=1), machine, 1)
    return (one.bytes / machine.bandwidth) / (one.operations / machine.operations)


def sweep_seconds(runs: int, seconds: float, processes: int, *, longest: float | None = None, start: float = 0.0, record: float = 0.0) -> float:
    """How long ``runs`` runs of ``seconds`` each take on so many processes, by Graham's bound for any order (1966): ``start + R s/P + (1 − 1/P) longest``.

    ``record`` are the seconds for which one record keeps a folder that all share from serving another: no number of processes does better than
    ``runs · record``.
    """
    if runs < 0 or processes < 1 or seconds < 0:
        raise ValueError(f"A sweep has runs ≥ 0 of seconds ≥ 0 on at least one process, got {runs}, {seconds} and {processes}.")
    last = (1 - 1 / processes) * (seconds if longest is None else longest) if runs % processes or longest is not None else 0.0
    return start + max(runs * seconds / processes + last, runs * record)


def _exchanging(messages: int, payload: float, machine: Machine, ranks: int) -> float:
    if ranks == 1:
        return 0.0
    return messages * 2 * math.ceil(math.log2(ranks)) * machine.latency + 2 * (ranks - 1) / ranks * payload / machine.network
