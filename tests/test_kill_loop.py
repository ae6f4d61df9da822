"""The kill loop in its short form; `make kill-loop N=…` runs any number of turns, and repeats those of a seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOP = Path(__file__).with_name("kill_loop.py")
KILLED, RECOVERED, WOKEN = 60, 34, 12
"""Turns of each kind; the first two are taken in two halves: 200 in all. One takes 0.15 to 0.3 s of processor time."""
SECONDS = 30.0
"""After which no turn begins: on a machine that is busy with other things, fewer are taken."""


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, KILLED])
def test_nothing_that_was_acknowledged_is_lost_whenever_a_process_is_killed(first: int, tmp_path: Path) -> None:
    take_turns("kill", KILLED, first, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, RECOVERED])
def test_what_killed_processes_left_goes_on_and_nothing_finished_runs_again(first: int, tmp_path: Path) -> None:
    take_turns("recover", RECOVERED, first, tmp_path / "out")


@pytest.mark.slow
def test_an_owner_that_is_stopped_and_woken_writes_nothing_any_more(tmp_path: Path) -> None:
    take_turns("wake", WOKEN, 0, tmp_path / "out")


def take_turns(kind: str, turns: int, first: int, out: Path) -> None:
    command = [sys.executable, LOOP, "-n", turns, "--first", first, "--kind", kind, "--seconds", SECONDS]
    with out.open("w") as file:
        done = subprocess.run([*map(str, command)], stdout=file, stderr=file, timeout=170, check=False)
    assert done.returncode == 0, out.read_text()
    print(out.read_text())
