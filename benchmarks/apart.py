"""Measuring in a process and a history of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.servers import fast_place


def apart(module: str, *arguments: str, level: str) -> Any:
    """Run a module at this level of durability, and give the JSON that it prints.

    Raises:
        CalledProcessError: It failed; what it said has gone to standard error.
    """
    with tempfile.TemporaryDirectory(prefix="callsheet-bench-", dir=fast_place()) as home:
        environment = {
            **os.environ,
            "CALLSHEET_HOME": home,
            "CALLSHEET_DATABASE": str(Path(home) / "measured.db"),
            "CALLSHEET_DURABILITY": level,
            "PYTHONHASHSEED": "0",
        }
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments], env=environment, check=False, capture_output=True
        )
    if done.returncode:  # otherwise standard error has a line for everything that is retried
        sys.stderr.buffer.write(done.stderr)
        done.check_returncode()
    return json.loads(done.stdout)
