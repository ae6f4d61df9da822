"""A transaction of the store: all of it, or nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from callsheet._store.committing import in_transaction


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(tmp_path / "h.db", timeout=0, isolation_level=None)) as made:
        made.execute("CREATE TABLE value (number INTEGER)")
        yield made


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [number for (number,) in connection.execute("SELECT number FROM value")]


def insert(connection: sqlite3.Connection) -> str:
    connection.execute("INSERT INTO value VALUES (1)")
    return "done"


def test_what_was_done_is_there_and_its_value_given(connection):
    assert in_transaction(connection, insert) == "done"
    assert numbers(connection) == [1]
    assert not connection.in_transaction


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_undoes_it(connection, error):
    def work(connection: sqlite3.Connection) -> None:
        insert(connection)
        raise error

    with pytest.raises(error):
        in_transaction(connection, work)
    assert numbers(connection) == []
    assert not connection.in_transaction


def test_a_commit_that_is_refused_undoes_it(connection):
    connection.execute("PRAGMA foreign_keys = 1")
    connection.execute("CREATE TABLE part (whole REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED)")
    connection.execute("CREATE TABLE one (id INTEGER PRIMARY KEY)")
    with pytest.raises(sqlite3.IntegrityError):
        in_transaction(connection, lambda connection: connection.execute("INSERT INTO part VALUES (7)"))
    assert not connection.in_transaction
    assert connection.execute("SELECT count(*) FROM part").fetchone() == (0,)


def test_what_undid_itself_is_not_undone_twice(connection):
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("ROLLBACK")
        raise ValueError

    with pytest.raises(ValueError):
        in_transaction(connection, work)


def test_somebody_else_is_writing(connection, tmp_path):
    with closing(sqlite3.connect(tmp_path / "h.db", timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError):
            in_transaction(connection, insert)
        other.execute("ROLLBACK")
    assert in_transaction(connection, insert) == "done"
