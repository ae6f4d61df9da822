"""The kill loop in its short form; `make kill-loop N=…` runs any number of turns, and repeats those of a seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOP = Path(__file__).with_name("kill_loop.py")
TURNS = 100
"""Turns of each half: 200 in all. One takes 0.15 s of processor time."""
SECONDS = 40.0
"""After which no turn begins: on a machine that is busy with other things, fewer are taken."""


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, TURNS])
def test_nothing_that_was_acknowledged_is_lost_whenever_a_process_is_killed(first: int, tmp_path: Path) -> None:
    take_turns("kill", TURNS, first, tmp_path / "out")


def take_turns(kind: str, turns: int, first: int, out: Path) -> None:
    command = [sys.executable, LOOP, "-n", turns, "--first", first, "--kind", kind, "--seconds", SECONDS]
    with out.open("w") as file:
        done = subprocess.run([*map(str, command)], stdout=file, stderr=file, timeout=170, check=False)
    assert done.returncode == 0, out.read_text()
    print(out.read_text())
