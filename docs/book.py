"""What the book adds to mkdocs: the README is its home, and every file of the repository that a page links to is in the book as well."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SHOWN = ("README.md", "CHANGELOG.md", "examples")  # in the book though no page links to them
CODE = re.compile(r"(?ms)^( *)(```+|~~~+).*?^\1\2[ \t]*$|``.+?``|`[^`\n]+`")
LINK = re.compile(r"(\]\()([^()\s]+)(\))")  # the end of a link: what it is called may be code
ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|/", re.IGNORECASE)
LANGUAGES = {".py": "python", ".toml": "toml", ".sh": "bash", ".cff": "yaml", "": "make"}


def links(text: str) -> Iterator[str]:
    """The relative links of a page, outside of its code."""
    for match in LINK.finditer(CODE.sub("", text)):
        if not ABSOLUTE.match(match[2]):
            yield match[2]


def target(page: Path, link: str) -> tuple[Path, str]:
    """The file a link of a page means, and the heading in it ("" for none)."""
    path, _, heading = link.partition("#")
    return (page.parent / path).resolve() if path else page, heading


def address(path: Path) -> str:
    """Where the book has a file of the repository: pages of docs/ at the top, all else in repository/."""
    if path == ROOT / "README.md":
        return "index.md"
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    name = f"repository/{path.relative_to(ROOT).as_posix()}"
    if path.is_dir():
        return f"{name}/index.md"
    return f"{name}.md" if path.suffix in LANGUAGES else name


def linked() -> list[Path]:
    """Every file outside of docs/ that the book shows: what its pages link to, what these link to, and so on."""
    waiting, found = [*DOCS.rglob("*.md"), *(ROOT / name for name in SHOWN)], []
    while waiting:
        path = waiting.pop()
        if path in found or not path.exists():
            continue
        found.append(path)
        if path.is_dir():
            waiting += sorted(path.glob("*.py"))
        elif path.suffix == ".md":
            waiting += [target(path, link)[0] for link in links(path.read_text(encoding="utf-8"))]
    return [path for path in found if path.is_relative_to(ROOT) and not path.is_relative_to(DOCS)]


def source(path: Path) -> str:
    """The page that shows a file of code, or lists a folder of it."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        rows = [f"| [`{file.name}`]({file.name}.md) | {summary(file)} |" for file in sorted(path.glob("*.py"))]
        return "\n".join([f"# {name}", "", "| file | |", "|---|---|", *rows])
    return f"# {name}\n\n``````{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}``````\n"


def summary(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0].replace("|", "\\|")


def rewritten(text: str, page: Path) -> str:
    """A page whose relative links lead to where the book has what they mean."""
    here = posixpath.dirname(address(page))

    def moved(match: re.Match[str]) -> str:
        if ABSOLUTE.match(match[2]) or match[2].startswith("#"):
            return match[0]
        path, heading = target(page, match[2])
        if not path.exists():
            return match[0]  # mkdocs says so
        return match[1] + posixpath.relpath(address(path), here or ".") + (f"#{heading}" if heading else "") + match[3]

    return outside_code(text, lambda part: LINK.sub(moved, part))


def outside_code(text: str, change: Callable[[str], str]) -> str:
    """A text changed everywhere but in its code."""
    pieces, end = [], 0
    for code in CODE.finditer(text):
        pieces += [change(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*pieces, change(text[end:])])


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks which files there are: those outside of docs/ join them."""
    from mkdocs.structure.files import File

    for path in linked():
        shown = {"abs_src_path": str(path)}
        if path.is_dir() or path.suffix in LANGUAGES or path.suffix == ".md":
            shown = {"content": path.read_text(encoding="utf-8") if path.suffix == ".md" else source(path)}
        files.append(File.generated(config, address(path), **shown))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs has read a page: its links are made to fit."""
    path = PAGES.get(page.file.src_uri, DOCS / page.file.src_uri)
    return rewritten(markdown, path) if path.suffix == ".md" else markdown


PAGES = {address(path): path for path in linked()}
