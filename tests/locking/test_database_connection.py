"""Locks in the database keep a connection open while they are in use, and only then."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

import warm
from callsheet._store import locks as lock_table
from callsheet.locking.database import DatabaseLockManager

LONG = 30.0


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    made: list[Any] = []

    class Watched:
        Connection, Error = sqlite3.Connection, sqlite3.Error

        @staticmethod
        def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            made.append(sqlite3.connect(*args, **kwargs))
            return made[-1]

    monkeypatch.setattr(lock_table, "sqlite3", Watched)
    return made


def is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.total_changes
    except sqlite3.ProgrammingError:
        return False
    return True


def wait_until_closed(connections: list[Any]) -> None:
    deadline = time.monotonic() + LONG
    while any(map(is_open, connections)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_connection_serves_many_locks(tmp_path: Path, opened: list[Any]) -> None:
    locks = DatabaseLockManager(tmp_path / "history.db")
    assert locks.acquire_lock("all the time", "holder")
    before = len(opened)
    for number in range(50):
        assert locks.acquire_lock(f"key {number}", "holder")
        locks.release_lock(f"key {number}", "holder")
    assert len(opened) - before <= 3  # the thread that renews may have needed one at the same time
    locks.release_lock("all the time", "holder")
    wait_until_closed(opened)


def test_who_only_looks_leaves_nothing_open(tmp_path: Path, opened: list[Any]) -> None:
    locks = DatabaseLockManager(tmp_path / "history.db")
    assert locks.acquire_lock("key", "holder")
    locks.release_lock("key", "holder")
    wait_until_closed(opened)
    deadline = time.monotonic() + LONG
    while True:  # the thread may just be about to end
        assert not locks.is_locked("key")
        if not any(map(is_open, opened)):
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_database_that_was_removed_is_noticed(tmp_path: Path, opened: list[Any]) -> None:
    locks = DatabaseLockManager(tmp_path / "history.db")
    assert locks.acquire_lock("key", "holder")
    for file in tmp_path.glob("history.db*"):
        if file.is_file():
            file.unlink()
    assert locks.acquire_lock("other", "holder")
    assert not locks.is_locked("key")
    locks.release_lock("other", "holder")
    wait_until_closed(opened)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_child_opens_its_own(tmp_path: Path) -> None:
    locks = DatabaseLockManager(tmp_path / "history.db")
    assert locks.acquire_lock("key", "parent")
    child = os.fork()
    if child == 0:
        fine = not locks.acquire_lock("key", "child", acquire_timeout=0) and locks.acquire_lock("other", "child")
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert locks.is_lock_holder("key", "parent")
    locks.release_lock("key", "parent")


ENDING = """
import sys
from callsheet.locking.database import DatabaseLockManager
locks = DatabaseLockManager(sys.argv[1])
assert locks.acquire_lock("key", "holder")
if sys.argv[2] == "released":
    locks.release_lock("key", "holder")
"""


@pytest.mark.parametrize("how", ["released", "held"])
def test_a_process_that_ends_leaves_nothing_to_warn_of(tmp_path: Path, how: str) -> None:
    done = warm.run(ENDING, tmp_path / "history.db", how, dev=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")
