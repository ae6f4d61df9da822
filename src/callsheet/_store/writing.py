"""What happens between BEGIN and COMMIT."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container, Sequence
from itertools import chain
from typing import Any, Final
from uuid import UUID

from callsheet._ids import state_id as derived_state_id
from callsheet._model.records import Entry
from callsheet._store import letters, statements
from callsheet._store.codes import TERMINAL
from callsheet._store.rows import MOVED, NO_SEQ, SEQ, Batch, Encoder
from callsheet._store.statements import Table, pieces
from callsheet.logging.loggers import engine_log

_logger = engine_log("callsheet.journal")
_HOLDER: Final = (
    "SELECT run_key.run_id FROM run_key JOIN run ON run.id = run_key.run_id"
    " WHERE run_key.definition = ? AND run_key.key = ? AND NOT (run_key.expires IS NOT NULL AND run_key.expires <= ?"
    f" AND coalesce(run.state_type, -1) IN ({', '.join(map(str, sorted(TERMINAL)))}))"
)


class Known:
    """Answers what guards ask, inside the transaction. Each question is asked once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._runs: dict[UUID, tuple[int, int] | None] = {}

    def seq_and_fence(self, run_id: UUID) -> tuple[int, int] | None:
        """Give the newest sequence number and the fence of a run that exists."""
        if run_id not in self._runs:
            self._runs[run_id] = self._one("SELECT seq, fence FROM run WHERE id = ?", run_id.bytes)
        return self._runs[run_id]

    def holder(self, definition: str, key: str, at: int) -> UUID | None:
        """Give the run that has a key at this time."""
        row = self._one(_HOLDER, definition, key, at)
        return None if row is None else UUID(bytes=row[0])

    def state_id(self, run_id: UUID, seq: int) -> UUID | None:
        """Give the id of a stored state."""
        row = self._one("SELECT id FROM every_state WHERE run_id = ? AND seq = ?", run_id.bytes, seq)
        if row is None:
            return None
        return derived_state_id(run_id, seq) if row[0] is None else UUID(bytes=row[0])

    def input_id(self, run_id: UUID, key: str) -> UUID | None:
        """Give the id of what a run was handed under a key."""
        row = self._one("SELECT id FROM run_input WHERE run_id = ? AND key = ?", run_id.bytes, key)
        return None if row is None else UUID(bytes=row[0])

    def _one(self, sql: str, *params: object) -> Any:
        return self._connection.execute(sql, params).fetchone()


def apply(connection: sqlite3.Connection, batch: Batch, defined: Container[int]) -> None:
    """Write the rows of a batch. Writing them again changes nothing.

    Values that SQLite cannot hold (a lone surrogate from a file name, a number over 64 bits) are replaced by
    what it can, rather than losing the batch.
    """
    execute = connection.execute

    def write(table: Table, params: list[Any]) -> int:
        changed = 0
        for sql, some in pieces(table, params):
            try:
                changed += execute(sql, some).rowcount
            except (UnicodeEncodeError, OverflowError):
                changed += execute(sql, [_storable(value) for value in some]).rowcount
        return changed

    if batch.created:
        _create(batch, defined, write)
    if batch.moved:
        write(statements.MOVE, list(chain.from_iterable(batch.moved.values())))
    if batch.renamed:
        renamed = [(run, name) for run, name in batch.renamed.items() if run not in batch.created]
        _rename(renamed, write)
    for table, params in (
        (statements.STATE, batch.states),
        (statements.OUTCOME, batch.outcomes),
        (statements.TAG, batch.tags),
        (statements.INPUT, batch.inputs),
        (statements.PARAMETERS, batch.parameters),
        (statements.LOG, batch.logs),
        (statements.KEY, batch.keys),
    ):
        if params:
            write(table, params)
    for run, due in batch.due.items():  # few: runs that are suspended, or resumed from that
        execute(statements.DUE, (due, run))
    for (run, key), row in batch.handed.items():  # few: at most one of each key
        execute(statements.DROP_INPUT, (run, key))
        if row is not None:
            write(statements.HANDED, row)
    letters.write(connection, batch.letters)


def apply_what_can_be(connection: sqlite3.Connection, encoder: Encoder, entries: Sequence[Entry]) -> None:
    """Write entries of others. What nobody can write must not keep the file from being opened: it is left out, and told."""
    try:
        apply(connection, encoder.encode(entries), frozenset[int]())
    except sqlite3.Error:
        raise
    except Exception:
        if len(entries) == 1:
            _logger.exception("An entry of the redo log cannot be written and is left out of history: %r", entries[0])
            return
        for entry in entries:
            apply_what_can_be(connection, encoder, [entry])


Write = Callable[[Table, list[Any]], int]


def _create(batch: Batch, defined: Container[int], write: Write) -> None:
    new = [
        (number, int(one.kind), one.key, one.name, one.code)
        for number, one in batch.definitions.items()
        if number not in defined
    ]
    if batch.skewed:
        write(statements.FLAG, ["skewed", 1])
    if new:
        write(statements.DEFINITION, list(chain.from_iterable(new)))
    rows = batch.created.values()
    if write(statements.RUN, list(chain.from_iterable(rows))) < len(rows):
        # Some exist: this batch, or a part of it, was committed before and nobody heard of it.
        _move_on(rows, write)
        _rename([(run, name) for run, name in batch.renamed.items() if run in batch.created], write)


def _move_on(rows: Any, write: Write) -> None:
    params: list[Any] = []
    for row in rows:
        if row[SEQ] != NO_SEQ:
            params += row[MOVED]
    write(statements.MOVE, params)


def _rename(renamed: Sequence[tuple[int, str]], write: Write) -> None:
    params: list[Any] = []
    for run, name in renamed:
        params += (run.to_bytes(16), name)
    write(statements.RENAME, params)


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return max(-(2**63), min(2**63 - 1, value))
    return value
