"""Reading what torch says of a distributed checkpoint, a pickle, without running anything that it may ask for."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

PARTS = (
    Metadata, TensorStorageMetadata, StorageMeta, metadata.BytesStorageMetadata, metadata.ChunkStorageMetadata, metadata.MetadataIndex,
    metadata.TensorProperties, metadata._MEM_FORMAT_ENCODING, filesystem._StorageInfo, torch.Size,
)  # fmt: skip
KNOWN: dict[tuple[str, str], Any] = {
    **{(part.__module__, part.__qualname__): part for part in PARTS},
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,  # type: ignore[attr-defined] (a look-up in a table)
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}
PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")  # all become a Path of this machine, which nothing opens
LARGEST = 2**28  # bytes of a description; each part needs a few hundred


class Plain(pickle.Unpickler):
    """An unpickler that knows the data classes of torch's checkpoints and nothing else: no function of the writer's choice is looked up, let alone called.

    Raises:
        pickle.UnpicklingError: anything else that the pickle names.
    """

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] == "pathlib" and name in PATHS:
            return Path
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a checkpoint")
        return KNOWN[module, name]


class Reader(FileSystemReader):
    """torch's reader of a folder, with metadata that is checked before it is believed: plain, of files in this folder, of no more than they hold."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Raises ValueError for metadata that is damaged, or asks for anything but the files of the folder."""
        folder = Path(self.path)
        described = folder / ".metadata"
        try:
            if described.stat().st_size > LARGEST:
                raise ValueError(f"{described.stat().st_size} bytes")
            found = Plain(io.BytesIO(described.read_bytes())).load()
            _honest(found, folder)
        except OSError:
            raise
        except (Exception, RecursionError, MemoryError) as error:  # whatever a damaged pickle raises
            first = (str(error).splitlines() or [""])[0]
            raise ValueError(f"The checkpoint in {folder} is damaged: its .metadata cannot be read ({type(error).__name__}: {first}).") from None
        found.storage_meta = StorageMeta() if found.storage_meta is None else found.storage_meta
        found.storage_meta.load_id = self.load_id
        return found


def _honest(found: Metadata, folder: Path) -> None:
    """Raise ValueError unless every tensor lies in a file of the folder, as it is, and all together are no larger than the files."""
    if not isinstance(found, Metadata) or not isinstance(found.state_dict_metadata, dict) or not isinstance(found.storage_data, dict):
        raise ValueError("no metadata of a checkpoint")
    for info in found.storage_data.values():
        name = info.relative_path
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".distcp"):
            raise ValueError(f"it names the file {name!r} outside of the folder")
        if getattr(info, "transform_descriptors", None):
            raise ValueError(f"it transforms {name!r} when reading")
    tensors = [entry for entry in found.state_dict_metadata.values() if isinstance(entry, TensorStorageMetadata)]
    needed = sum(torch.Size(entry.size).numel() * entry.properties.dtype.itemsize for entry in tensors)
    held = sum(file.stat().st_size for file in folder.glob("*.distcp"))
    if needed > held or any(number < 0 for entry in tensors for number in entry.size):
        raise ValueError(f"it speaks of tensors of {needed} bytes, and the files hold {held}")
