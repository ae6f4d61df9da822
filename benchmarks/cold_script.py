"""A script with one flow and one task and a new database, from the start of the interpreter to its end."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Row, as_installed, at_most, in_turn_sync

HOME = Path(os.environ["CALLSHEET_HOME"])
SCRIPT = """
from callsheet import flow, task

@task
def double(x: int) -> int:
    return 2 * x

@flow
def script(x: int) -> int:
    return double(x)

assert script(21) == 42
"""
FLOOR = """
import asyncio, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("pragma journal_mode=wal")
db.execute("create table run(id, state)")
async def script(x):
    db.execute("insert into run values (?, ?)", (x, "done"))
    db.commit()
    return 2 * x
assert asyncio.run(script(21)) == 42
"""
_fresh = itertools.count()


def run(script: str) -> None:
    """Run a script with a home folder that did not exist before."""
    home = HOME / f"cold-{next(_fresh)}"
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", script, str(home / "floor.db")], env=as_installed(home), check=True, capture_output=True
    )


def rows(rounds: int) -> list[Row]:
    """Give wall time, beside a script that writes one row by hand."""
    ours, floor = in_turn_sync(rounds * 2, lambda: run(SCRIPT), lambda: run(FLOOR))
    return [at_most("cold script: one flow, one task, new database", ours * 1e3, floor * 1e3, 400)]
