"""The redo log inside the database: a batch as one row, made durable for a fifth of the price of its tables.

A commit on the spot touches one page instead of six. The journal's thread writes the tables a few milliseconds
later and deletes the rows with them, in one transaction, so each batch is in one of the two places at any
moment. What a killed process leaves is written to the tables by whoever opens the file, or tends it, next.
Applying a batch twice changes nothing, so it does not matter who is first. (Write-ahead logging with deferred
application; the term is that of C. Mohan et al., ARIES, 1992.)
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from callsheet._model.engines import RunDue
from callsheet._model.records import (
    Entry,
    InputDropped,
    InputsResolved,
    InputStored,
    LetterAnswered,
    LetterDropped,
    LetterSent,
    LogWritten,
    OutcomeRecorded,
    RunCreated,
    RunRenamed,
    StateEntered,
)

_logger = logging.getLogger("callsheet.journal")
# A writer that is too old for the file writes nothing, and neither does an engine that others took for dead.
APPEND: Final = (
    "INSERT INTO redo (owner, body) SELECT ?, ?"
    " WHERE NOT EXISTS (SELECT 1 FROM meta WHERE key = 'min_writer' AND value > ?)"
    " AND (? IS NULL OR EXISTS (SELECT 1 FROM engine WHERE id = ? AND NOT lost))"
)
SETTLE: Final = "DELETE FROM redo WHERE owner = ? AND id <= ?"
_SOME: Final = 500
_OTHERS: Final = f"SELECT id, body FROM redo WHERE owner <> ? ORDER BY id LIMIT {_SOME}"
_ANY: Final = "SELECT 1 FROM redo WHERE owner <> ? LIMIT 1"
_DROP: Final = "DELETE FROM redo WHERE owner <> ? AND id <= ?"

_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_Logged = RunCreated | StateEntered | RunRenamed | InputsResolved | OutcomeRecorded | LogWritten
_decoder = msgspec.msgpack.Decoder(list[_Logged])
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw])
_part = msgspec.msgpack.Decoder(_Logged)
_TO_THE_TABLES: Final = frozenset({RunDue, InputStored, InputDropped, LetterSent, LetterAnswered, LetterDropped})


def encode(entries: Sequence[Entry]) -> bytes | None:
    """Give a batch as bytes, or `None` where it holds what goes to the tables at once."""
    if any(entry.__class__ in _TO_THE_TABLES for entry in entries):
        return None  # an older program that shares the file could not adopt them
    try:
        return _encoder.encode(entries)
    except (UnicodeEncodeError, OverflowError, TypeError):
        return None


def has_others(connection: sqlite3.Connection, owner: int) -> bool:
    """Tell whether other owners have anything in the log."""
    return connection.execute(_ANY, (owner,)).fetchone() is not None


def adopt(connection: sqlite3.Connection, owner: int, write: Callable[[Sequence[Entry]], None]) -> None:
    """Write what other owners have left in the log to the tables, some at a time.

    Call it outside of a transaction; `write` writes entries inside of those that are made here.
    """
    more = has_others(connection, owner)
    while more:
        connection.execute("BEGIN IMMEDIATE")
        try:
            more = _adopt_some(connection, owner, write)  # reads when nobody can interfere any more
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def adopt_in(connection: sqlite3.Connection, owner: int, write: Callable[[Sequence[Entry]], None]) -> None:
    """Do that for all of it inside of a transaction."""
    while _adopt_some(connection, owner, write):
        pass


def _adopt_some(connection: sqlite3.Connection, owner: int, write: Callable[[Sequence[Entry]], None]) -> bool:
    rows = connection.execute(_OTHERS, (owner,)).fetchall()
    for _, body in rows:
        write(_decoded(body))
    if rows:
        connection.execute(_DROP, (owner, rows[-1][0]))
    return len(rows) == _SOME


def _decoded(body: bytes) -> Sequence[Entry]:
    """Read a row. One that nobody can read must not keep the file from being opened."""
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError:
        pass
    entries: list[Entry] = []
    try:
        for part in _parts.decode(body):
            try:
                entries.append(_part.decode(part))
            except msgspec.MsgspecError:
                _logger.exception("An entry of the redo log cannot be read and is left out of history")
    except msgspec.MsgspecError:
        _logger.exception("A row of the redo log cannot be read and is left out of history")
    return entries
