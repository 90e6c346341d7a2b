"""Resources of the generated kernels, compiled ahead of time: no GPU takes part.

python benchmarks/kernels.py              every preset and linear memory, forward and backward, at widths 64 and 128, in the default configurations
python benchmarks/kernels.py --subset     a few of them
python benchmarks/kernels.py --variants   widths 16 to 256, float32, gates, tied values, Σ p, similarities that no preset uses
python benchmarks/kernels.py --search     try tiles for every key of the table in hopfield_amem/kernels/triton/configs.py; prints its rows

Exits with 1 when a default configuration spills registers or exceeds shared memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Annotated, Any

import torch
import typer
from kernel_cases import LINEAR, OTHERS, SUBSET, VARIANTS, WRITTEN, WRITTEN_VARIANTS
from rich.console import Console
from rich.table import Table

from hopfield_amem import ENERGIES
from hopfield_amem.kernels.triton.configs import Serves, Tile
from hopfield_amem.kernels.triton.linear_recording import linear_launches, linear_operands
from hopfield_amem.kernels.triton.recording import Launch, launches, operands, retiled, written_launches
from hopfield_amem.kernels.triton.resources import SHARED, Resources, compile_launch

TRIED: tuple[dict[str, dict[str, Any]], ...] = (  # the reads that tiles are tried with: light, laden, heavy
    {"entmax": {}, "log_sum_exp": {}, "sparsemax": {}},
    {"epanechnikov": {}, "distance": {}, "gelu_feed_forward": {}, "silu_feed_forward": {}},
    {"log_distance": {}, "cosine": {}, "log_sum_exp": dict(dropout=True), "entmax": dict(presence="soft per query")},
)
TILES: dict[tuple[str, int], tuple[tuple[int, ...], ...]] = {  # (role, bytes of an element) -> queries, slots, warps, stages; the preferred first
    ("forward", 2): ((128, 128, 8, 3), (128, 128, 8, 2), (128, 64, 8, 3), (128, 64, 8, 2), (64, 64, 4, 2), (128, 32, 8, 2), (32, 32, 4, 2), (16, 32, 4, 2)),
    ("queries", 2): ((128, 64, 8, 2), (128, 64, 8, 3), (128, 32, 8, 2), (64, 32, 4, 2), (32, 32, 4, 2), (16, 32, 4, 2), (16, 16, 4, 1)),
    ("slots", 2): ((128, 64, 8, 2), (128, 64, 8, 3), (128, 32, 8, 2), (64, 32, 4, 2), (32, 32, 4, 2), (16, 32, 4, 2), (16, 16, 4, 1)),
    ("forward", 4): ((128, 64, 8, 2), (64, 64, 4, 2), (64, 32, 4, 2), (32, 32, 4, 2), (16, 32, 4, 2), (16, 16, 4, 1)),
    ("queries", 4): ((64, 64, 4, 2), (64, 32, 4, 2), (32, 32, 4, 2), (16, 32, 4, 2), (16, 16, 4, 1)),
    ("slots", 4): ((64, 32, 4, 2), (32, 32, 4, 2), (16, 32, 4, 2), (16, 16, 4, 1), (16, 16, 8, 1)),
}
SURVIVORS = 2  # tiles kept of every key and kind of energy
ROLES = ("forward", "queries", "slots")
Arch = StrEnum("Arch", {f"sm{arch}": str(arch) for arch in SHARED})
Type = StrEnum("Type", ["bfloat16", "float16", "float32"])
Row = tuple[str, str, Resources | str]


def main(
    subset: Annotated[bool, typer.Option("--subset", help="A few presets only.")] = False,
    variants: Annotated[bool, typer.Option("--variants", help="Other widths, types, gates and similarities.")] = False,
    search: Annotated[bool, typer.Option("--search", help="Try tiles for the table of configurations.")] = False,
    arch: Annotated[Arch, typer.Option(help="Compute capability.")] = Arch.sm90,
    dtype: Annotated[Type, typer.Option(help="Type of states, keys and values.")] = Type.bfloat16,
) -> None:
    """Compile the kernels of the presets and print what they need of a GPU."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    if search:
        _search(console)
        return
    number, single = int(arch), getattr(torch, dtype)
    rows = _variants(number) if variants else _presets(number, single, SUBSET if subset else tuple(ENERGIES))
    found = list(_shown(rows, console))
    console.print(_table(found, f"sm_{arch}, {'variants' if variants else dtype}, shared memory up to {SHARED[number] // 1024} KiB"))
    failed = [f"{name} {what}" for name, what, each in found if isinstance(each, str) or not each.clean]
    if failed:
        console.print(f"not clean: {'; '.join(failed)}", style="bold red")
        raise typer.Exit(1)


def _presets(arch: int, dtype: torch.dtype, names: tuple[str, ...]) -> Iterator[Row]:
    for width in (64, 128):
        yield from _compiled({name: dict(width=width, dtype=dtype) for name in names}, arch)
        yield from _written(tuple(name for name in WRITTEN if name in names), f"written, d = {width}", arch, width=width, dtype=dtype)
        yield from _linear(tuple(LINEAR), width, dtype, arch)


def _variants(arch: int) -> Iterator[Row]:
    for width in (64, 128):
        yield from _compiled({name: dict(width=width) for name in OTHERS}, arch)
    for what, given in VARIANTS.items():
        yield from _compiled({name: given for name in ("log_sum_exp", "epanechnikov", "entmax", "gelu_feed_forward")}, arch, what)
    for what, given in WRITTEN_VARIANTS.items():
        yield from _written(("log_sum_exp", "relu_feed_forward"), what, arch, **given)
    for width, dtype in ((256, torch.bfloat16), (64, torch.float32), (128, torch.float32), (256, torch.float32)):
        yield from _linear(("gated delta rule", "Kimi delta attention"), width, dtype, arch)


def _written(names: tuple[str, ...], what: str, arch: int, **given: Any) -> Iterator[Row]:
    """The solves of written memories; with decay, the reads behind their gradients too."""
    made = ((name, what, each) for name in names for each in written_launches(ENERGIES[name], arch, **given))
    yield from _grouped((row for row in made if "decay" in given or row[2].role in ("solve", "transposed")), arch)


def _linear(names: tuple[str, ...], width: int, dtype: torch.dtype, arch: int) -> Iterator[Row]:
    for name in names:
        made = linear_launches(linear_operands(width, dtype=dtype, **LINEAR[name]), arch)
        for each in {each.source: each for each in made}.values():
            yield name, f"d = {width}" + (", float32" if dtype == torch.float32 else ""), _attempt(each, arch)


def _compiled(reads: dict[str, dict[str, Any]], arch: int, what: str = "") -> Iterator[Row]:
    """The kernels of reads, each code once: energies that give the same code share a row."""

    def made() -> Iterator[tuple[str, str, Launch]]:
        for name, given in reads.items():
            wants = {key: given[key] for key in ("value", "mass") if key in given}
            read = operands({**ENERGIES, **OTHERS}[name], **{key: given[key] for key in given if key not in wants})
            for each in launches(read, arch, **wants):
                yield name, what or f"d = {read.width}", each

    yield from _grouped(made(), arch)


def _grouped(made: Iterator[tuple[str, str, Launch]], arch: int) -> Iterator[Row]:
    groups: dict[tuple, tuple[list[str], str, Launch]] = {}
    for name, described, each in made:
        groups.setdefault(each.source, ([], described, each))[0].append(name)
    for names, described, each in groups.values():
        yield ", ".join(dict.fromkeys(names)), described, _attempt(each, arch)


def _attempt(each: Launch, arch: int) -> Resources | str:
    try:
        return compile_launch(each, arch)
    except Exception as error:  # whatever the compiler raises is a result here
        return f"{each.name}: {type(error).__name__} {str(error).splitlines()[-1] if str(error) else ''}"


def _shown(rows: Iterator[Row], console: Console) -> Iterator[Row]:
    with console.status("compiling …") as status:
        for row in rows:
            status.update(f"compiled {row[0]}, {row[1]} …")
            yield row


def _table(rows: list[Row], title: str) -> Table:
    table = Table("energy", "read", "kernel", "tile", "warps", "stages", "registers", "spills", "shared KiB", "tensor cores", "async", title=title)
    for name, what, each in rows:
        if isinstance(each, str):
            table.add_row(name, what, each, style="red")
            continue
        shape = each.config.shape
        numbers = (each.config.warps, each.config.stages, each.registers, each.spills, -(-each.shared // 1024))
        products = f"{each.products} {'HGMMA' if each.grouped == each.products else 'HMMA' if not each.grouped else 'mixed'}"
        table.add_row(
            name, what, each.name, f"{shape.queries}×{shape.slots}", *map(str, numbers), products, str(each.copies), style=None if each.clean else "red"
        )
    return table


def _search(console: Console) -> None:
    """Rows for the table: the first tiles of every key that serve each kind of energy."""
    for size, dtype in ((2, torch.bfloat16), (4, torch.float32)):
        for width in (64, 128, 256):
            for role in ROLES:
                tiles = _survivors(role, width, dtype, TILES[role, size])
                text = ", ".join(f"Tile({', '.join(map(str, tile[:4]))}, {_flags(tile.serves)})" for tile in tiles)
                console.print(f'    ("{role}", {size}, {width}): ({text},),', soft_wrap=True, highlight=False, markup=False)


def _survivors(role: str, width: int, dtype: torch.dtype, tried: tuple[tuple[int, ...], ...]) -> list[Tile]:
    kept: dict[tuple[int, ...], Serves] = {}
    for number, serves in enumerate(Serves):
        older, degree = divmod(number, len(TRIED))
        arch = 80 if older else 90
        reads = [operands({**ENERGIES, **OTHERS}[name], width, dtype=dtype, **given) for name, given in TRIED[degree].items()]
        made = [(each, read) for read in reads for each in launches(read, arch) if each.role == role or (role == "forward" and each.role == "threshold")]
        clean: Callable[[tuple[int, ...]], bool] = lambda tile, made=made, arch=arch: all(_clean(retiled(each, Tile(*tile), read), arch) for each, read in made)
        for tile in _first(SURVIVORS, (tile for tile in tried if clean(tile))):
            kept[tile] = kept.get(tile, Serves(0)) | serves
    return [Tile(*tile, serves=kept[tile]) for tile in tried if tile in kept]


def _first(count: int, items: Iterator[Any]) -> Iterator[Any]:
    return (item for _, item in zip(range(count), items, strict=False))


def _clean(each: Launch, arch: int) -> bool:
    found = _attempt(each, arch)
    return not isinstance(found, str) and found.clean


def _flags(serves: Serves) -> str:
    return " | ".join(short for short, flag in zip(("L", "M", "H", "OL", "OM", "OH"), Serves, strict=True) if flag in serves)


if __name__ == "__main__":
    typer.run(main)
