"""What the reproductions of papers share: claims beside what is found here, a figure, and where it was measured.

python examples/papers/<paper>.py           small, some seconds: that it runs
python examples/papers/<paper>.py --full    what docs/papers/<paper>.md shows; finished runs are kept, so that it goes on where it stopped
python examples/papers/reproduction.py      the table of all papers, docs/papers/index.md, anew
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from hopfield_amem.analysis.plots import save
from hopfield_amem.analysis.result import plain, write
from hopfield_amem.analysis.runs.environment import environment

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "papers"
BEGIN, END = "<!-- results: written by the script -->", "<!-- end of results -->"
VERDICTS = ("reproduces", "in part", "does not reproduce", "not tested")
Verdict = Literal["reproduces", "in part", "does not reproduce", "not tested"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Scale:
    """How large a reproduction is asked to be, and where its finished runs are kept (``analysis.take(..., folder=scale.runs)``)."""

    full: bool
    runs: Path | None = None

    def pick(self, small: Value, full: Value) -> Value:
        """One of two sizes."""
        return full if self.full else small


@dataclass(frozen=True)
class Claim:
    """What a paper says, and what is found here.

    Attributes:
        what: in a few words, with its place: "recall exponent of q = p (Table 1)".
        paper: its number or statement.
        ours: the number found, with its interval where there is one.
        verdict: "reproduces", "in part", "does not reproduce" or "not tested"; computed from the number where that is possible.
        own: not a claim of the paper, but derived here or taken from elsewhere: shown as such, and not counted.
    """

    what: str
    paper: str
    ours: str
    verdict: Verdict
    own: bool = False


@dataclass(frozen=True)
class Paper:
    """Who says it, and what the full preset costs."""

    title: str
    arxiv: str
    cost: str  # of --full, for example "4 minutes on 2 cores"


@dataclass(frozen=True)
class Reproduction:
    """Claims, a figure, and the numbers behind it (JSON)."""

    claims: tuple[Claim, ...]
    figure: Figure
    numbers: dict[str, Any] = field(default_factory=dict)


class Seeds(NamedTuple):
    """What several seeds found: the mean, the lowest, the highest. Prints as such."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, runs: Sequence[dict[str, Any]], what: str) -> Seeds:
        """Of one number of every run."""
        numbers = [run[what] for run in runs]
        return cls(sum(numbers) / len(numbers), min(numbers), max(numbers))

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def captioned(*panels: tuple[Axes, str, str, str]) -> None:
    """Panels with what they show, what is across, what is up, and a legend."""
    for place, title, across, up in panels:
        place.set(title=title, xlabel=across, ylabel=up)
        place.legend(fontsize=8, frameon=False)


def judged(holds: bool, partly: bool = False) -> Verdict:
    """The verdict on a claim that was measured."""
    return "reproduces" if holds else "in part" if partly else "does not reproduce"


def reproduce(script: str, paper: Paper, work: Callable[[Scale], Reproduction]) -> None:
    """Do what the command line asks for: ``work(scale)``, its table on the screen, its files in a folder; in full, the paper's page and the index, too."""
    parser = argparse.ArgumentParser(description=paper.title, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help=f"the sizes of the page: {paper.cost}")
    parser.add_argument("--out", type=Path, help="folder of the results; without it small ones go to out/papers, full ones to docs/papers")
    given = parser.parse_args()
    name = Path(script).stem
    runs = ROOT / "out" / "papers" / name / "runs" if given.full else None
    found = work(Scale(given.full, runs))
    record = _record(name, paper, found, given.full, work)
    Console().print(_table(record))
    folder = given.out or (PAGES / "results" if given.full else ROOT / "out" / "papers")
    for path in (_json(folder / f"{name}.json", record), save(found.figure, folder / f"{name}.png")):
        print(f"written: {path}")
    if given.full and given.out is None:
        for path in (_page(PAGES / f"{name}.md", record), index()):
            print(f"written: {path}")


def rendered(record: dict[str, Any]) -> str:
    """The part of a paper's page that its script writes."""
    where = record["environment"]
    rows = [f"| {claim['what']} | {claim['paper']} | {claim['ours']} | {claim['verdict']}{' (not the paper’s)' * claim['own']} |" for claim in record["claims"]]
    lines = [
        BEGIN, "", f"![{record['paper']['title']}](results/{record['name']}.png)", "", "| claim | the paper | here | verdict |", "|---|---|---|---|", *rows, "",
        f"`{record['command']}`: {record['paper']['cost']}. Run on {where['device']}; "
        f"python {where['python']}, torch {where['torch']}, hopfield_amem {where['hopfield_amem']}; {where['finished'][:10]}. "
        f"[Numbers](results/{record['name']}.json).", "", END,
    ]  # fmt: skip
    return "\n".join(lines)


def indexed() -> str:
    """The table of all papers: how many claims of each have which verdict."""
    rows = []
    for record in sorted(map(_read, (PAGES / "results").glob("*.json")), key=lambda record: record["paper"]["title"]):
        verdicts = Counter(claim["verdict"] for claim in record["claims"] if not claim["own"])
        paper = f"[{record['paper']['title']}]({record['name']}.md), [{record['paper']['arxiv']}](https://arxiv.org/abs/{record['paper']['arxiv']})"
        rows.append(" | ".join([f"| {paper}", *(str(verdicts[verdict] or "") for verdict in VERDICTS), f"{record['paper']['cost']} |"]))
    return "\n".join([BEGIN, "", "| paper | " + " | ".join(VERDICTS) + " | in full |", "|---|" + "---:|" * len(VERDICTS) + "---|", *rows, "", END])


def index() -> Path:
    """Write the table of all papers anew."""
    return _between(PAGES / "index.md", indexed())


def _record(name: str, paper: Paper, found: Reproduction, full: bool, work: Any) -> dict[str, Any]:
    command = f"python examples/papers/{name}.py" + " --full" * full
    where = {part: entry for part, entry in environment(work).items() if part != "machine"}
    without = lambda entry: {part: value for part, value in entry.items() if part != "environment"}  # of single runs: the one above stands for all
    numbers = json.loads(json.dumps(plain(found.numbers)), object_hook=without)
    return {
        "name": name, "paper": asdict(paper), "command": command, "full": full, "environment": where,
        "claims": [asdict(claim) for claim in found.claims], "numbers": numbers,
    }  # fmt: skip


def _table(record: dict[str, Any]) -> Table:
    table = Table(*("claim", "the paper", "here", "verdict"), title=f"{record['paper']['title']} (arXiv {record['paper']['arxiv']})")
    for claim in record["claims"]:
        table.add_row(*(claim[part] for part in ("what", "paper", "ours", "verdict")))
    return table


def _json(path: Path, record: dict[str, Any]) -> Path:
    return write(path, json.dumps(record, ensure_ascii=False) + "\n")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _page(path: Path, record: dict[str, Any]) -> Path:
    if not path.exists():
        write(path, f"# {record['paper']['title']}\n\n{BEGIN}\n{END}\n")
    return _between(path, rendered(record))


def _between(path: Path, block: str) -> Path:
    """Replace what stands between the marks of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    return write(path, before + block + rest.partition(END)[2])


if __name__ == "__main__":
    print(f"written: {index()}")
