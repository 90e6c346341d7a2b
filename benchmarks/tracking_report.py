"""What the studies found: figures and one markdown page, from the JSON files of their runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import tracking_construction
import tracking_errors
import tracking_store
from matplotlib import pyplot
from results import where
from tracking_models import CELLS, Cell

from hopfield_amem import Memory
from hopfield_amem.energies import Ridge
from hopfield_amem.kernels.association.tokens import constant

COMMAND = "python benchmarks/state_tracking.py"
UNTRAINED = {"construct": tracking_construction, "errors": tracking_errors, "store": tracking_store}
CHOSEN = "One seed. Learning rate and embedding scale were chosen by hand on a few of the models (swaps: DeltaFormer, linear) and given to every one."
TITLES = {
    "construct": "Weights by hand: exchanges tracked without training",
    "errors": "Error of what is written, against float64 (512 tokens, 64 dimensions, Gaussian keys, rate 1; raw as in k·k/√d)",
    "store": "Random pairs written once and recalled, not trained: accuracy (numbers in the state)",
    "swaps": "The element at the first position after every exchange, one layer, trained",
    "depth": "The same task for deeper Transformers",
    "words": "The word problem of S₅, trained",
    "reachability": "Reachability in two random trees, trained",
    "recall": "Associative recall, trained",
}
PAPER = {  # NeurIPS 2025 version, swap task with n = 5, T = 16: what its text says; the numbers stand in its figure 3 alone
    "Transformer": "behind almost every one-layer DeltaFormer; more layers do not help",
    "DeltaFormer, linear": "one suitable κ₁ reaches 100 %",
    "DeltaFormer, round": "one suitable κ₁ reaches 100 %",
    "DeltaFormer, softmax": "the normaliser hurts",
}
MARKERS = "os^vDP*X<>"


def accuracy_figure(records: list[dict], path: Path) -> Path:
    """Accuracy against the number of elements, a line per model; over all positions, and at the last one."""
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for axes, what, title in zip(panels, ("accuracy", "last"), ("all positions", "last position"), strict=True):
        for marker, (cell, rows) in zip(MARKERS, _grouped(records, lambda record: record["cell"]).items(), strict=False):
            points = sorted((row["task"]["elements"], row[what]) for row in rows)
            axes.plot(*zip(*points, strict=True), marker=marker, label=cell, alpha=0.8)
        elements = sorted({record["task"]["elements"] for record in records})
        axes.plot(elements, [1 / n for n in elements], "k:", label="guessing")
        axes.set(title=title, xlabel="elements n", xscale="log", ylim=(0, 1.03))
        axes.set_xticks(elements, [str(n) for n in elements], minor=False)
        axes.minorticks_off()
        axes.grid(True, alpha=0.25)
    panels[0].set_ylabel("accuracy")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    figure.suptitle("Which element stands first after each exchange: one layer, equal sizes")
    return _saved(figure, path)


def recall_figure(records: list[dict], path: Path) -> Path:
    """Accuracy of trained recall against the numbers that a head remembers, a panel per number of pairs."""
    groups = _grouped(records, lambda record: record["task"]["pairs"])
    figure, panels = pyplot.subplots(1, len(groups), figsize=(4.2 * len(groups), 4.2), layout="constrained", sharey=True, squeeze=False)
    for axes, (pairs, rows) in zip(panels[0], sorted(groups.items()), strict=True):
        for marker, (cell, runs) in zip(MARKERS, _grouped(rows, lambda record: record["cell"]).items(), strict=False):
            points = sorted((state_size(CELLS[cell], run["shape"]["dim"], 3 * pairs), run["accuracy"]) for run in runs)
            axes.plot(*zip(*points, strict=True), marker=marker, label=cell, alpha=0.8)
        axes.set(title=f"{pairs} pairs", xlabel="numbers in the state", xscale="log", ylim=(0, 1.03))
        axes.grid(True, alpha=0.25)
    panels[0][0].set_ylabel("accuracy, trained")
    figure.legend(*panels[0][-1].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return _saved(figure, path)


def state_size(cell: Cell, width: int, tokens: int) -> int:
    """How many numbers a head of keys and values of this width remembers after so many tokens."""
    memory = cell.memory(width)
    memory = memory if isinstance(memory, Memory) else Memory(memory)
    if not constant(memory):
        return 2 * tokens * width
    return width * width * (2 if isinstance(memory.write, Ridge) else 1)


def figures(trained: dict[str, list[dict]], untrained: dict[str, dict], folder: Path) -> None:
    """All figures that can be drawn."""
    for name, records in trained.items():
        if draw := {"swaps": accuracy_figure, "recall": recall_figure}.get(name.removesuffix("-cuda")):
            draw(records, folder / f"{name}.png")
    for name, result in untrained.items():
        if hasattr(UNTRAINED[name], "figure"):
            UNTRAINED[name].figure(result["rows"], folder / f"{name}.png")


def page(trained: dict[str, list[dict]], untrained: dict[str, dict]) -> str:
    """The markdown page of everything that has been run."""
    parts = ["# State tracking and recall\n"]
    for name, result in untrained.items():
        parts.append(f"## {TITLES[name]}\n\n{UNTRAINED[name].table(result['rows'])}\n\n`{COMMAND} {name}`. {where(result['environment'])}\n")
    for name, records in trained.items():
        seconds = sum(record["seconds"] for record in records)
        taken = f"`{COMMAND} {name}`: {len(records)} runs, {seconds:.0f} core seconds. {where(records[0]['environment'])} {CHOSEN}"
        parts.append(f"## {TITLES.get(name, name)}\n\n{_table(name, records)}\n\n{taken}\n")
    return "\n".join(parts)


def _table(study: str, records: list[dict]) -> str:
    rows = ["| task | model | layers | parameters | accuracy: all / last position | at twice the length | steps | seconds | paper |", "|---" * 9 + "|"]
    for run in sorted(records, key=lambda run: (*run["task"].values(), run["shape"]["dim"], run["shape"]["layers"], run["shape"]["erase"], run["cell"])):
        task = " ".join(str(value) for value in run["task"].values()) + f", T = {run['recipe']['lengths'][-1]}"
        paper = PAPER.get(run["cell"], "–") if study in ("swaps", "depth") and run["task"].get("elements") == 5 else "–"
        model = run["cell"] + (", own erase keys" if run["shape"]["erase"] else "")
        longer = run["task"]["name"] in ("Swaps", "Words")
        doubled = f"{run['accuracy, twice as long']:.4f} / {run['last, twice as long']:.4f}" if longer else "–"
        found = f"{run['accuracy']:.4f} / {run['last']:.4f}"
        rows.append(
            f"| {task} | {model} | {run['shape']['layers']} | {run['parameters']:,} | {found} | {doubled} | {run['steps']} | {run['seconds']:.0f} | {paper} |"
        )
    return "\n".join(rows)


def _grouped(records: list[dict], key: Callable[[dict], object]) -> dict:
    groups: dict = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _saved(figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path
