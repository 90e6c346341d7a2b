"""What is public stays as it is, unless somebody says so."""

from difflib import unified_diff

import api

HOW = "If this is meant: python tests/api.py --write, and a line in CHANGELOG.md; what becomes incompatible is in docs/stability.md.\n"


def test_the_public_names_and_signatures_are_those_of_api_txt():
    change = changes()
    assert not change, f"The public interface changed.\n{HOW}" + "\n".join(change)


def test_a_package_whose_library_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(api.NEEDS, ".integrations.huggingface", "no_such_library")
    assert api.missing() == [".integrations.huggingface"]
    assert not any("huggingface" in line for line in api.lines())
    assert not changes()


def test_of_an_exception_only_the_name_counts():
    assert api.described(ValueError) == api.described(UserWarning) == ": exception"


def changes():
    """Lines of the interface that came and went, of the packages that can be looked at here."""
    left_out = tuple(f"hopfield_amem{package}." for package in api.missing())
    kept = [line for line in api.FILE.read_text(encoding="utf-8").splitlines() if not line.startswith(left_out)]
    return [line for line in unified_diff(kept, api.lines(), "api.txt", "now", lineterm="", n=0) if not line.startswith(("@", "---", "+++"))]
