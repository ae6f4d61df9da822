"""Bare SQLite with the same rows: those of a history that this engine wrote, inserted again by hand, in one file with the same indexes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

TABLES = ("run", "outcome")  # what every task run has a row in
clock = time.perf_counter

Rows = dict[str, list[tuple[Any, ...]]]


def write_history(path: Path, size: int) -> None:
    """Let this engine do its tasks."""
    import asyncio

    from callsheet import Engine, flow, task

    @task
    async def noop(i: int) -> None:
        """Do nothing."""

    @flow
    async def mapped(size: int) -> None:
        noop.map(range(size)).result()

    async def run() -> None:
        async with Engine(database=path):
            await mapped(size)

    asyncio.run(run())


def _copy(source: Path) -> tuple[list[str], dict[str, str], Rows]:
    """Give a history's schema, a statement for each table, and the rows of its task runs."""
    with closing(sqlite3.connect(source)) as db:
        schema = [
            sql
            for (sql,) in db.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name IN (?, ?)", TABLES
            )
        ]
        statements, rows = {}, {}
        for table in TABLES:
            kept = [name for _, name, *_, hidden in db.execute(f"PRAGMA table_xinfo({table})") if not hidden]
            named = ", ".join(kept)
            statements[table] = f"INSERT INTO {table} ({named}) VALUES ({', '.join('?' * len(kept))})"
            rows[table] = db.execute(f"SELECT {named} FROM {table}").fetchall()
    return schema, statements, rows


class SameRows:
    """Writes them again, so many runs in one transaction."""

    def __init__(self, state: Path, size: int) -> None:
        self._state = state
        write_history(state / "source.db", size)
        self._schema, self._statements, self._rows = _copy(state / "source.db")
        self._files = 0

    def _fresh(self) -> sqlite3.Connection:
        self._files += 1
        db = sqlite3.connect(self._state / f"rows-{self._files}.db", isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        for sql in self._schema:
            db.execute(sql)
        return db

    def writing(self, per_commit: int) -> Callable[[int], list[float]]:
        """Give work that writes the rows of so many runs, and says how long each transaction took."""

        def write(size: int) -> list[float]:
            waits = []
            with closing(self._fresh()) as db:
                for first in range(0, size, per_commit):
                    start = clock()
                    db.execute("BEGIN IMMEDIATE")
                    for table in TABLES:
                        db.executemany(
                            self._statements[table], self._rows[table][first : min(first + per_commit, size)]
                        )
                    db.execute("COMMIT")
                    waits.append(clock() - start)
            return waits

        return write
