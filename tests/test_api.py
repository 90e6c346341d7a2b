"""What is public stays as it is, unless somebody says so."""

from difflib import unified_diff

from api import FILE, lines

HOW = "If this is meant: python tests/api.py --write, and a line in CHANGELOG.md; what becomes incompatible is in docs/stability.md.\n"


def test_the_public_names_and_signatures_are_those_of_api_txt():
    kept = FILE.read_text(encoding="utf-8").splitlines()
    change = [line for line in unified_diff(kept, lines(), "api.txt", "now", lineterm="", n=0) if not line.startswith(("@", "---", "+++"))]
    assert not change, f"The public interface changed.\n{HOW}" + "\n".join(change)
