"""`import callsheet` in a fresh interpreter, beside an interpreter that imports nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Row, as_installed, at_most, in_turn_sync

STATEMENTS = ("import callsheet", "from callsheet import flow, task")
UNWANTED = ("pydantic", "fastapi", "starlette", "litestar", "rich", "dask", "ray", "trio", "structlog")


def run(statement: str) -> str:
    """Run one statement in a fresh interpreter."""
    home = Path(os.environ["CALLSHEET_HOME"])
    command = [sys.executable, "-c", statement]
    return subprocess.run(command, env=as_installed(home), check=True, capture_output=True, text=True).stdout


def rows(rounds: int) -> list[Row]:
    """Give what each statement adds to the start of the interpreter, and what should not have come along."""
    table: list[Row] = []
    for statement in STATEMENTS:
        ours, floor = in_turn_sync(rounds * 3, lambda s=statement: run(s), lambda: run("pass"))
        table.append(at_most(f"{statement} (above the interpreter's own)", (ours - floor) * 1e3, floor * 1e3, 100))
        table[-1].ratio = None
    probe = f"{STATEMENTS[1]}; import sys; print(*[m for m in {UNWANTED} if m in sys.modules])"
    found = run(probe).split()
    table.append(Row("… heavy modules that it brings along", ", ".join(found) or "none", "", None, "none", not found))
    return table
