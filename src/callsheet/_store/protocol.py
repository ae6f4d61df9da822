"""What the engine asks of a place that keeps history. No SQL, connection or row id passes this border."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from callsheet._model.engines import EngineRecord, Taken, WaitingRun
from callsheet._model.kinds import Kind, RunOrder
from callsheet._model.letters import Letter
from callsheet._model.records import (
    Definition,
    Entry,
    InputRecord,
    LogFilter,
    OutcomeRecord,
    Page,
    Refusal,
    RunFilter,
    StateRecord,
)


class Engines(Protocol):
    """What a store knows of the engines that share it."""

    @property
    def is_entered(self) -> bool:
        """Tell whether this engine's own row is committed, or will be with its next transaction."""
        ...

    def enter(self, me: EngineRecord) -> None:
        """Have this engine's row written in the next transaction; from then on every commit asks for it."""
        ...

    def touch(self) -> None:
        """Have this engine's beat renewed in the next transaction."""
        ...

    def renew(self) -> bool:
        """Renew this engine's beat. False: another process holds the place just now.

        Raises:
            LostOwnership: Others have taken this engine for dead.
        """
        ...

    def when_renewed(self, callback: Callable[[float], None]) -> None:
        """Call `callback(since)` whenever this engine's beat is committed, by whichever transaction.

        `since` is from before that commit, in seconds of `time.monotonic`. One callback; the next takes its place.
        """
        ...

    def on_news(self, callback: Callable[[], None]) -> bool:
        """Have `callback()` called, from any thread, when other engines have committed. One; the next takes its place.

        Returns:
            Whether it will be. If not, somebody is to look again and again (`Store.changed_outside`).
        """
        ...

    def leave(self) -> None:
        """Remove this engine's row, unless runs are left to it."""
        ...

    def read(self) -> tuple[EngineRecord, ...]:
        """Give every listed engine."""
        ...

    def fence(self, engine_id: UUID, beat: int | None = None) -> bool:
        """Find an engine dead: what it has made durable so far is kept, and nothing of it from now on.

        Args:
            engine_id: The engine.
            beat: Its last sign of life that was seen; one that came since refutes it.

        Returns:
            Whether this call did it. Of several at the same time one does.
        """
        ...

    def left(self, limit: int, after: UUID | None = None) -> tuple[WaitingRun, ...]:
        """Give root runs of dead engines, in order of id; `after` skips those up to a run."""
        ...

    def unowned(self, at: int, limit: int, after: UUID | None = None) -> tuple[WaitingRun, ...]:
        """Give root runs of nobody that are due, in order of id: those that were resumed, or retried."""
        ...

    def take(self, run_ids: Sequence[UUID], *, at: int, known: bool = True) -> tuple[Taken, ...]:
        """Take runs up, at once for all processes: see `judge_taking`. Each is to be had or not by itself.

        Args:
            run_ids: The runs, all of them roots.
            at: Now.
            known: Whether any living engine knows their flows.

        Returns:
            What became of them, in order of id; those that are not to be had (any more) are left out.
        """
        ...

    def sweep(self) -> None:
        """Remove rows of dead engines that own nothing any more."""
        ...

    def forget(self) -> None:
        """Be no engine any more: what was said of it belongs to another process."""
        ...


class Reader(Protocol):
    """Reads history. The methods suspend only where the reader really waits.

    `blocking_reader()` of a store gives one whose coroutines never suspend, so a thread without a loop
    can step them to their end.
    """

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
        """Give a page of `RunRecord`, at most `limit`, in order of id (creation) or another order.

        `newest_first` turns any order around. A cursor continues the order that it came from (`ValueError`
        for another one).
        """
        ...

    async def count_runs(self, where: RunFilter) -> int:
        """Count the runs that match (a scan: only when asked)."""
        ...

    async def count_states(self, where: RunFilter) -> dict[tuple[Kind, str], int]:
        """Count matching runs by kind and state name, in one statement."""
        ...

    async def read_states(self, run_id: UUID) -> tuple[StateRecord, ...]:
        """Give every state of a run, oldest first."""
        ...

    async def read_states_of(self, run_ids: Sequence[UUID]) -> dict[UUID, tuple[StateRecord, ...]]:
        """Give every state of several runs, oldest first, in one statement. Runs that have none are left out."""
        ...

    async def read_definitions(
        self, kind: Kind, where: RunFilter | None = None
    ) -> tuple[tuple[Definition, int | None], ...]:
        """Give definitions by name, each with the creation of its first run; only those with matching runs."""
        ...

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
        ...

    async def read_outcomes(
        self, flow_run_id: UUID, *, run_id: UUID | None = None, every: bool = False
    ) -> tuple[OutcomeRecord, ...]:
        """Give what the run journal recorded inside a flow run, or of one run in it: the newest of each identity, or all.

        What a flow run under a run key has come to itself is recorded in it under its own id.
        """
        ...

    async def read_outcomes_of(self, flow_run_ids: Sequence[UUID]) -> dict[UUID, tuple[OutcomeRecord, ...]]:
        """Give the newest outcome of each identity in several flow runs, in one statement. Those without are left out."""
        ...

    async def read_inputs(
        self, run_id: UUID, *, key: str | None = None, prefix: str = "", limit: int | None = None
    ) -> tuple[InputRecord, ...]:
        """Give what a flow run was handed, oldest first: under this key, or under those that begin with `prefix`."""
        ...

    async def read_letters(self, tokens: Sequence[UUID]) -> tuple[Letter, ...]:
        """Give the letters of these tokens that are there."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads. Closing twice is fine."""
        ...


class SnapshotReader(Reader, Protocol):
    """A reader whose coroutines never suspend, and that can stand still in time."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Have everything that is read in the block be from one moment. What is written meanwhile piles up: be quick."""
        ...


class Store(Protocol):
    """Keeps history. One thread at a time commits; readers are independent of it."""

    @property
    def location(self) -> str:
        """Where the history is, for people: a path, or ``memory``."""
        ...

    @property
    def is_shared(self) -> bool:
        """Tell whether other engines may read and write the same history."""
        ...

    @property
    def engines(self) -> Engines:
        """Give what is known of the engines that share the place."""
        ...

    def open(self) -> None:
        """Create or migrate what is needed. Opening twice is fine, and opening after `close` opens again.

        Raises:
            StoreError: one of its kinds says what is wrong with the place and how to mend it.
        """
        ...

    def commit(self, entries: Sequence[Entry], *, sync: bool = False) -> list[Refusal]:
        """Apply entries in one transaction, in order, except those whose guards do not hold.

        With `sync` the commit survives a power loss. On an error nothing was applied, or all was: the caller
        commits the same entries again, which is harmless.
        """
        ...

    def append(self, entries: Sequence[Entry]) -> int | None:
        """Have entries outlive this process, at the lowest price; readers see them after the commit that settles them.

        Returns:
            A number that grows with each call, for `settled`. `None`: not possible now, or not with these
            entries, or not cheaper than a commit.
        """
        ...

    def adoptable(self) -> bool:
        """Tell whether `adopt` may have something to do. Waits for milliseconds at most."""
        ...

    def adopt(self) -> None:
        """Make readable what other processes have made durable by `append` and not committed yet.

        Raises:
            StoreError: the place cannot be read or written.
        """
        ...

    def prepare(self, entries: Sequence[Entry]) -> None:
        """Do for the next `try_commit` of these entries what can be done without holding up anybody."""
        ...

    def try_commit(self, entries: Sequence[Entry], *, sync: bool = False, settled: int = 0) -> list[Refusal] | None:
        """Commit, or give `None` at once where another process holds the place. Never waits.

        `settled` says that what was appended up to this number is among the entries, in front.
        """
        ...

    def tend(self) -> None:
        """Do what keeps the place small and quick, beside commits. Called by one thread, from time to time."""
        ...

    def forget_after_fork(self) -> None:
        """Let go of everything in a forked child, touching nothing of the parent's; it may be opened again."""
        ...

    def changed_outside(self) -> bool:
        """Tell whether another process committed since the last call (3 µs)."""
        ...

    def letters_to(self, engine_id: UUID, after: int = 0) -> tuple[Letter, ...]:
        """Give the unanswered letters to an engine whose numbers are higher, in order of arrival (blocking)."""
        ...

    def wait(self, topics: Sequence[str], deadline: float, *, stopped: Callable[[], bool]) -> Sequence[str]:
        """Wait in the calling thread until something of these topics may have changed (monotonic seconds)."""
        ...

    def now(self) -> int:
        """Give the store's time, in microseconds since the epoch."""
        ...

    def reader(self) -> Reader:
        """Give a reader for the running event loop's library (asyncio or trio)."""
        ...

    def blocking_reader(self) -> SnapshotReader:
        """Give a reader whose coroutines never suspend, for threads without an event loop."""
        ...

    def close(self) -> None:
        """Checkpoint and close. Closing twice is fine."""
        ...
