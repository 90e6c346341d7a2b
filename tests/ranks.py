"""Checks over processes: every rank does all of them, and writes down what failed."""

import os
import sys
import traceback
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist


def over_ranks(world, checks, folder, *, seconds=60):
    """Run ``check(rank, world, folder)``, one after the other, on so many ranks of gloo. Raises AssertionError with the first that failed on each."""
    torch.multiprocessing.spawn(_rank, (world, checks, str(folder), seconds), nprocs=world)
    failures = "\n".join(Path(folder, f"{number}.txt").read_text(encoding="utf-8") for number in range(world))
    assert not failures.strip(), failures


def _rank(rank, world, checks, folder, seconds):
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=seconds))
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
