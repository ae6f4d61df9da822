"""Disks that fail below SQLite, in the short form; `make disk-faults N=…` takes any number of turns."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TURNS = 1500 if os.environ.get("CALLSHEET_PROOFS") else 25
SECONDS = 10.0
"""After which no turn begins in the suite: on a machine that is busy with other things, fewer are taken."""


@pytest.mark.slow
def test_what_was_acknowledged_is_there_however_the_disk_fails(tmp_path: Path) -> None:
    script = Path(__file__).parents[1] / "disk_faults.py"
    command = [sys.executable, script, "-n", TURNS, "--seconds", SECONDS if TURNS == 25 else 3600]
    with (tmp_path / "out").open("w") as file:
        done = subprocess.run([*map(str, command)], stdout=file, stderr=file, timeout=3700, check=False)
    said = (tmp_path / "out").read_text()
    assert done.returncode == 0, said
    assert "struck: {" in said
    print(said)
