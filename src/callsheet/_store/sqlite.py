"""The SQLite driver: one writing connection, batches in one transaction each, checkpoints beside them."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from callsheet._clock import SYSTEM_CLOCK, Clock, micros
from callsheet._model.letters import Letter
from callsheet._model.records import Entry, Refusal
from callsheet._store import connecting, forks, guards, letters, migrate, mishaps, places, redo, statements
from callsheet._store.committing import in_transaction
from callsheet._store.engines import SqliteEngines
from callsheet._store.patience import PATIENCE, is_held, patiently
from callsheet._store.protocol import Reader, SnapshotReader
from callsheet._store.readers import AsyncReader, BlockingReader, Hop
from callsheet._store.redo import RedoLog
from callsheet._store.rows import Batch, Encoder
from callsheet._store.taking import Write
from callsheet._store.topics import check_topics
from callsheet._store.writing import Known, apply, apply_what_can_be
from callsheet.exceptions import StoreError

T = TypeVar("T")

CHECKPOINT_ABOVE = 4 << 20
"""Bytes of write-ahead log from which its pages are copied home, beside the writers."""
TRUNCATE_ABOVE = 32 << 20
"""Bytes of write-ahead log from which writers wait while it is emptied."""
_LOOK = 0.1  # seconds between two looks whether the file is still there, or has changed
_MOMENT = 0.02  # seconds: longer than a batch, short enough for an event loop
_TEND = 0.25  # seconds between looks at the log's size, and for what dead processes left in the redo log


class SqliteStore:
    """History in one SQLite file.

    Args:
        path: the file; its folder is made when needed.
        clock: where `now()` comes from.
        patience: seconds to wait for a database that another process holds before that is an error.
        hop: runs a blocking read on a thread, `await hop(function)`, for event loops other than asyncio's;
            the default uses threads and a limit of the reader's own.

    Example:
        >>> import tempfile
        >>> store = SqliteStore(Path(tempfile.mkdtemp()) / "history.db")
        >>> store.open()
        >>> store.commit([])
        []
        >>> store.close()
    """

    is_shared = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock = SYSTEM_CLOCK,
        patience: float = PATIENCE,
        hop: Hop | None = None,
    ) -> None:
        self._path = Path(path).expanduser().absolute()
        self._log_name = f"{self._path}-wal"
        self._clock, self._patience, self._hop = clock, patience, hop
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()
        self._encoder = Encoder()
        self._encoded: tuple[Sequence[Entry], Batch] | None = None
        self._defined: set[int] = set()
        self._synchronous = "NORMAL"
        self._outside = 0
        self._presence = places.Presence(self._path)
        self._tend_again = 0.0
        self._log = RedoLog(self._path)
        self.engines = SqliteEngines(self)
        forks.remember(self)

    @property
    def location(self) -> str:
        """The path of the file."""
        return str(self._path)

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self._path

    # --------------------------------------------------------------------------------- open, close

    def open(self) -> None:
        """Create or migrate the file. Opening twice is fine, and opening after `close` opens again.

        Raises:
            StoreError: one of its kinds says what is wrong with the place and how to mend it.
        """
        with self._lock:
            if self._connection is None:
                places.prepare(self._path)
                self._presence.opening()
                self._connection = self._translated(lambda: connecting.connect(self._path, self._patience))
                self._synchronous = "NORMAL"
                self._presence.opened()
                self._outside = connecting.data_version(self._connection)
                self._defined.clear()
                self._encoded = None
                self._translated(lambda: patiently(self._adopt_all, patience=self._patience))

    def close(self) -> None:
        """Close the file. The last process to do so empties the write-ahead log. Closing twice is fine."""
        with self._lock:
            connection, self._connection = self._connection, None
            self._encoded = None
            if connection is not None:
                self._presence.closing()
                self._log.end(connection)
                if self._presence.lost_log:
                    connecting.save_log(connection)
                try:
                    connection.close()
                except sqlite3.Error:  # what was committed is in the log; the next to open finds it
                    pass

    def forget_after_fork(self) -> None:
        """Let go of everything in a forked child, without touching files or locks of the parent."""
        forks.leak(self._connection)
        self._connection = self._encoded = None
        self._lock = threading.Lock()
        self._log.let_go()  # the file stays the parent's
        self._log = RedoLog(self._path)
        self.engines.forget()

    # --------------------------------------------------------------------------------------- write

    def commit(self, entries: Sequence[Entry], *, sync: bool = False) -> list[Refusal]:
        """Apply entries in one transaction, waiting for other processes as long as patience lasts.

        Raises:
            StoreLocked: another process held the database all the time.
            StoreError: anything else that is wrong; nothing was applied, or all of it.
        """
        return self._translated(lambda: patiently(lambda: self._commit(entries, sync), patience=self._patience))

    def append(self, entries: Sequence[Entry]) -> int | None:
        """Make entries durable in the redo log, without waiting for anybody or for the disk: see `redo`.

        Raises:
            StoreError: the place cannot be written, or is too new.
        """
        body = None if self.engines.is_due else redo.encode(entries)
        if body is None:
            return None
        with self._lock:
            connection = self._writer()
            if self._log.is_ready or self._begin_log(connection):
                self._presence.written = True
                return self._log.append(body)
        return None

    def _begin_log(self, connection: sqlite3.Connection) -> bool:
        """Make a file for the log, if that can be done at once."""
        log = self._log
        file = log.make() if log.may_begin else None
        if file is None:
            return False
        try:
            self._in_transaction(connection, lambda connection: log.begin(connection, file))
        except BaseException as error:
            file.drop()
            if is_held(error):
                return False
            if isinstance(error, sqlite3.Error):
                raise mishaps.translate(error, self._path, self._patience) from error
            raise
        log.begun(file)
        return True

    def adoptable(self) -> bool:
        """Tell whether other processes have something in their logs; also where a commit takes long."""
        if not self._lock.acquire(timeout=_MOMENT):
            return True
        try:
            connection = self._connection
            return connection is not None and bool(self._log.unsettled(connection))
        except (sqlite3.Error, OSError):
            return True  # `adopt` says what is wrong
        finally:
            self._lock.release()

    def adopt(self) -> None:
        """Write to the tables what other processes have in their logs; a look, where there is nothing."""

        def work() -> None:
            with self._lock:
                self._adopt(self._log.unsettled, close=False)

        self._translated(lambda: patiently(work, patience=self._patience))

    def _adopt_all(self) -> None:
        """Write to the tables what anybody has left, also this store before it was closed, and take the logs away."""
        connection = self._connection
        if connection is not None:
            redo.adopt_rows(connection, self.write_in(connection))
            self._log.adopt_all(connection, self.write_in(connection))

    def _adopt(self, choose: Callable[[sqlite3.Connection], list[str]], *, close: bool) -> None:
        connection = self._connection
        if connection is not None:
            self._log.adopt(connection, choose(connection), self.write_in(connection), close=close)

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Encode what is to be committed next, so that the lock need not be held for it."""
        self._encode_once(entries)

    def try_commit(self, entries: Sequence[Entry], *, sync: bool = False, settled: int = 0) -> list[Refusal] | None:
        """Do the same, or give `None` at once where somebody else holds the database."""
        try:
            return self._commit(entries, sync, settled)
        except sqlite3.Error as error:
            if is_held(error):
                return None
            raise mishaps.translate(error, self._path, self._patience) from error

    def _commit(self, entries: Sequence[Entry], sync: bool, settled: int = 0) -> list[Refusal]:
        with self._lock:
            connection = self._writer()
            self._presence.written = True
            batch = self._encode_once(entries)
            self._set_synchronous(connection, "FULL" if sync else "NORMAL")
            refused = self._in_transaction(connection, partial(self._write, entries, batch, sync), settled)
            self._encoded = None
            if not batch.guarded:
                self._defined.update(batch.definitions)
            return refused

    def transact(self, work: Callable[[sqlite3.Connection], T], patience: float | None = None) -> T:
        """Do something in a transaction of its own, waiting for other processes as long as patience lasts.

        Raises:
            LostOwnership: Others have taken this engine for dead.
            StoreError: The place refuses.
        """

        def attempt() -> T:
            with self._lock:
                return self._in_transaction(self._writer(), work)

        return self._translated(lambda: patiently(attempt, patience=patience or self._patience), patience)

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read by the writing connection."""
        with self._lock:
            return self._translated(lambda: patiently(lambda: work(self._writer()), patience=self._patience))

    def _in_transaction(
        self, connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], settled: int = 0
    ) -> T:
        """Do something in a transaction, if this engine may still write. The caller holds the lock."""
        enters = self.engines.is_due
        try:
            done = in_transaction(connection, partial(self._guarded, work, enters, settled))
        except BaseException:
            self._log.undone()
            raise
        self._log.committed(settled)
        if enters:
            self.engines.written()
        return done

    def _guarded(
        self, work: Callable[[sqlite3.Connection], T], enters: bool, settled: int, connection: sqlite3.Connection
    ) -> T:
        guard = self.engines.guard
        if connection.execute(statements.REFUSED, (migrate.newest(), guard, guard)).rowcount:
            raise self._refusal(connection)
        if enters and not self.engines.write(connection):
            raise mishaps.lost(self._path)
        done = work(connection)
        self._log.mark(connection, settled)
        return done

    def _refusal(self, connection: sqlite3.Connection) -> StoreError:
        """Say why this engine may not write."""
        forbidden = connection.execute(statements.WRITER_FORBIDDEN, (migrate.newest(),)).fetchone()
        if forbidden is not None:
            return mishaps.too_new(self._path, forbidden[0], migrate.newest())
        return mishaps.lost_with_its_file(self._path) if self._presence.is_another else mishaps.lost(self._path)

    def adopt_in(self, connection: sqlite3.Connection) -> None:
        """Write to the tables, inside a transaction, what other processes have in their logs, and close these."""
        self._log.adopt_in(connection, self._log.others(connection), self.write_in(connection), close=True)

    def write_in(self, connection: sqlite3.Connection) -> Write:
        """Give what writes entries inside a transaction."""
        return lambda entries: apply_what_can_be(connection, self._encoder, entries)

    def _writer(self) -> sqlite3.Connection:
        if self._connection is None:
            raise mishaps.closed(self._path)
        if self._presence.is_looked_for(_LOOK):
            self._log.look()
        return self._connection

    def _encode_once(self, entries: Sequence[Entry]) -> Batch:
        # Kept for the next attempt: a database held elsewhere must not cost the encoding each time.
        # Another thread may prepare its batch at the same time, so what is kept is looked at once.
        encoded = self._encoded
        if encoded is None or encoded[0] is not entries:
            encoded = self._encoded = (entries, self._encoder.encode(entries))
        return encoded[1]

    def _set_synchronous(self, connection: sqlite3.Connection, mode: str) -> None:
        if self._synchronous != mode:
            connection.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def _write(
        self, entries: Sequence[Entry], batch: Batch, sync: bool, connection: sqlite3.Connection
    ) -> list[Refusal]:
        refused: list[Refusal] = []
        if batch.guarded:
            refused = guards.refusals(entries, Known(connection))
            batch = self._encoder.encode(entries, {refusal.index for refusal in refused})
        apply(connection, batch, self._defined)
        if sync and not entries:
            connection.execute(statements.TOUCH, (self.now(),))  # an empty commit would sync nothing
        return refused

    # --------------------------------------------------------------------------------- maintenance

    def tend(self) -> None:
        """Copy a long write-ahead log home, beside writers; above 32 MB empty it. Called by one thread at a time."""
        now = time.monotonic()
        if now < self._tend_again:
            return
        # The log's file keeps its size when it is used from the start again, so size alone says too much.
        self._tend_again = now + _TEND
        try:
            with self._lock:
                self._adopt(self._log.idle, close=True)
        except (sqlite3.Error, OSError):  # somebody else is at it; another time
            pass
        connecting.checkpoint(self._path, self._log_name, CHECKPOINT_ABOVE, TRUNCATE_ABOVE)

    def changed_outside(self) -> bool:
        """Tell whether another process committed since the last call (3 µs)."""
        with self._lock:
            before = self._outside
            self._outside = self._translated(lambda: connecting.data_version(self._writer()))
            return self._outside != before

    def letters_to(self, engine_id: UUID, after: int = 0) -> tuple[Letter, ...]:
        """Give the unanswered letters to an engine whose numbers are higher, in order of arrival."""
        return self.look(lambda connection: letters.arrived(connection, engine_id, after))

    def wait(self, topics: Sequence[str], deadline: float, *, stopped: Callable[[], bool]) -> Sequence[str]:
        """Wait in the calling thread until something may have changed. The one topic so far is ``history``.

        Args:
            topics: what to wait for.
            deadline: when to give up, in seconds of `time.monotonic`.
            stopped: asked every 100 ms; true ends the wait.

        Returns:
            The topics that may have changed; none after the deadline.

        Raises:
            NotImplementedError: for another topic, naming it.
        """
        check_topics(topics)
        changed = self._translated(lambda: connecting.wait_for_change(self._path, deadline, _LOOK, stopped))
        return tuple(topics) if changed else ()

    def now(self) -> int:
        """Give the store's time, in microseconds since the epoch."""
        return micros(self._clock.now())

    # --------------------------------------------------------------------------------------- read

    def reader(self) -> Reader:
        """Give a reader for the running event loop: aiosqlite on asyncio, threads elsewhere."""
        return AsyncReader(self._path, patience=self._patience, hop=self._hop)

    def blocking_reader(self) -> SnapshotReader:
        """Give a reader whose coroutines never suspend, for threads without an event loop."""
        return BlockingReader(self._path, patience=self._patience)

    def _translated(self, work: Callable[[], T], patience: float | None = None) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            raise mishaps.translate(error, self._path, patience or self._patience) from error
