"""The processes that share a memory, and the few exchanges between them; each with the gradient that belongs to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

# What gloo, NCCL and the stores of torch.distributed say when a process is gone or late; they raise RuntimeErrors for other reasons, too,
# and a kernel of one's own that runs too long is "CUDA error: the launch timed out and was terminated".
LOST = re.compile(
    r"closed by (remote )?peer|reset by peer|connection (closed|reset|refused|timed out|was likely closed)|broken pipe|socket (closed|timeout)|"
    r"(?<!launch )timed out|(wait|operation) timeout|timeout caused pair closure|ncclRemoteError|communicator was aborted",
    re.IGNORECASE,
)


class RankLost(RuntimeError):
    """Another process of the group did not answer."""


@dataclass(frozen=True)
class Ranks:
    """A process group: every process of it holds some of the slots, and all of them call the same functions in the same order.

    Results are bitwise equal on all ranks, as ``torch.distributed.all_reduce`` promises, so that loops end at the same step everywhere; for that the
    ranks run one software on one kind of processor.

    Args:
        group: of torch.distributed; None is all processes.

    Raises:
        RuntimeError: torch.distributed has not been started.
        ValueError: this process is not in the group.
    """

    group: Any = None

    def __post_init__(self):
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError("Ranks are processes of torch.distributed: call torch.distributed.init_process_group(...) first, under torchrun for example.")
        if dist.get_rank(self.group) < 0:
            raise ValueError(f"Process {dist.get_rank()} is not in this group, and would read alone. Only the processes of a group make its Ranks.")

    @property
    def size(self) -> int:
        return dist.get_world_size(self.group)

    @property
    def rank(self) -> int:
        """The number of this process."""
        return dist.get_rank(self.group)

    def device(self, near: object) -> torch.device:
        """Where messages travel, by one backend on all ranks, whatever one of them gave: on the CPU where the group has a backend there, else (NCCL) beside
        this tensor, or on the current accelerator where it lies elsewhere."""
        kinds = [pair.partition(":")[0] for pair in dist.get_backend_config(self.group).split(",")]
        if "cpu" in kinds:
            return torch.device("cpu")
        return near.device if isinstance(near, Tensor) and near.device.type in kinds else torch.device(kinds[0])

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, without gradient."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def largest(self, tensor: Tensor) -> Tensor:
        """The elementwise largest over all ranks, without gradient."""
        return self._reduced(tensor, dist.ReduceOp.MAX)

    def rows(self, tensor: Tensor) -> list[Tensor]:
        """The tensors (..., rows, columns) of all ranks, which may differ in their number of rows; without gradient."""
        counts = self.counts(tensor.shape[-2], tensor.device)
        padded = tensor.new_zeros(*tensor.shape[:-2], max(counts), tensor.shape[-1])
        padded[..., : tensor.shape[-2], :] = tensor.detach()
        parts = [torch.empty_like(padded) for _ in counts]
        self.waited(lambda: dist.all_gather(parts, padded, group=self.group))
        return [part[..., :count, :] for part, count in zip(parts, counts, strict=True)]

    def counts(self, count: int, device: torch.device) -> list[int]:
        """A number of every rank."""
        mine = torch.zeros(self.size, dtype=torch.long, device=device)
        mine[self.rank] = count
        return self.add(mine).tolist()

    def waited(self, exchange: Callable[[], Any]) -> Any:
        """An exchange that every rank must join. What else goes wrong in it, as where memory runs out, is raised as it came.

        Raises:
            RankLost: one did not, within the group's timeout.
        """
        try:
            return exchange()
        except RuntimeError as error:  # of gloo and NCCL alike
            if isinstance(error, torch.OutOfMemoryError) or not LOST.search(str(error)):
                raise
            raise RankLost(
                f"Rank {self.rank} of {self.size} waited for another rank that did not answer ({error}). It died, raised, or is behind by more than the "
                "group's timeout; look for the first error among the ranks, and start again from the last checkpoint."
            ) from error

    def _reduced(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        self.waited(lambda: dist.all_reduce(total, operation, group=self.group))
        return total


def shared(tensor: Tensor, ranks: Ranks) -> Tensor:
    """A tensor that is equal on all ranks, where each goes on with slots of its own: the gradients of all ranks are summed."""
    return _Shared.apply(tensor, ranks) if torch.is_grad_enabled() and tensor.requires_grad else tensor  # type: ignore[return-value]


def summed(tensor: Tensor, ranks: Ranks) -> Tensor:
    """The sum over all ranks, which all go on with alike: its gradient is that of every part."""
    return _Summed.apply(tensor, ranks)  # type: ignore[return-value]


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, ranks):  # type: ignore[override]
        ctx.ranks = ranks
        return tensor.view_as(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):  # type: ignore[override]
        return ctx.ranks.add(cotangent), None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, ranks):  # type: ignore[override]
        return ranks.add(tensor)

    @staticmethod
    @once_differentiable
    def backward(ctx, cotangent):  # type: ignore[override]
        return cotangent, None
