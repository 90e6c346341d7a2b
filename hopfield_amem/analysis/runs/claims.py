"""Who is at a run now: a courtesy between processes and machines that share a folder. Records stay right without it; a run may then be done twice."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from ..result import decoded

HEARTBEAT = 10.0  # seconds between signs of life
LEASE = 60.0  # seconds without any, after which a claim is dead


@contextmanager
def claim(paths: Iterable[Path], asker: str = "") -> Iterator[Collection[Path]]:
    """Hold claims and keep them fresh, and give them back. Gives those that nobody alive holds (``alive``): now they are held here.

    Raises OSError where the folder cannot be written.
    """
    tokens: dict[Path, str] = {}
    over = threading.Event()
    heart = threading.Thread(target=_beat, args=(tokens, over), daemon=True)
    try:
        for path in paths:
            if (token := _taken(path, asker)) is not None:
                tokens[path] = token
        if tokens:
            heart.start()
        yield tokens.keys()
    finally:
        over.set()
        if heart.is_alive():
            heart.join(1.0)
        for path, token in tokens.items():
            with suppress(OSError):
                if owner(path).get("token") == token:  # not of one who took it over meanwhile
                    path.unlink()


def alive(path: Path, asker: str = "") -> bool:
    """Whether a claim holds: its process runs, as far as that can be known from here, and its last sign of life is no older than the lease.

    To the asker who has a run done, a claim that another machine made for the same asker does not hold: a run is given away again only after its worker died.
    """
    try:
        last = path.stat().st_mtime
    except FileNotFoundError:
        return False
    held = owner(path)
    if held.get("machine") == _machine():
        if not _running(held.get("pid", 0)):
            return False
    elif asker and held.get("asker") == asker:
        return False
    return _now(path.parent) - last < LEASE


def owner(path: Path) -> dict:
    """What a claim says of who holds it: host, pid, machine, asker, token; nothing where it is gone or not written yet."""
    try:
        found = decoded(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _taken(path: Path, asker: str) -> str | None:
    """Make the claim, over a dead one if need be. -> its token, or None"""
    if path.exists() and not alive(path, asker):
        path.unlink(missing_ok=True)
    token = uuid.uuid4().hex
    said = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "machine": _machine(), "asker": asker, "token": token})
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return None
    try:
        os.write(file, said.encode())
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(file)
    return token


def _beat(paths: Iterable[Path], over: threading.Event) -> None:
    while not over.wait(HEARTBEAT):
        for path in paths:
            with suppress(OSError):
                os.utime(path)


def _now(folder: Path) -> float:
    """The clock of the file system, by which signs of life are dated: machines that share it may disagree about the time."""
    probe = folder / f".{uuid.uuid4().hex}.clock"
    try:
        file = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        try:
            return os.fstat(file).st_mtime
        finally:
            os.close(file)
            probe.unlink()
    except OSError:  # a folder that can only be read
        return time.time()


@cache
def _machine() -> str:
    """Which machine, since when it runs, and which numbering of processes: pids mean the same where all three agree."""
    told = [socket.gethostname()]
    with suppress(OSError):
        told.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        told.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return " ".join(told)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's, but there
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"  # killed, and not yet taken note of
    except (OSError, IndexError):
        return True
