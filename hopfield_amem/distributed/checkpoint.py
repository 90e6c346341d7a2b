"""What the ranks of a memory hold, as one distributed checkpoint: written in parts, read by any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from .ranks import Ranks
from .retrieve import agreed

ROWS = ("patterns", "values", "ids")
NEXT = "next"  # the id that is given next


def save(folder: str | Path, ranks: Ranks, rows: Mapping[str, Tensor | None], following: int) -> None:
    """Write the rows of this rank as one part of a checkpoint."""
    state = {f"{ranks.rank}.{name}": tensor for name, tensor in rows.items() if tensor is not None and len(tensor)}
    ranks.waited(lambda: state_dict_saver.save(state | {NEXT: torch.tensor(following)}, checkpoint_id=folder, process_group=ranks.group))


def load(folder: str | Path, ranks: Ranks, like: Tensor) -> tuple[tuple[Tensor, Tensor | None, Tensor], int]:
    """Patterns, values and ids that this rank takes, and the next id. Parts go to the ranks in turn, in their order."""
    parts: dict[int, dict[str, Tensor]] = {}

    def check() -> None:
        nonlocal parts
        parts = _parts(_metadata(folder), folder, like)

    agreed(ranks, like, check)
    mine = sorted(parts)[ranks.rank :: ranks.size]
    wanted = {f"{part}.{name}": tensor for part in mine for name, tensor in parts[part].items()} | {NEXT: torch.tensor(0)}
    ranks.waited(lambda: state_dict_loader.load(wanted, checkpoint_id=folder, process_group=ranks.group))
    held = {name: [wanted[f"{part}.{name}"] for part in mine if name in parts[part]] for name in ROWS}
    patterns = torch.cat([like.new_zeros(0, like.shape[1]), *held["patterns"]])
    ids = torch.cat([torch.zeros(0, dtype=torch.long, device=like.device), *held["ids"]])
    return (patterns, torch.cat(held["values"]) if held["values"] else None, ids), int(wanted[NEXT])


def _metadata(folder: str | Path) -> Metadata:
    if not (Path(folder) / ".metadata").is_file():
        raise ValueError(f"There is no checkpoint in {folder}. Give the folder that ShardedMemory.save wrote.")
    return FileSystemReader(folder).read_metadata()


def _parts(metadata: Metadata, folder: str | Path, like: Tensor) -> dict[int, dict[str, Tensor]]:
    """Room for the tensors of every part."""
    parts: dict[int, dict[str, Tensor]] = {}
    for key, entry in metadata.state_dict_metadata.items():
        part, _, name = key.partition(".")
        if key == NEXT:
            continue
        if not part.isdecimal() or name not in ROWS or not isinstance(entry, TensorStorageMetadata):
            raise ValueError(f"{folder} is a checkpoint, but not of a ShardedMemory: it holds {key!r}.")
        if name == "patterns" and entry.size[1] != like.shape[1]:
            raise ValueError(f"This memory stores patterns (n, {like.shape[1]}), the saved one {tuple(entry.size)}.")
        dtype = entry.properties.dtype if name == "ids" else like.dtype
        parts.setdefault(int(part), {})[name] = torch.empty(entry.size, dtype=dtype, device=like.device)
    return parts
