"""Every energy as a row of a table, from what it says of itself: ``hopfield-amem energies --markdown`` writes docs/energies.md."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, fields

from .. import energies
from ..energies import ENERGIES, Dot, Hypercube, Log, Power, ReadEnergy, RectifiedPower, Simplex, Sum, TopK, Tsallis, presets
from ..energies.scalings.scaling import has_null_slot, is_exponential
from ..kernels.explain import backends

CLASSES = ("Network", "Layered", "Couplings", "Bidirectional", "Border", "OneSided", "GraphMemory", "DistributedEnergy", "Continuous")
SIMILARITIES = (
    "Dot", "Cosine", "Euclidean", "Manhattan", "NormalisedDot", "KullbackLeibler", "ReverseKullbackLeibler", "JensenShannon", "Inverse", "Mapped", "Simplicial",
)  # fmt: skip
PAGE = """# Energies

Written by `hopfield-amem energies --markdown > docs/energies.md` from what the energies say of themselves.

## Reads: one state among patterns

s is the score `β S(x, ξ)` plus what biases it, F(s) the term under the sum; weights are `p = ∂Q/∂s`. The capacity class says how many random patterns of
dimension d a memory of this kind holds, and beside it who proves or argues so; a blank says that this library knows no such statement. `triton` means that
a kernel is generated, on the machine of whoever asks for it. Those in bold are in `ENERGIES`, on which every test of backends, layers and laws runs.

{reads}

## Similarities

What a read energy compares by, `ReadEnergy(similarity, separation, scaling, confinement, beta)`; the confinement is what holds the state unless another is
given, x̂ and ξ̂ are normalised to sum to one, and Φ is any function or module. Presets are `kullback_leibler`, …, and `learned_kernel(Φ)`.

{similarities}

## Energies of other kinds

Everything that descends, `E(state, memories)` or of the states of a network. Weights, capacity and confinement are those of the reads, neurons and couplings
that they are made of; they are evaluated in torch, without kernels of their own.

{classes}
"""


@dataclass(frozen=True)
class Row:
    """What the table says of one read energy."""

    preset: str
    energy: str
    weights: str
    capacity: str  # how it grows, and who says so
    confinement: str
    backends: str
    reference: str


def catalogue() -> list[Row]:
    """A row per preset, in their order, at the β of ``ENERGIES`` or its default."""
    return [_row(name, ENERGIES.get(name) or make()) for name, make in _makers().items()]


def _makers() -> dict:
    """The functions in ``presets`` that need no argument to make a read energy."""
    found = {}
    for name, make in inspect.getmembers(presets, inspect.isfunction):
        signature = inspect.signature(make)
        if signature.return_annotation == "ReadEnergy" and all(p.default is not p.empty for p in signature.parameters.values()):
            found[name] = make
    order = list(ENERGIES)
    return dict(sorted(found.items(), key=lambda item: (order.index(item[0]) if item[0] in order else len(order), item[0])))


def _row(name: str, energy: ReadEnergy) -> Row:
    confinement = type(energy.confinement).__name__
    weights, growth, source = energy.scaling.weights_formula, capacity_class(energy), capacity_source(energy)
    capacity = f"{growth}: {linked(source)}" if growth else ""
    return Row(name, str(energy), weights, capacity, confinement, ", ".join(backends(energy)), reference(name))


def capacity_class(energy: ReadEnergy) -> str:
    """How the number of random patterns grows with their dimension d; empty where no statement is known. ``capacity_source`` says from where."""
    separation = energy.separation
    if not capacity_source(energy):
        return ""
    if isinstance(separation, (Power, RectifiedPower)):
        return f"polynomial, d^{separation.degree - 1}" if separation.degree > 2 else "linear, d"
    return "exponential"


def capacity_source(energy: ReadEnergy) -> str:
    """From where the capacity class is known; empty where it is not.

    It need not be where the energy is from: a distance, a cosine and the hard maximum take theirs from log-sum-exp, whose weights they share among patterns
    of one length (at β → ∞ for the hard maximum), on which its theorem stands.
    """
    separation, scaling = energy.separation, energy.scaling
    inner = scaling.within if isinstance(scaling, TopK) else scaling
    if isinstance(energy.confinement, Hypercube):
        return _of_bits(energy)
    if not energy.similarity.inner:
        return ""
    if isinstance(separation, Tsallis) and separation.alpha > 1 and inner == Simplex():
        return "Hu et al. 2023, arXiv 2309.12673" if separation.alpha == 2 else "Santos et al. 2024, arXiv 2411.08590"
    if not is_exponential(separation) or not isinstance(inner, (Log, Simplex)):
        return ""
    if has_null_slot(inner):
        return "Hu et al. 2024, arXiv 2404.03828"
    theorem = "Ramsauer et al. 2020, arXiv 2008.02217, Theorem 3"
    if isinstance(scaling, TopK):
        return f"{theorem}, as β → ∞" if scaling.count == 1 else "Hu et al. 2024, arXiv 2404.03900, for sparse-structured models"
    return theorem if isinstance(energy.similarity, Dot) else f"{theorem}, whose weights these are among patterns of one length"


def _of_bits(energy: ReadEnergy) -> str:
    """From where the class of an energy on the hypercube is known."""
    if not isinstance(energy.similarity, Dot):
        return ""
    if isinstance(energy.separation, (Power, RectifiedPower)) and isinstance(energy.scaling, Sum):
        return "Hopfield 1982, measured; Amit et al. 1987" if energy.separation.degree <= 2 else "Krotov & Hopfield 2016, arXiv 1606.01164"
    softmax = is_exponential(energy.separation) and isinstance(energy.scaling, (Log, Sum))
    return "Demircigil et al. 2017, arXiv 1702.01929" if softmax else ""


def reference(name: str) -> str:
    """Where a preset comes from: what its docstring cites in brackets."""
    return cited(getattr(presets, name).__doc__ or "")


def cited(text: str) -> str:
    """The references in brackets of a docstring, arXiv numbers as links."""
    found = [part for part in re.findall(r"\(([^()]*)\)", " ".join(text.split())) if re.search(r"\b(1[89]|20)\d\d\b", part)]
    return linked("; ".join(found))


def linked(source: str) -> str:
    """A reference with its arXiv numbers as links."""
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[\1](https://arxiv.org/abs/\1)", source)


def page() -> str:
    """docs/energies.md."""
    reads = [tuple(field.name for field in fields(Row))]
    for row in catalogue():
        name = f"**`{row.preset}`**" if row.preset in ENERGIES else f"`{row.preset}`"
        reads.append((name, f"`{row.energy}`", f"`{row.weights}`", row.capacity, row.confinement, row.backends, row.reference))
    similarities = [("similarity", "S(x, ξ)", "confinement", "reference"), *map(_of_similarity, SIMILARITIES)]
    classes = [("class", "energy", "reference"), *map(_of_class, CLASSES)]
    return PAGE.format(reads=_table(reads), similarities=_table(similarities), classes=_table(classes))


def _of_class(name: str) -> tuple[str, str, str]:
    text = inspect.getdoc(getattr(energies, name)) or ""
    equation, *_ = re.findall(r"``(.*?)``", text)
    return f"`{name}`", f"`{equation}`", cited(text.split("\n\nArgs:")[0])


def _of_similarity(name: str) -> tuple[str, str, str, str]:
    kind = getattr(energies, name)
    text, confinement = inspect.getdoc(kind) or "", kind.confinement
    equation, *_ = re.findall(r"``(.*?)``", text)
    held = "that of S" if isinstance(confinement, property) else type(confinement).__name__
    return f"`{name}`", f"`{equation}`", held, cited(text.split("\n\nArgs:")[0])


def _table(rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
