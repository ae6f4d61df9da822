"""Readers of a SQLite file. They differ only in how a statement is run: here, on a thread, or by aiosqlite."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from callsheet._clock import standing
from callsheet._model.kinds import Kind, RunOrder
from callsheet._model.letters import Letter
from callsheet._model.records import (
    Definition,
    InputRecord,
    LogFilter,
    LogRecord,
    OutcomeRecord,
    Page,
    RunFilter,
    RunRecord,
    StateRecord,
    newest_of_each,
)
from callsheet._store import decode, forks, letters, migrate, mishaps, ordering, queries
from callsheet._store.codes import name_of
from callsheet._store.patience import PATIENCE, is_held, patiently, pauses
from callsheet._store.queries import Query

T = TypeVar("T")
Rows = list[tuple[Any, ...]]
Hop = Callable[[Callable[[], Rows]], Awaitable[Rows]]
"""Runs a function on a thread: `rows = await hop(function)`."""

LONGEST_READ = 2.0
"""Seconds after which a read is stopped: while it lasts, the write-ahead log cannot be emptied."""
_STEPS = 20_000  # of SQLite's machine between two looks at the clock, about a millisecond


class SqliteReader(ABC):
    """The questions of `Reader`, in terms of one statement at a time."""

    def __init__(self, path: Path, *, patience: float = PATIENCE, longest_read: float = LONGEST_READ) -> None:
        self._path = path
        self._patience = patience
        self._longest = longest_read
        self._deadline = 0.0
        self._closed = False

    @abstractmethod
    async def _fetch(self, query: Query) -> Rows:
        """Run a statement and give all of its rows."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of connections and threads. Closing twice is fine."""

    async def read_runs(
        self,
        where: RunFilter,
        *,
        limit: int = 200,
        cursor: bytes | None = None,
        newest_first: bool = False,
        offset: int = 0,
        order: RunOrder = RunOrder.CREATED,
    ) -> Page:
        """Give a page of `RunRecord`, at most `limit`, in order of id or another order."""
        rows = await self._fetch(queries.page_of_runs(where, limit, cursor, newest_first, offset, order))
        more, rows = len(rows) > limit, rows[:limit]
        if not rows:
            return Page(())
        ids: list[bytes] = [row[0] for row in rows]
        tags = await self._fetch(queries.tags_of(ids))
        inputs = await self._fetch(queries.inputs_of(ids))
        items: tuple[RunRecord, ...] = decode.runs(rows, tags, inputs)
        return Page(items, ordering.cursor_after(items[-1], order) if more else None)

    async def count_runs(self, where: RunFilter) -> int:
        """Count the runs that match (a scan: only when asked)."""
        return int((await self._fetch(queries.count_of_runs(where)))[0][0])

    async def count_states(self, where: RunFilter) -> dict[tuple[Kind, str], int]:
        """Count matching runs by kind and state name, in one statement."""
        counts: dict[tuple[Kind, str], int] = {}
        for kind, code, name, count in await self._fetch(queries.counts_by_state(where)):
            if count:
                key = (Kind(kind), name_of(code, name))
                counts[key] = counts.get(key, 0) + count
        return counts

    async def read_states(self, run_id: UUID) -> tuple[StateRecord, ...]:
        """Give every state of a run, oldest first."""
        return decode.states(run_id, await self._fetch(queries.states_of(run_id)))

    async def read_states_of(self, run_ids: Sequence[UUID]) -> dict[UUID, tuple[StateRecord, ...]]:
        """Give every state of several runs, oldest first, in one statement."""
        return decode.states_of_many(await self._fetch(queries.states_of_many(run_ids)))

    async def read_definitions(
        self, kind: Kind, where: RunFilter | None = None
    ) -> tuple[tuple[Definition, int | None], ...]:
        """Give definitions by name, each with the creation of its first run; only those with matching runs."""
        rows = await self._fetch(queries.definitions(kind, where))
        return tuple((Definition(Kind(row[0]), *row[1:4]), row[4]) for row in rows)

    async def read_logs(
        self,
        where: LogFilter,
        *,
        limit: int = 200,
        cursor: bytes | None = None,
        newest_first: bool = False,
        offset: int = 0,
    ) -> Page:
        """Give a page of `LogRecord`, in order of writing."""
        rows = await self._fetch(queries.page_of_logs(where, limit, cursor, newest_first, offset))
        more, rows = len(rows) > limit, rows[:limit]
        items: tuple[LogRecord, ...] = decode.logs(rows)
        return Page(items, queries.log_cursor(rows[-1][1], rows[-1][2], rows[-1][0]) if more else None)

    async def read_outcomes(
        self, flow_run_id: UUID, *, run_id: UUID | None = None, every: bool = False
    ) -> tuple[OutcomeRecord, ...]:
        """Give what the run journal recorded inside a flow run, or of one run in it: the newest of each identity, or all."""
        found = decode.outcomes(flow_run_id, await self._fetch(queries.outcomes_in(flow_run_id, run_id)))
        return found if every else newest_of_each(found)

    async def read_outcomes_of(self, flow_run_ids: Sequence[UUID]) -> dict[UUID, tuple[OutcomeRecord, ...]]:
        """Give the newest outcome of each identity in several flow runs, in one statement."""
        found = decode.outcomes_of_many(await self._fetch(queries.outcomes_of_many(flow_run_ids)))
        return {flow_run_id: newest_of_each(outcomes) for flow_run_id, outcomes in found.items()}

    async def read_inputs(
        self, run_id: UUID, *, key: str | None = None, prefix: str = "", limit: int | None = None
    ) -> tuple[InputRecord, ...]:
        """Give what a flow run was handed, oldest first."""
        return decode.inputs(run_id, await self._fetch(queries.handed_to(run_id, key, prefix, limit)))

    async def read_letters(self, tokens: Sequence[UUID]) -> tuple[Letter, ...]:
        """Give the letters of these tokens that are there."""
        return letters.decoded(await self._fetch(letters.by_token(tokens)))

    # ------------------------------------------------------------------------- for those who run statements

    def _connect(self) -> sqlite3.Connection:
        """Open a connection that cannot write and that stops itself after `longest_read`."""
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA query_only = 1")
            found = patiently(lambda: migrate.versions(connection), patience=self._patience)
            migrate.check(found, "min_reader", self._path)
            connection.set_progress_handler(self._too_late, _STEPS)
        except BaseException:
            connection.close()
            raise
        return connection

    def _too_late(self) -> int:
        return time.monotonic() > self._deadline

    def _explained(self, error: sqlite3.Error | OSError) -> Exception:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return mishaps.reading_took_too_long(self._path, self._longest)
        return mishaps.translate(error, self._path, self._patience)


class BlockingReader(SqliteReader):
    """Runs statements in the calling thread: its coroutines never suspend. Any thread may use it."""

    def __init__(self, path: Path, *, patience: float = PATIENCE, longest_read: float = LONGEST_READ) -> None:
        super().__init__(path, patience=patience, longest_read=longest_read)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        forks.remember(self)

    async def _fetch(self, query: Query) -> Rows:
        return self.fetch(query)

    def fetch(self, query: Query) -> Rows:
        """Run a statement in the calling thread."""
        with self._lock:
            if self._closed:
                raise mishaps.closed(self._path)
            try:
                connection = self._connection
                if connection is None:
                    connection = self._connection = self._connect()
                return patiently(lambda: self._run(connection, query), patience=self._patience)
            except (sqlite3.Error, OSError) as error:
                raise self._explained(error) from error

    @contextmanager
    def snapshot(self) -> Generator[None]:
        """Have everything that is read in the block be from one moment.

        No read in it is stopped: the write-ahead log cannot be emptied before the block ends in any case.
        """
        self.fetch(Query("BEGIN", ()))
        longest, self._longest = self._longest, math.inf
        try:
            yield
        finally:
            self._longest = longest
            self.fetch(Query("COMMIT", ()))

    def _run(self, connection: sqlite3.Connection, query: Query) -> Rows:
        self._deadline = time.monotonic() + self._longest
        return connection.execute(query.sql, query.params).fetchall()

    async def aclose(self) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection, in the calling thread."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def forget_after_fork(self) -> None:
        """Let go of the parent's connection without closing it."""
        forks.leak(self._connection)
        self._connection = None
        self._lock = threading.Lock()


class HoppingReader(BlockingReader):
    """Runs statements on a thread, for event loops that aiosqlite does not know."""

    def __init__(self, path: Path, hop: Hop, *, patience: float = PATIENCE, longest_read: float = LONGEST_READ) -> None:
        super().__init__(path, patience=patience, longest_read=longest_read)
        self._hop = hop

    async def _fetch(self, query: Query) -> Rows:
        return await self._hop(lambda: self.fetch(query))


class AiosqliteReader(SqliteReader):
    """Runs statements by aiosqlite, on asyncio. The connection and its thread begin with the first read."""

    def __init__(self, path: Path, *, patience: float = PATIENCE, longest_read: float = LONGEST_READ) -> None:
        super().__init__(path, patience=patience, longest_read=longest_read)
        import anyio

        self._turn = anyio.Lock()
        self._connection: Any = None
        self._raw: sqlite3.Connection | None = None
        self._thread: Any = None

    async def _fetch(self, query: Query) -> Rows:
        import anyio

        async with self._turn:
            if self._closed:
                raise mishaps.closed(self._path)
            try:
                connection = self._connection
                if connection is None:
                    with standing():
                        connection = self._connection = await self._open()
                for pause in pauses(self._patience):
                    try:
                        self._deadline = time.monotonic() + self._longest
                        with standing():
                            return list(await connection.execute_fetchall(query.sql, query.params))
                    except sqlite3.Error as error:
                        if not is_held(error):
                            raise
                    await anyio.sleep(pause)
                raise mishaps.held(self._path, self._patience)
            except (sqlite3.Error, OSError) as error:
                raise self._explained(error) from error

    async def _open(self) -> Any:
        import anyio
        from aiosqlite import Connection

        def connect() -> sqlite3.Connection:
            self._raw = self._connect()
            return self._raw

        connection = Connection(connect, iter_chunk_size=64)
        # A loop that ends without closing us must not keep the interpreter from ending.
        self._thread = getattr(connection, "_thread", connection)  # up to 0.21 it is itself the thread
        self._thread.daemon = True
        with anyio.CancelScope(shield=True):  # half opened, nobody could close it
            try:
                return await connection
            except BaseException:
                self._thread.join()  # it answers the loop once more, which may be gone by then
                raise

    async def aclose(self) -> None:
        """Close the connection and wait for its thread to end."""
        import anyio

        with anyio.CancelScope(shield=True):
            async with self._turn:
                self._closed = True
                connection, self._connection, self._raw = self._connection, None, None
                if connection is not None:
                    with standing():
                        await connection.close()
                    self._thread.join()


class AsyncReader(SqliteReader):
    """Finds out at the first read which event loop runs, and reads in that loop's way."""

    def __init__(self, path: Path, *, patience: float = PATIENCE, hop: Hop | None = None) -> None:
        super().__init__(path, patience=patience)
        self._hop = hop
        self._inner: SqliteReader | None = None

    async def _fetch(self, query: Query) -> Rows:
        if self._closed:
            raise mishaps.closed(self._path)
        if self._inner is None:
            self._inner = self._choose()
        return await self._inner._fetch(query)

    def _choose(self) -> SqliteReader:
        if self._hop is None and _on_asyncio():
            return AiosqliteReader(self._path, patience=self._patience)
        return HoppingReader(self._path, self._hop or own_threads(), patience=self._patience)

    async def aclose(self) -> None:
        """Close what the first read opened."""
        self._closed = True
        if self._inner is not None:
            await self._inner.aclose()


def own_threads(most: int = 4) -> Hop:
    """Give a hop with a limit of its own: the default one belongs to the host program."""
    import anyio
    import anyio.to_thread

    limiter: anyio.CapacityLimiter | None = None

    async def hop(function: Callable[[], Rows]) -> Rows:
        nonlocal limiter
        if limiter is None:
            limiter = anyio.CapacityLimiter(most)
        return await anyio.to_thread.run_sync(function, limiter=limiter)

    return hop


def _on_asyncio() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
