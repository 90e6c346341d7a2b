"""The house: imports point down, heavy libraries stay at the edge."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import hopfield_amem

HOUSE = Path(hopfield_amem.__file__).parent
FLOORS = ["energies", "kernels", "descent", "layers", "distributed", "analysis", "integrations"]  # each may import those before it
EDGES = {
    "triton": {"kernels/triton"},
    "torchdiffeq": {"descent/flow.py"},
    "transformers": {"integrations"},
    "matplotlib": {"analysis/plots"},
    "sklearn": {"analysis/detection.py", "analysis/digits.py", "layers/classifier.py", "layers/detector.py", "layers/quantised_memory.py"},
    "typer": {"cli"},
    "jinja2": {"analysis/memorization/reporting/page.py"},
    "safetensors": {"storage.py"},
    "faiss": {"layers/preselected_memory.py"},
}
UPWARD = {"layers/pattern_memory.py": ("hopfield_amem.analysis.capacity.", "hopfield_amem.storage.")}  # what a file may import from above when it is called


@functools.cache
def imports(path):
    """(module, whether it runs on import) of every import in a file, made absolute."""
    found = []
    tree = ast.parse(path.read_text())
    top = set(map(id, tree.body))
    package = ["hopfield_amem", *path.relative_to(HOUSE).parent.parts]
    typed = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in typed:  # names of types, which nothing loads
            continue
        if isinstance(node, ast.Import):
            found.extend((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.append((module, id(node) in top))
            found.extend((f"{module}.{alias.name}", id(node) in top) for alias in node.names)
    return found


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_imports_point_down(floor):
    above = tuple(f"hopfield_amem.{name}" for name in [*FLOORS[floor + 1 :], "demo", "cli", "testing", "storage", "streamed"])
    for path in (HOUSE / FLOORS[floor]).rglob("*.py"):
        name = str(path.relative_to(HOUSE))
        found = [(f"{m}.", top) for m, top in imports(path) if f"{m}.".startswith(tuple(f"{a}." for a in above))]
        wrong = [m for m, top in found if top or not m.startswith(UPWARD.get(name, ()))]
        assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("library", EDGES)
def test_heavy_libraries_stay_at_the_edge(library):
    for path in HOUSE.rglob("*.py"):
        name = str(path.relative_to(HOUSE))
        if not any(name.startswith(edge) for edge in EDGES[library]):
            assert not [m for m, _ in imports(path) if m.split(".")[0] == library], f"{name} imports {library}"


def test_the_package_imports_nothing_heavy():
    code = "import sys, hopfield_amem, hopfield_amem.descent, hopfield_amem.layers, hopfield_amem.analysis; print(' '.join(sys.modules))"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    torch_alone = set(
        subprocess.run([sys.executable, "-c", "import sys, torch; print(' '.join(sys.modules))"], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not {"triton", "transformers", "matplotlib", "torchdiffeq", "sklearn", "scipy", "typer", "rich"} & (loaded - torch_alone)


def test_it_runs_without_triton():
    code = "import sys; sys.modules['triton'] = None\n"
    code += "import torch, hopfield_amem as h\nprint(h.retrieve(h.presets.entmax(), torch.ones(1, 3), torch.ones(2, 3)).round(decimals=5).tolist())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[[1.0, 1.0, 1.0]]\n"


def test_every_public_name_exists():
    for package in ("", ".energies", ".kernels", ".descent", ".layers", ".analysis"):
        module = __import__(f"hopfield_amem{package}", fromlist=["__all__"])
        assert all(hasattr(module, name) for name in module.__all__)
