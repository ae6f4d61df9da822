"""Versions of the database: what this program writes, what it may read, and how an older file is brought up."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from callsheet._store import mishaps
from callsheet._store.committing import in_transaction
from callsheet._store.patience import PATIENCE, patiently

APPLICATION_ID = 0x43414C53  # "CALS": tells other tools whose file this is
FOLDER = Path(__file__).parent / "migrations"


@cache
def migrations() -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Give the migrations in order: version, and its statements. File names start with the version."""
    found = sorted(FOLDER.glob("[0-9]*.sql"))
    return tuple((int(file.name.split("_")[0]), tuple(_statements(file.read_text("utf-8")))) for file in found)


@cache
def newest() -> int:
    """Give the version that this program brings a file to."""
    return migrations()[-1][0]


def versions(connection: sqlite3.Connection) -> dict[str, int] | None:
    """Give `schema`, `min_reader` and `min_writer` of a file, or `None` if it is empty.

    Raises:
        sqlite3.DatabaseError: with the code for "not a database" if it has tables that are not ours.
    """
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    if not names:
        return None
    if "meta" not in names or "run" not in names:
        raise _foreign()
    return dict(connection.execute("SELECT key, value FROM meta WHERE key <> 'synced'").fetchall())


def migrate(connection: sqlite3.Connection, path: Path, *, patience: float = PATIENCE) -> None:
    """Bring a file to the newest version. Several processes may do so at once: one works, the others find it done.

    Raises:
        StoreTooNew: a newer program said that this one must not write.
        sqlite3.Error: anything that SQLite refuses.
    """
    found = patiently(lambda: versions(connection), patience=patience)
    check(found, "min_writer", path)
    if found is None or found.get("schema", 0) < newest():
        patiently(lambda: in_transaction(connection, lambda connection: _run(connection, path)), patience=patience)


def check(found: dict[str, int] | None, limit: str, path: Path) -> None:
    """Refuse a file whose `min_reader` or `min_writer` is above our version."""
    if found is not None and (needs := found.get(limit, 0)) > newest():
        raise mishaps.too_new(path, needs, newest())


def _run(connection: sqlite3.Connection, path: Path) -> None:
    found = versions(connection)
    check(found, "min_writer", path)
    have = 0 if found is None else found.get("schema", 0)
    if have == 0:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for version, statements in migrations():
        if version > have:
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (version,))
    # A file that a newer program wrote, and that we may write, keeps its higher number.
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('min_reader', 1), ('min_writer', 1)")


def _statements(script: str) -> Iterator[str]:
    """Split a script: `executescript` would commit the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        if not statement and (not line.strip() or line.lstrip().startswith("--")):
            continue
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _foreign() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("tables of another program")
    error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
    return error
