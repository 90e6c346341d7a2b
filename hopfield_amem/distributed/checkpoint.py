"""What the ranks of a memory hold, as one distributed checkpoint: written in parts, read by any number of ranks.

torch describes such a checkpoint by a pickle, which is read here by an unpickler that knows nothing but descriptions of tensors (``metadata``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from .agreement import agreed
from .metadata import Reader
from .ranks import Ranks

ROWS = ("patterns", "values", "ids")
NEXT = "next"  # the id that is given next


@dataclass(frozen=True)
class Room:
    """What one tensor of a checkpoint needs."""

    size: tuple[int, ...]
    dtype: torch.dtype


def save(folder: str | Path, ranks: Ranks, rows: Mapping[str, Tensor], following: int) -> None:
    """Write the rows of this rank as one part of a checkpoint, beside ``folder``; when all ranks have, it takes the place of the one that was there.

    Raises:
        ValueError: a folder that holds something else.
        OSError: a part that could not be written; what was there stays.
    """
    folder = Path(folder)
    beside, before = _beside(folder, "saving"), _beside(folder, "before")
    ids = rows["ids"]
    agreed(ranks, ids, lambda: _room_for(folder))
    agreed(ranks, ids, lambda: _cleared(folder, beside, before) if ranks.rank == 0 else None)  # for which all ranks wait
    state = {f"{ranks.rank}.{name}": tensor for name, tensor in rows.items() if len(tensor)} | {NEXT: torch.tensor(following)}
    _exchanged(ranks, lambda: state_dict_saver.save(state, checkpoint_id=beside, process_group=ranks.group), f"{folder} was not written")
    agreed(ranks, ids, lambda: _swap(folder, beside, before) if ranks.rank == 0 else None)


def load(folder: str | Path, ranks: Ranks, like: Tensor) -> tuple[tuple[Tensor, Tensor | None, Tensor], int]:
    """Patterns, values and ids that this rank takes, and the next id. Parts go to the ranks in turn, in their order; a rank makes room for its own only.

    Raises:
        ValueError: no checkpoint of such a memory, or a damaged one.
        OSError: a part that could not be read.
    """
    parts: dict[int, dict[str, Room]] = {}

    def check() -> None:
        nonlocal parts
        parts = _parts(_metadata(Path(folder)), folder, like)

    agreed(ranks, like, check)
    mine = sorted(parts)[ranks.rank :: ranks.size]
    wanted = {f"{part}.{name}": torch.empty(room.size, dtype=room.dtype, device=like.device) for part in mine for name, room in parts[part].items()}
    wanted[NEXT] = torch.tensor(0)
    _exchanged(ranks, lambda: state_dict_loader.load(wanted, storage_reader=Reader(folder), process_group=ranks.group), f"{folder} was not read")
    held = {name: [wanted[f"{part}.{name}"] for part in mine if name in parts[part]] for name in ROWS}
    patterns = torch.cat([like.new_zeros(0, like.shape[1]), *held["patterns"]])
    ids = torch.cat([torch.zeros(0, dtype=torch.long, device=like.device), *held["ids"]])
    return (patterns, torch.cat(held["values"]) if held["values"] else None, ids), int(wanted[NEXT])


def _exchanged(ranks: Ranks, exchange: Callable[[], object], failed: str) -> None:
    """A save or a load of all ranks; what went wrong on one of them, which torch reports as a BaseException, as one sentence on all."""
    try:
        ranks.waited(exchange)
    except CheckpointException as error:
        rank, (cause, _) = min(error.failures.items(), key=lambda failure: failure[0])
        kind = OSError if isinstance(cause, OSError) else ValueError
        first, *_ = [*str(cause).strip().splitlines(), "without a word"]
        raise kind(f"{failed}: rank {rank} met {type(cause).__name__} ({first}).") from None


def _beside(folder: Path, name: str) -> Path:
    folder = folder.absolute()
    return folder.with_name(f".{folder.name}.{name}")


def _room_for(folder: Path) -> None:
    """Raise ValueError where a checkpoint would take the place of something else."""
    if not folder.exists():
        return
    others = [file.name for file in folder.iterdir() if file.name != ".metadata" and file.suffix != ".distcp"] if folder.is_dir() else [folder.name]
    if others:
        raise ValueError(f"A checkpoint takes the place of {folder}, which holds something else ({others[0]}). Give a folder of its own.")


def _cleared(folder: Path, beside: Path, before: Path) -> None:
    """Remove what a save that was interrupted left; where it ended between the two names of a swap, what was there before comes back."""
    if before.exists() and not folder.exists():
        os.replace(before, folder)
    for left in (beside, before):
        shutil.rmtree(left, ignore_errors=True)
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)


def _swap(folder: Path, beside: Path, before: Path) -> None:
    """Give a checkpoint that is complete its name. The one before keeps a name of its own until then."""
    if folder.exists():
        os.replace(folder, before)
    os.replace(beside, folder)
    shutil.rmtree(before, ignore_errors=True)


def _metadata(folder: Path) -> Metadata:
    if not (folder / ".metadata").is_file():
        before = _beside(folder, "before")
        where = f" A save was interrupted; the checkpoint before it is {before}." if before.exists() else " Give the folder that ShardedMemory.save wrote."
        raise ValueError(f"There is no checkpoint in {folder}.{where}")
    return Reader(folder).read_metadata()


def _parts(metadata: Metadata, folder: str | Path, like: Tensor) -> dict[int, dict[str, Room]]:
    """The tensors of every part."""
    parts: dict[int, dict[str, Room]] = {}
    for key, entry in metadata.state_dict_metadata.items():
        part, _, name = key.partition(".")
        if not isinstance(entry, TensorStorageMetadata) or not (key == NEXT or (part.isdecimal() and name in ROWS)):
            raise ValueError(f"{folder} is a checkpoint, but not of a ShardedMemory: it holds {key!r}.")
        if key == NEXT:
            continue
        if name == "patterns" and tuple(entry.size[1:]) != like.shape[1:]:
            raise ValueError(f"This memory stores patterns (n, {like.shape[1]}), the saved one {tuple(entry.size)}.")
        parts.setdefault(int(part), {})[name] = Room(tuple(entry.size), entry.properties.dtype if name == "ids" else like.dtype)
    if NEXT not in metadata.state_dict_metadata:
        raise ValueError(f"{folder} is a checkpoint, but not of a ShardedMemory: it lacks {NEXT!r}.")
    _whole(parts, folder)
    return parts


def _whole(parts: Mapping[int, Mapping[str, Room]], folder: str | Path) -> None:
    """Raise ValueError unless every part has patterns (n, d), ids (n,), and values (n, v) of one width, or all parts have none."""
    widths = {part["values"].size[1:] if "values" in part else None for part in parts.values()}
    for number, part in parts.items():
        sizes = {name: room.size for name, room in part.items()}
        rows = {size[:1] for size in sizes.values()}
        if not {"patterns", "ids"} <= set(sizes) or len(rows) != 1 or len(sizes["ids"]) != 1 or len(widths) != 1 or part["ids"].dtype != torch.long:
            raise ValueError(f"The checkpoint in {folder} is damaged: parts hold patterns, ids and values alike, in equal numbers, but part {number} {sizes}.")
