"""A memory that no single process holds: patterns stored over several ranks, and recalled from damaged queries as if they lay in one place.

    torchrun --nproc-per-node 2 examples/sharded_memory.py          a million patterns over 2 ranks
    python examples/sharded_memory.py                               50 000 patterns over 2 ranks that it starts itself

Every rank keeps its share of the patterns. A step of recall sends one packed sum per query, never a pattern or a score.
"""

import argparse
import os
import shutil
import tempfile
import time
from datetime import timedelta

import torch
import torch.distributed as dist

from hopfield_amem import presets
from hopfield_amem.distributed import ShardedMemory

WIDTH, QUERIES, PIECE = 64, 64, 50_000


def stored(memory: ShardedMemory, rank: int, count: int) -> torch.Tensor:
    """Store this rank's patterns, piece by piece; the first few of them."""
    draw, first = torch.Generator().manual_seed(rank), torch.empty(0)
    for start in range(0, count, PIECE):
        patterns = torch.randn(min(PIECE, count - start), WIDTH, generator=draw)
        memory.store(patterns)
        first = patterns[:QUERIES] if start == 0 else first
    return first


def run(patterns: int, folder: str) -> None:
    """One rank: store, damage, recall, save, load."""
    rank, ranks = dist.get_rank(), dist.get_world_size()
    memory = ShardedMemory(WIDTH, presets.distance(1.0))
    start = time.perf_counter()
    originals = stored(memory, rank, patterns // ranks)
    dist.broadcast(originals, src=0)  # every rank asks the same: what rank 0 stored first
    damaged = originals + 0.5 * torch.randn(originals.shape, generator=torch.Generator().manual_seed(9))
    total, storing = memory.total(), time.perf_counter() - start
    start = time.perf_counter()
    found = memory.recall(damaged)
    recalling = time.perf_counter() - start
    error = (found.state - originals).norm(dim=-1) / originals.norm(dim=-1)
    memory.save(folder)
    memory.load(folder)
    again = memory.recall(damaged[:2])
    if rank == 0:
        size = len(memory) * WIDTH * 4 / 2**20
        print(f"{total:,} patterns of width {WIDTH} over {ranks} ranks, {size:.0f} MiB on each; stored in {storing:.1f} s")
        right = float((found.ids < len(damaged)).float().mean())
        print(f"{len(damaged)} damaged queries recalled in {recalling:.2f} s, {int(found.steps.max())} steps: {right:.0%} found")
        print(f"relative error {float(error.max()):.1e}; saved, loaded, and recalled alike: {torch.equal(again.ids, found.ids[:2])}")


def spawned(rank: int, ranks: int, patterns: int, folder: str) -> None:
    """A rank that this script started itself."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", ranks)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timedelta(minutes=1))
    run(patterns, f"{folder}/memory")
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    launched = "RANK" in os.environ  # by torchrun
    parser.add_argument("--patterns", type=int, default=1_000_000 if launched else 50_000)
    patterns, ranks = parser.parse_args().patterns, int(os.environ["WORLD_SIZE"]) if launched else 2
    if patterns < ranks:
        parser.error(f"every one of the {ranks} ranks stores patterns, so give at least as many, got {patterns}")
    if not launched:
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(spawned, (ranks, patterns, folder), nprocs=ranks)
        return
    dist.init_process_group("gloo", timeout=timedelta(minutes=1))  # a rank that dies ends the others within this time
    folder = [tempfile.mkdtemp() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(folder)
    run(patterns, f"{folder[0]}/memory")
    dist.barrier()  # until the last rank has read
    if dist.get_rank() == 0:
        shutil.rmtree(str(folder[0]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
