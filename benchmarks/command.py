"""How a benchmark is run: its options, the folder of its results, and fresh processes for what must be measured alone."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from memory import ALLOCATOR
from results import environment, save, write

RESULTS = Path(__file__).parent / "results"
Row = TypeVar("Row")


@dataclass(frozen=True)
class Run:
    """A benchmark as the command line asks for it.

    Attributes:
        name: of its script and of its results.
        quick: small sizes, to see that it runs.
        threads: of torch.
        out: folder of the results.
    """

    name: str
    quick: bool
    threads: int
    out: Path

    def result(self, **parts: Any) -> dict[str, Any]:
        """What the results begin with: the machine, the command, and parts of the benchmark's own."""
        command = f"python benchmarks/{self.name}.py" + " --quick" * self.quick
        return {"environment": environment(self.threads, self.quick), "command": command} | parts

    def rows(self, result: dict, found: Iterable[Row], page: Callable[[dict], str]) -> Iterator[Row]:
        """The rows of a table as they are measured, each written at once, so that a run cut short leaves what it had."""
        result["rows"] = []
        for row in found:
            result["rows"].append(row)
            self.keep(result, page(result))
            yield row

    def tables(self, result: dict, found: Iterable[tuple[str, Row]], page: Callable[[dict], str]) -> Iterator[tuple[str, Row]]:
        """The same of several tables: each row comes with the name of its own."""
        result["tables"] = {}
        for table, row in found:
            result["tables"].setdefault(table, []).append(row)
            self.keep(result, page(result))
            yield table, row

    def keep(self, result: dict, page: str) -> Path:
        """Write the results and their page. -> the page"""
        save(self.out, self.name, result)
        return write(self.out / f"{self.name}.md", page)


def asked(script: str, description: str | None, measured: Callable[..., Any] | None = None) -> Run:
    """The run that the command line asks for, with torch on its threads. Quick results go to a folder of their own unless another is given.

    Args:
        script: ``__file__``.
        description: what ``--help`` says.
        measured: what ``fresh`` asks this script for: it then prints that one figure and ends.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--fresh", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.fresh and measured is not None:
        print(json.dumps(measured(*json.loads(given.fresh))))
        raise SystemExit
    return Run(Path(script).stem, given.quick, given.threads, given.out or (RESULTS / "quick" if given.quick else RESULTS))


def fresh(script: str, *arguments: Any) -> Any:
    """What a script measures of arguments (JSON-ready) in a process of its own, with as many threads as here; None where that did not finish."""
    command = [sys.executable, script, "--threads", str(torch.get_num_threads()), "--fresh", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ALLOCATOR, check=False)
    if done.returncode:
        print(f"no figure for {arguments}: it ended with {done.returncode}\n{done.stderr}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])
