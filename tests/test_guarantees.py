"""Every test that docs/guarantees.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "guarantees.md"
PROMISES = re.split(r"\n(?=\* |\n)", PAGE.read_text("utf-8"))
NAMED = [one for one in PROMISES if re.search(r"`[\w/]*test_\w+(\.py)?`", one)]


EVERYTHING = "".join(file.read_text("utf-8") for file in TESTS.rglob("test_*.py"))


def test_promises_are_shown() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize("promise", NAMED, ids=lambda one: one.strip()[:40])
def test_what_shows_a_promise_is_there(promise: str) -> None:
    files = [_found(name.removeprefix("tests/")) for name in re.findall(r"`([\w/]+\.py)`", promise)]
    code = "".join(file.read_text("utf-8") for file in files) or EVERYTHING
    for name in re.findall(r"`(test_\w+)`", promise):
        assert re.search(rf"^\s*(async )?def {name}\b", code, re.MULTILINE), name


def _found(name: str) -> Path:
    """Give a file of tests; some lines name it without its folder, when the line before has it."""
    file = TESTS / name
    return file if file.exists() else next(TESTS.rglob(file.name))
