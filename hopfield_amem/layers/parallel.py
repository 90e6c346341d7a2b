"""Tensor parallelism: every rank holds some of the heads. Imported by those who use it, because torch's own machinery is heavy."""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, SequenceParallel, parallelize_module

from .attention import HopfieldAttention


class HeadwiseParallel(ParallelStyle):
    """Split the heads of a ``HopfieldAttention`` or ``HopfieldPooling`` over the ranks of a mesh of one dimension.

    ``query``, ``keys`` and ``values`` are split by columns and ``output`` by rows (Shoeybi et al. 2019, arXiv 1909.08053), inverse temperatures with
    their heads. Tokens and outputs are whole on every rank; a presence per head, and what ``energy``, ``association`` and ``descended`` show, belong to the
    rank's own heads.

    ``parallelize_module(model, mesh, {"layers.*.attention": HeadwiseParallel()})``

    Raises:
        ValueError: another module, heads or memories that the ranks cannot share equally, static roles (they would hold all heads).
    """

    def _apply(self, module: nn.Module, device_mesh: DeviceMesh) -> nn.Module:
        layer = _checked(module, device_mesh.size())
        plan: dict[str, ParallelStyle] = {
            "query": ColwiseParallel(),
            "keys": ColwiseParallel(),
            "values": ColwiseParallel(input_layouts=Shard(-1) if layer.wiring.connected else Replicate()),
            "output": RowwiseParallel(),
        }
        if "space" in layer.wiring.norms:
            plan["norm_space"] = SequenceParallel(sequence_dim=-4, use_local_output=True)  # its "sequence" are the memories, (..., memories, group, t, d)
        parallelize_module(layer, device_mesh, plan, src_data_rank=self.src_data_rank)
        betas = distribute_tensor(layer.log_beta, device_mesh, [Shard(0)], src_data_rank=self.src_data_rank)
        layer.log_beta = nn.Parameter(betas, requires_grad=layer.log_beta.requires_grad)
        return layer


def _checked(module: nn.Module, ranks: int) -> HopfieldAttention:
    if not isinstance(module, HopfieldAttention):
        raise ValueError(f"HeadwiseParallel splits the heads of HopfieldAttention or HopfieldPooling, got {type(module).__name__}.")
    if module.memories % ranks:
        raise ValueError(f"{ranks} ranks cannot share {module.memories} memories equally: every rank holds whole key and value heads.")
    if module.wiring.static:
        raise ValueError(f"Static roles hold the channels of all heads and cannot be split, got static={module.wiring.static}.")
    return module
