"""Work that takes no time, and ways in which work, disks and workers fail."""

import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

CALLS = []


def squared(config):
    CALLS.append(config["x"])
    if config.get("fail"):
        raise ArithmeticError("too large\nby far")
    return {"y": config["x"] ** 2, "nothing": math.nan, "tensor": torch.arange(2), "deep": {"a": {"b": 1.5}}}


def threads(config):
    return {"threads": torch.get_num_threads(), "devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "process": os.getpid()}


def deadly(config):
    if config["x"] == 1:
        until(lambda: done(Path(config["where"])))  # the other run
        os.kill(os.getpid(), signal.SIGKILL)
    return {"y": config["x"]}


def slow(config):
    (Path(config["where"]) / f"{os.getpid()}.{config['x']}.begun").touch()
    time.sleep(0.6)
    return {"process": os.getpid()}


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.02)


def done(folder):
    return [path for path in folder.glob("*.json") if "failed" not in path.name]


@dataclass(frozen=True)
class Times:
    factor: int

    def __call__(self, config):
        return {"y": self.factor * config["x"]}


@dataclass(frozen=True)
class Pairs:
    """Work that does two runs at once."""

    def __call__(self, config):
        return squared(config)

    def stacks(self, configs):
        return [[*range(first, min(first + 2, len(configs)))] for first in range(0, len(configs), 2)]

    def together(self, configs):
        found = []
        for config in configs:
            try:
                found.append(squared(config) | {"together": len(configs)})
            except ArithmeticError as error:
                if config["fail"] == "all":
                    raise
                found.append(error)
        return found


def refusing(number):
    def refuse(file):
        raise OSError(number, os.strerror(number))

    return refuse
