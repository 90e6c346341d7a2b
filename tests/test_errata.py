"""Every erratum says what is printed and what holds, derives it in three lines, and has a check that runs alone."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "errata.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^###? (.+?)\n(.*?)(?=^###? |\Z)", PAGE, re.MULTILINE | re.DOTALL))
ERRATA = [title for title in SECTIONS if title not in ("Notes", "Behaviour of peers")]
CHECK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("title", ERRATA)
def test_the_check_of_an_erratum_holds(title):
    (code,) = CHECK.findall(SECTIONS[title])
    exec(compile(code, f"docs/errata.md: {title}", "exec"), {})


@pytest.mark.parametrize("title", ERRATA)
def test_an_erratum_has_its_reasons_and_a_check_that_can_fail(title):
    text = SECTIONS[title]
    assert [int(number) for number in re.findall(r"^(\d)\. ", text, re.MULTILINE)] == [1, 2, 3]
    assert "assert" in CHECK.findall(text)[0]
    assert ("**Printed" in text and "**What" in text) or "No error" in text  # an erratum or a note


def test_tests_that_the_page_names_are_there():
    for name, test in re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", PAGE):
        source = Path(__file__).with_name(name).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source
