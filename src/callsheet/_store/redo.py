"""The redo log: a batch written to a file of this process, for a tenth of the price of its tables.

A commit on the spot costs some microseconds. The journal's thread writes the tables a few milliseconds later and says in
the same transaction up to where, so each batch is in one of the two places at any moment. What a killed process leaves is
written to the tables by whoever opens or tends the database, or wants to read it, next; applying a batch twice changes
nothing. (Write-ahead logging with deferred application; the term is that of C. Mohan et al., ARIES, 1992.)

Each log has a row in the database: how far it is settled, and how many transactions its owner had made. A batch is written
to the tables only where it follows what is settled, and where all transactions are there that came before it: of what a
power loss leaves, that is a prefix of what happened.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, cast

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
from callsheet._store import logfile, places
from callsheet._store.committing import in_transaction
from callsheet._store.logfile import LogFile
from callsheet._store.proofs import folder_beside

_logger = logging.getLogger("callsheet.journal")
_BEGIN: Final = "INSERT OR REPLACE INTO redo_log (owner, name, settled, epoch) VALUES (?, ?, ?, ?)"
_MARK: Final = "UPDATE redo_log SET settled = ?, epoch = ? WHERE owner = ?"
_OTHERS: Final = "SELECT name, settled FROM redo_log WHERE owner <> ? ORDER BY owner"
_ONE: Final = "SELECT settled, epoch FROM redo_log WHERE name = ?"
_SETTLED: Final = "UPDATE redo_log SET settled = ? WHERE name = ?"
_DROP: Final = "DELETE FROM redo_log WHERE name = ?"
_END: Final = "DELETE FROM redo_log WHERE owner = ?"
_ALL: Final = "SELECT name FROM redo_log ORDER BY owner"
_ANY_ROW: Final = "SELECT 1 FROM redo LIMIT 1"
_ROWS: Final = "SELECT id, body FROM redo ORDER BY id LIMIT 500"
_DROP_ROWS: Final = "DELETE FROM redo WHERE id <= ?"
_DAY: Final = 86_400.0
_AGAIN: Final = 1.0  # seconds after which a file is tried again where none could be made

_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_Logged = RunCreated | StateEntered | RunRenamed | InputsResolved | OutcomeRecorded | LogWritten
_decoder = msgspec.msgpack.Decoder(list[_Logged])
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw])
_part = msgspec.msgpack.Decoder(_Logged)
_TO_THE_TABLES: Final[frozenset[type]] = frozenset(
    {RunDue, InputStored, InputDropped, LetterSent, LetterAnswered, LetterDropped}
)
Write = Callable[[Sequence[Entry]], None]


def encode(entries: Sequence[Entry]) -> bytes | None:
    """Give a batch as bytes, or `None` where it holds what goes to the tables at once: what others are to see, or to judge."""
    for entry in cast("Sequence[StateEntered | RunCreated]", entries):
        kind = entry.__class__
        if kind is StateEntered or kind is RunCreated:  # the usual ones: comparing costs less than looking up
            if entry.guards:
                return None
        elif kind in _TO_THE_TABLES:
            return None
    try:
        return _encoder.encode(entries)
    except (UnicodeEncodeError, OverflowError, TypeError):
        return None


class RedoLog:
    """The log of one store, and what others have left in theirs. Used by one thread at a time.

    Args:
        database: the file beside which logs are.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._folder = folder_beside(database)
        self._owner = random.getrandbits(62)
        self._file: LogFile | None = None
        self._path: Path | None = None  # of the file that was entered last
        self._number = self._settled = 0  # of the last batch, and of the last one that is in the tables as well
        self._epoch = 0  # transactions that this store has made
        self._try_again = 0.0
        self._emptied: list[Path] = []  # files of others that are of no use once the transaction is there
        self._seen: dict[str, int] = {}  # how far others were settled at the last look, by file

    # --------------------------------------------------------------------------------------- our own

    @property
    def is_ready(self) -> bool:
        """Tell whether there is a file to append to."""
        return self._file is not None

    @property
    def may_begin(self) -> bool:
        """Tell whether a file can be made: nothing is needed of an earlier one."""
        return self._number <= self._settled and time.monotonic() >= self._try_again

    def make(self) -> LogFile | None:
        """Make a file; it is of use once `begin` is committed. `None`: the disk refuses."""
        try:
            mode = self._database.stat().st_mode & 0o666
            return LogFile(self._folder, places.kind_of(self._database.parent), mode, self._number)
        except OSError:
            self._try_again = time.monotonic() + _AGAIN
            return None

    def begin(self, connection: sqlite3.Connection, file: LogFile) -> None:
        """Enter a file, inside a transaction."""
        connection.execute(_BEGIN, (self._owner, file.path.name, self._settled, self._epoch + 1))

    def begun(self, file: LogFile) -> None:
        """Use a file that was entered, in place of an earlier one."""
        if self._path is not None:
            logfile.remove(self._path)
        self._file, self._path = file, file.path

    def append(self, body: bytes) -> int | None:
        """Make a batch durable; `None`: that is not possible just now, or there is no file."""
        file = self._file
        if file is None:
            return None
        try:
            number = file.append(self._epoch, body, self._settled)
        except Exception as error:  # whatever it was, the tables will do
            if not isinstance(error, OSError):
                _logger.exception("A batch cannot be appended to a redo log, and goes to the tables")
            self._try_again = time.monotonic() + _AGAIN
            self.let_go()
            return None
        if number is not None:
            self._number = number
        elif file.is_sealed:
            self.let_go()
        return number

    def mark(self, connection: sqlite3.Connection, settled: int) -> None:
        """Say, inside a transaction, how far the log is in the tables, and that this transaction was made."""
        if self._file is not None:
            connection.execute(_MARK, (self._settled_by(settled), self._epoch + 1, self._owner))

    def committed(self, settled: int = 0) -> None:
        """Note that a transaction was committed."""
        if settled:
            self._settled = self._settled_by(settled)
        self._epoch += 1
        while self._emptied:
            logfile.remove(self._emptied.pop())

    def undone(self) -> None:
        """Note that a transaction was not committed."""
        self._emptied.clear()

    def _settled_by(self, settled: int) -> int:
        return max(self._settled, min(settled, self._number))

    def look(self) -> None:
        """Leave a file that somebody has removed: what is appended to it would be lost with this process."""
        if self._file is not None and not self._file.is_there():
            self.let_go()

    def let_go(self) -> None:
        """Leave the file as it is."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def end(self, connection: sqlite3.Connection) -> None:
        """Let go of it, and take it away where nothing in it is needed. Outside of a transaction."""
        self.let_go()
        if self._path is not None and self._number <= self._settled:
            path, self._path = self._path, None
            with suppress(sqlite3.Error):  # a row without a file is as good as none
                connection.execute(_END, (self._owner,))
            logfile.remove(path)

    # ------------------------------------------------------------------------------------ the others'

    def others(self, connection: sqlite3.Connection) -> list[str]:
        """Name the logs of all others."""
        return [name for name, _ in self._others(connection)]

    def unsettled(self, connection: sqlite3.Connection) -> list[str]:
        """Name those that have something which is not in the tables."""
        return [name for name, settled in self._others(connection) if self._holds(name, settled)]

    def idle(self, connection: sqlite3.Connection) -> list[str]:
        """Name those of them that were not settled since the last call: their owner is gone, or stands still."""
        before, self._seen = self._seen, dict(self._others(connection))
        return [
            name for name, settled in self._seen.items() if before.get(name) == settled and self._holds(name, settled)
        ]

    def _others(self, connection: sqlite3.Connection) -> list[tuple[str, int]]:
        return connection.execute(_OTHERS, (self._owner,)).fetchall()

    def _holds(self, name: str, settled: int) -> bool:
        newest = logfile.newest(self._folder / name)
        return newest is not None and newest > settled

    def adopt(self, connection: sqlite3.Connection, names: Sequence[str], write: Write, *, close: bool) -> None:
        """Write what others have in their logs to the tables.

        Call it outside of a transaction. Each log is dealt with in one of its own.

        Args:
            connection: to the database.
            names: of the logs.
            write: writes entries, inside of a transaction.
            close: also close the logs and take them away; living owners begin others.
        """
        for name in names:
            try:
                in_transaction(
                    connection, lambda connection, name=name: self.adopt_in(connection, [name], write, close=close)
                )
            except BaseException:
                self.undone()
                raise
            while self._emptied:
                logfile.remove(self._emptied.pop())

    def adopt_all(self, connection: sqlite3.Connection, write: Write) -> None:
        """Do that with every log there is, this store's own included: it begins anew."""
        self.let_go()
        self.adopt(connection, [name for (name,) in connection.execute(_ALL).fetchall()], write, close=True)
        self._path, self._settled = None, self._number
        self._sweep()

    def adopt_in(self, connection: sqlite3.Connection, names: Sequence[str], write: Write, *, close: bool) -> None:
        """Do that inside of a transaction; `committed` or `undone` is to follow."""
        for name in names:
            row = connection.execute(_ONE, (name,)).fetchone()
            if row is None:  # somebody was faster
                continue
            path = self._folder / name
            found = [] if close else logfile.following(logfile.read_file(path), *row)
            closed = not found  # also a log whose end nobody can make sense of
            if closed:
                found = logfile.following(batches := logfile.seal_and_read(path), *row)
                if batches and batches[-1].number > (found[-1].number if found else row[0]):
                    _logger.warning("After a power loss, the end of a redo log is left out of history")
            for batch in found:
                write(_decoded(batch.body))
            if closed:
                connection.execute(_DROP, (name,))
                self._emptied.append(path)
            else:
                connection.execute(_SETTLED, (found[-1].number, name))

    def _sweep(self) -> None:
        """Remove files that were never entered, or could not be removed in their time: a day old."""
        with suppress(OSError):
            for path in self._folder.glob(f"{logfile.PREFIX}*"):
                if time.time() - path.stat().st_mtime > _DAY:
                    logfile.remove(path)


def adopt_rows(connection: sqlite3.Connection, write: Write) -> None:
    """Write to the tables what programs of database versions before 6 have left, which had rows instead of files."""

    def some(connection: sqlite3.Connection) -> None:
        rows = connection.execute(_ROWS).fetchall()
        for _, body in rows:
            write(_decoded(body))
        if rows:
            connection.execute(_DROP_ROWS, (rows[-1][0],))

    while connection.execute(_ANY_ROW).fetchone() is not None:
        in_transaction(connection, some)


def _decoded(body: bytes) -> Sequence[Entry]:
    """Read a batch. One that nobody can read must not keep the file from being opened."""
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
        _logger.exception("A batch of the redo log cannot be read and is left out of history")
    return entries
