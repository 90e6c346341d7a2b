"""Checks over processes: every rank does all of them, and writes down what failed."""

import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

SERVER = torch.multiprocessing.get_context("forkserver")  # imports once what every rank would import anew
SERVER.set_forkserver_preload(
    ["pytest", "hopfield_amem.distributed", "torch.distributed.fsdp", "torch.distributed.checkpoint", "torch.distributed.tensor.parallel"]
)
SIZES = {1: (100,), 2: (30, 70), 3: (17, 0, 83)}  # of 100 slots: uneven, and one rank that holds nothing


def slots(rank, world):
    first = sum(SIZES[world][:rank])
    return slice(first, first + SIZES[world][rank])


def close(mine, truth, tolerance=1e-10):
    torch.testing.assert_close(mine, truth, rtol=tolerance, atol=tolerance)


def over_ranks(world, checks, folder, *, seconds=60, backend="gloo"):
    """Run ``check(rank, world, folder)``, one after the other, on so many ranks. Raises AssertionError with the first that failed on each.

    Over NCCL every rank has a GPU of its own, on which tensors are made.
    """
    torch.multiprocessing.start_processes(_rank, (world, checks, str(folder), seconds, backend), nprocs=world, start_method="forkserver")
    failures = "\n".join(Path(folder, f"{number}.txt").read_text(encoding="utf-8") for number in range(world))
    assert not failures.strip(), failures


def _rank(rank, world, checks, folder, seconds, backend):
    torch.set_num_threads(1)
    if backend == "nccl":
        torch.cuda.set_device(rank)
        torch.set_default_device("cuda")
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timedelta(seconds=seconds))
    failure = ""
    for check in checks:
        torch.manual_seed(0)
        try:
            check(rank, world, folder)
        except (Exception, pytest.fail.Exception):  # after which the ranks no longer stand at the same place
            failure = f"{check.__name__} on rank {rank}\n{traceback.format_exc()}"
            break
    Path(folder, f"{rank}.txt").write_text(failure, encoding="utf-8")
    dist.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # gloo's threads may want the interpreter once more while it ends, which aborts the process (pytorch/pytorch#179291)
