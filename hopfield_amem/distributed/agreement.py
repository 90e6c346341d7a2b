"""What ranks agree on before they read together: one message, after which none of them waits for another that went elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import torch
from torch import Tensor

from .ranks import Ranks


def agreed(ranks: Ranks, near: object, check: Callable[[], dict[str, object] | None], own: tuple[bool, ...] = ()) -> bool:
    """Run a check that returns, by name, what ranks must have in common, and raise on all ranks where it fails on one, or where they differ.

    What the check raises is raised as it came, once the others know of it. The message travels ``near`` a tensor.
    ``own`` are answers that may differ from rank to rank.
    -> whether those are alike on all of them
    """
    problem, common, names = None, "", ""
    try:
        named = {**(check() or {}), "whether gradients are recorded": torch.is_grad_enabled()}
        common, names = repr(named), ", ".join(named)
    except Exception as error:  # memory that runs out too: nothing may keep a rank from the exchange for which all others wait
        problem = error
    mark, answers = crc32(common.encode()), sum(answer << place for place, answer in enumerate(own))
    mine = torch.tensor([problem is not None, mark, -mark, answers, -answers], device=ranks.device(near))
    failed, highest, lowest, most, least = ranks.largest(mine).tolist()
    if problem is not None:
        raise problem
    if failed:
        raise ValueError(f"Another rank gave inputs that do not fit, or failed, and says how; rank {ranks.rank} has stopped with it.")
    if highest != -lowest:
        raise ValueError(
            f"Ranks must call alike, but they differ in one of: {names}. Tensors are compared by shape, dtype, numbers (bit by bit), and whether they get a "
            f"gradient: give all ranks the same, broadcast from one of them where each makes its own. Here: {common}."
        )
    return most == -least


def differentiated(*tensors: object) -> tuple[bool, ...]:
    """Which tensors get a gradient."""
    return tuple(torch.is_grad_enabled() and isinstance(tensor, Tensor) and tensor.requires_grad for tensor in tensors)


def followed(tensor: Tensor) -> Tensor:
    """The tensor, as one that gets a gradient, so that ``backward`` takes the same way on ranks that need none and on those that do."""
    return tensor if tensor.requires_grad else tensor.detach().requires_grad_()


def replicated(tensor: Tensor) -> tuple:
    """What ranks must have in common of a tensor that is equal on all of them."""
    return tuple(tensor.shape), tensor.dtype, checksum(tensor), *differentiated(tensor)


def checksum(tensor: Tensor) -> int:
    """CRC-32 of the numbers of a tensor: equal tensors of a dtype have equal ones, whatever their device or strides; NaN equals a NaN of the same bits."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu() + 0  # which makes 0 of -0
    return crc32(plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
