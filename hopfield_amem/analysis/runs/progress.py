"""How far a study is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(title: str | None, total: int | None, done: int = 0) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, where that is a terminal: calling what it gives advances it by one. Without a title there is none."""
    if title is None or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        bar = bars.add_task(title, total=total, completed=done)
        yield lambda: bars.advance(bar)
