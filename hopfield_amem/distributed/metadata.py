"""Reading what torch says of a distributed checkpoint, a pickle, without running anything that it may ask for.

A checkpoint of a memory holds tensors only. torch reads those with ``weights_only``, but anything else that a description declares (``BytesStorageMetadata``)
as a pickle, which may run code; so such entries are refused before torch sees them.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata


def _member(owner: Any, name: Any) -> Any:
    """A member of torch's enumeration of memory formats, and nothing else's attribute."""
    if owner is not metadata._MEM_FORMAT_ENCODING or not isinstance(name, str) or name not in metadata._MEM_FORMAT_ENCODING.__members__:
        raise pickle.UnpicklingError("it asks for an attribute of something that is no memory format")
    return metadata._MEM_FORMAT_ENCODING[name]


RECORDS = (
    Metadata, TensorStorageMetadata, StorageMeta, metadata.ChunkStorageMetadata, metadata.MetadataIndex, metadata.TensorProperties, filesystem._StorageInfo,
)  # fmt: skip
PARTS = (*RECORDS, metadata._MEM_FORMAT_ENCODING, torch.Size)
KNOWN: dict[tuple[str, str], Any] = {
    **{(part.__module__, part.__qualname__): part for part in PARTS},
    ("builtins", "getattr"): _member,  # how early releases of Python 3.11 write a member of an enumeration
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,  # type: ignore[attr-defined] (a look-up in a table)
    **{("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)},
}
PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")  # all become a Path of this machine, which nothing opens
LARGEST = 2**28  # bytes of a description; each part needs a few hundred


class Plain(pickle._Unpickler):  # type: ignore[misc]  # in Python: the one in C makes room for every number that a pickle gives its parts, 256 MB for seven bytes
    """An unpickler that knows the data classes of torch's checkpoints and nothing else: no function of the writer's choice is looked up, let alone called.
    Attributes are set on the records that the pickle makes, never on a class or on anything else that others use as well.

    Raises:
        pickle.UnpicklingError: anything else that the pickle names, sets or wants room for.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)

    def load_build(self) -> None:
        if type(self.stack[-2]) not in RECORDS:
            raise pickle.UnpicklingError(f"it sets attributes of {self.stack[-2]!r}")
        super().load_build()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        raise pickle.UnpicklingError("it makes room for bytes, which no checkpoint describes")

    dispatch[pickle.BUILD[0]], dispatch[pickle.BYTEARRAY8[0]] = load_build, load_bytearray8

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
    if len(tensors) < len(found.state_dict_metadata):
        raise ValueError("it describes something that is no tensor")
    needed = sum(torch.Size(entry.size).numel() * entry.properties.dtype.itemsize for entry in tensors)
    held = sum(file.stat().st_size for file in folder.glob("*.distcp"))
    if needed > held or any(number < 0 for entry in tensors for number in entry.size):
        raise ValueError(f"it speaks of tensors of {needed} bytes, and the files hold {held}")
