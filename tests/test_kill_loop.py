"""The kill loop in its short form; `make kill-loop N=…` runs any number of turns, and repeats those of a seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

LOOP = Path(__file__).with_name("kill_loop.py")
TURNS = 100
"""Turns of each half: 200 in all. A turn takes 0.15 s of processor time, and ends with its process."""


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, TURNS])
def test_nothing_that_was_acknowledged_is_lost_whenever_a_process_is_killed(first: int, tmp_path: Path) -> None:
    command = [sys.executable, str(LOOP), "-n", str(TURNS), "--first", str(first), "--kind", "kill"]
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run(command, stdout=out, stderr=out, timeout=170, check=False)
    assert done.returncode == 0, (tmp_path / "out").read_text()
