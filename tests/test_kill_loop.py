"""A sample of the kill loop; `make proofs-short` takes 200 turns, `make kill-loop N=…` any number, and repeats those of a seed."""

from __future__ import annotations

from pathlib import Path

import pytest

import warm

LOOP = Path(__file__).with_name("kill_loop.py")
TURNS = 3
"""Of each kind: 21 in all. One takes 0.1 to 0.5 s of processor time."""
SECONDS = 30.0
"""After which no turn begins: on a machine that is busy with other things, fewer are taken."""


@pytest.mark.slow
def test_nothing_is_lost_whenever_a_process_is_killed_and_nothing_finished_runs_again() -> None:
    take_turns("kill", "recover")


@pytest.mark.slow
def test_an_owner_that_is_stopped_and_woken_writes_nothing_any_more() -> None:
    take_turns("wake", "share")


@pytest.mark.slow
def test_what_waited_for_the_world_goes_on_as_if_nobody_had_been_killed() -> None:
    take_turns("suspend", "waits")


@pytest.mark.slow
def test_a_flow_that_is_called_under_a_key_by_processes_that_are_killed_runs_once() -> None:
    take_turns("keyed")


def take_turns(*kinds: str) -> None:
    done = warm.run(LOOP, "-n", TURNS, "--seconds", SECONDS, "--kind", *kinds, timeout=170, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout + done.stderr)
