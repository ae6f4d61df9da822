"""Making one batch durable on the spot: in the redo log's file, and as a row of SQLite's, as it was before there was one."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from benchmarks.measure import Row
from callsheet._ids import new_id
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Definition, Entry, RunCreated, StateEntered
from callsheet._store import redo
from callsheet._store.logfile import LogFile
from callsheet._store.sqlite import SqliteStore

COUNT = 3_000
AT_ONCE = 100  # batches that are written to the tables in one transaction
LIMIT = 10.0  # microseconds
HOME = Path(os.environ["CALLSHEET_HOME"])
NOOP = Definition(Kind.TASK, "benchmarks.noop", "noop", "1")


def batch() -> list[Entry]:
    """Give what is committed for a run: three entries."""
    run, at = new_id(), time.time_ns() // 1000
    return [
        RunCreated(id=run, kind=Kind.TASK, definition=NOOP, name="noop-1", created=at),
        StateEntered(run_id=run, seq=1, type=StateType.PENDING, name="Pending", at=at),
        StateEntered(run_id=run, seq=2, type=StateType.COMPLETED, name="Completed", at=at, attempt=1),
    ]


def best(append: Callable[[list[Entry]], object], count: int) -> float:
    """Give the microseconds of the quickest of many."""
    least = float("inf")
    for entries in [batch() for _ in range(count)]:
        start = time.perf_counter()
        append(entries)
        least = min(least, time.perf_counter() - start)
    return least * 1e6


def in_a_file(kind: str, count: int) -> float:
    """Append to a log whose file system is taken for one of this kind."""
    file = LogFile(HOME / "logs", kind, 0o600, 0)
    try:
        return best(lambda entries: file.append(0, redo.encode(entries) or b"", file.number), count)
    finally:
        file.drop()


def in_a_row(count: int) -> float:
    """Append a row, in a transaction of its own."""
    with closing(sqlite3.connect(HOME / "rows.db", isolation_level=None)) as db:
        for sql in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = NORMAL", "PRAGMA wal_autocheckpoint = 0"):
            db.execute(sql).fetchone()
        db.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, body BLOB)")
        return best(lambda entries: db.execute("INSERT INTO row (body) VALUES (?)", (redo.encode(entries),)), count)


def in_both(count: int) -> float:
    """Append to the log, and write the tables a hundred batches later: microseconds for each batch, of the quickest hundred."""
    store = SqliteStore(HOME / "both.db")
    store.open()
    least = float("inf")
    for _ in range(max(1, count // AT_ONCE)):
        batches = [batch() for _ in range(AT_ONCE)]
        start = time.perf_counter()
        number = [store.append(entries) for entries in batches][-1]
        store.try_commit([entry for entries in batches for entry in entries], settled=number or 0)
        least = min(least, time.perf_counter() - start)
    store.close()
    return least / AT_ONCE * 1e6


def rows(_: int, count: int = COUNT) -> list[Row]:
    """Give one row for each way, beside what encoding costs by itself."""
    encoded = best(redo.encode, count)
    ways = (
        ("a file, mapped", in_a_file("ext4", count)),
        ("a file, by pwrite", in_a_file("", count)),
        ("a row of SQLite's", in_a_row(count)),
        ("a file, the tables later", in_both(count)),
    )
    made = [
        Row(f"three entries durable: {way}", f"{took:.3g} µs", f"{encoded:.3g} µs", None, "", True)
        for way, took in ways
    ]
    made[0].target, made[0].reached = f"≤ {LIMIT:g} µs", ways[0][1] <= LIMIT
    return made
