"""The book: its links lead somewhere, its code runs, it names every public thing, and it builds without a warning."""

import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer.main

import hopfield_amem
from hopfield_amem.analysis.capacity import theorems
from hopfield_amem.cli import app

ROOT = Path(hopfield_amem.__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
ANALYSIS = ("capacity", "snr", "scaling", "memory_model", "icl", "memorization", "runs")
FLOORS = ("energies", "kernels", "descent", "layers", "analysis", *(f"analysis.{part}" for part in ANALYSIS), "distributed", "testing", "streamed")
SPOKEN_OF = [f"hopfield_amem.{floor}" for floor in FLOORS]
BUILDERS = ("mkdocs", "material", "mkdocstrings", "mkdocs_literate_nav")
HEADING = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)


def the_hooks():
    found = importlib.util.spec_from_file_location("book", DOCS / "book.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


book = the_hooks()


def named(page):
    """How a test of one page is called."""
    return page.relative_to(ROOT).as_posix()


def anchors(page):
    """What headings of a page are called in links: small letters, no punctuation, hyphens for spaces."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-") for heading in HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for link in book.links(page.read_text(encoding="utf-8")):
        path, heading = book.target(page, link)
        assert path.exists(), f"{link}: there is no {path.relative_to(ROOT)}"
        assert path.is_relative_to(ROOT)
        assert not heading or heading in anchors(path), f"{link}: {path.name} has the headings {sorted(anchors(path))}"


def given():
    """What blocks of code take for granted: patterns, queries, tokens."""
    patterns = torch.nn.functional.normalize(torch.randn(40, 8), dim=-1)
    return {
        "stored": patterns, "originals": patterns[:10], "damaged": patterns[:10] + 0.1, "sample": patterns[10:], "patterns": patterns,
        "q": patterns, "k": patterns, "v": patterns, "rate": torch.rand(40), "decay": torch.rand(40),
        "query": patterns[:10], "keys": patterns, "values": patterns, "labels": torch.eye(40), "energy": hopfield_amem.presets.log_sum_exp(4.0),
    }  # fmt: skip


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=named)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(theorems, "THEOREMS", list(theorems.THEOREMS))  # what a page registers is its own
    found = given()  # blocks of a page go on from each other
    for block in blocks(page):
        exec(compile(block, named(page), "exec"), found)


def test_lists_and_tables_stand_alone():
    """The Markdown of the site begins neither within a paragraph."""
    item = re.compile(r" *([-*+]|\d+\.) \S")
    for page in PAGES:
        lines = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8")).splitlines()
        for before, line in pairwise(lines):
            list_begins = item.match(line) and not line.startswith(" ") and not item.match(before) and not before.startswith(" ")
            table_begins = line.startswith("|") and not before.startswith("|")
            assert not before.strip() or not (list_begins or table_begins), f"{named(page)}: an empty line is missing before {line!r}"


def referred(package):
    """The names of a package that the reference shows: listed, taken with the whole package, or alone where a module of the same name hides them."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    shown = re.findall(r"^::: (\S+)\n((?: {4}.*\n)*)", text, re.MULTILINE)
    entries, module = [options for path, options in shown if path == package], importlib.import_module(package)
    names = {name for options in entries for name in re.findall(r"- (\w+)", options)}
    if any("members:" not in options for options in entries):
        names |= set(module.__all__)
    inner = [path for path, _ in shown if path.startswith(f"{package}.")]
    alone = {name for name in module.__all__ for path in inner if path.endswith(f".{name}") and pkgutil.resolve_name(path) is getattr(module, name)}
    hidden = {inner.name for inner in pkgutil.iter_modules(getattr(module, "__path__", []))}
    return names - hidden | alone


@pytest.mark.parametrize("package", SPOKEN_OF)
def test_the_reference_names_every_public_thing(package):
    module = importlib.import_module(package)
    modules = {name for name in module.__all__ if isinstance(getattr(module, name), ModuleType)}
    assert referred(package) - modules == set(module.__all__) - modules, "docs/api is what a reader finds: list there what __all__ has"


def test_the_reference_names_every_command_and_option():
    text = (DOCS / "api" / "cli.md").read_text(encoding="utf-8")

    def look(command, name):
        assert name in text
        for option in command.params:
            assert option.param_type_name != "option" or option.name == "help" or option.opts[-1] in text, f"{name} {option.opts}"
        for part, inner in getattr(command, "commands", {}).items():
            look(inner, f"{name} {part}")

    look(typer.main.get_command(app), "hopfield-amem")


def test_files_outside_of_the_docs_are_in_the_book():
    text = "[a](../examples/choosing.py) `[b](../README.md)` [c](guide.md#backends) [d](https://example.org)"
    moved = book.rewritten(text, DOCS / "choosing.md")
    assert moved == "[a](repository/examples/choosing.py.md) `[b](../README.md)` [c](guide.md#backends) [d](https://example.org)"
    assert book.rewritten("[a](docs/guide.md)", ROOT / "README.md") == "[a](guide.md)"
    assert book.rewritten("[a](../../README.md#the-table)", DOCS / "papers" / "index.md") == "[a](../index.md#the-table)"
    assert {ROOT / "examples", ROOT / "examples" / "choosing.py"} <= set(book.linked())


@pytest.mark.skipif(not all(map(importlib.util.find_spec, BUILDERS)), reason="needs the docs extra")
def test_the_book_builds_without_a_warning(tmp_path):
    silenced = os.environ | {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, env=silenced, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in tmp_path.rglob("*.html"):
        outside = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', page.read_text(encoding="utf-8"))
        assert not outside, f"{page.name} asks the network for {outside}"
