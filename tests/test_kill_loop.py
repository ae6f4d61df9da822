"""The kill loop in its short form; `make kill-loop N=…` runs any number of turns, and repeats those of a seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOP = Path(__file__).with_name("kill_loop.py")
KILLED, RECOVERED, WOKEN, SHARED, WAITING, KEYED = 40, 26, 10, 10, 16, 16
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


@pytest.mark.slow
def test_of_two_engines_one_may_stand_still(tmp_path: Path) -> None:
    take_turns("share", SHARED, 0, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["suspend", "waits"])
def test_what_waited_for_the_world_goes_on_as_if_nobody_had_been_killed(kind: str, tmp_path: Path) -> None:
    take_turns(kind, WAITING, 0, tmp_path / "out")


@pytest.mark.slow
def test_a_flow_that_is_called_under_a_key_by_processes_that_are_killed_runs_once(tmp_path: Path) -> None:
    take_turns("keyed", KEYED, 0, tmp_path / "out")


def take_turns(kind: str, turns: int, first: int, out: Path) -> None:
    command = [sys.executable, LOOP, "-n", turns, "--first", first, "--kind", kind, "--seconds", SECONDS]
    with out.open("w") as file:
        done = subprocess.run([*map(str, command)], stdout=file, stderr=file, timeout=170, check=False)
    assert done.returncode == 0, out.read_text()
    print(out.read_text())
