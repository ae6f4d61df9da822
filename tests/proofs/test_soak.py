"""Several processes on one history with rolling restarts, for moments; `make soak` takes an hour, and a million task runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).parents[1] / "soak.py"


@pytest.mark.slow
def test_processes_that_share_a_history_lose_nothing_and_do_nothing_twice(tmp_path: Path) -> None:
    command = [sys.executable, SOAK, "--processes", 4, "--flows", 20, "--seconds", 2, "--runs", 0]
    with (tmp_path / "out").open("w") as file:
        done = subprocess.run([*map(str, command)], stdout=file, stderr=file, timeout=170, check=False)
    said = (tmp_path / "out").read_text()
    assert done.returncode == 0, said
    print(said)
