"""The journal: one commit order, written by a daemon thread that needs nothing from any event loop.

Entries are queued by `put` in the order in which they were accepted. Whoever commits (the thread, or a caller
on the spot) takes everything queued so far, in order, in one transaction, so what is on disk is always a
prefix of what was accepted. A batch that failed stays in front and is committed again before anything newer.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from callsheet._model.kinds import Durability
from callsheet._model.records import (
    Entry,
    InputsResolved,
    LogWritten,
    OutcomeRecorded,
    Refusal,
    RunCreated,
    RunRenamed,
    StateEntered,
)
from callsheet._store import forks, mishaps
from callsheet._store.memory import MemoryStore
from callsheet._store.patience import pauses
from callsheet._store.protocol import Store
from callsheet.exceptions import StoreClosed, StoreError, StoreNotADatabase, StoreTooNew, StoreUnavailable

GATHER = 0.015
"""Seconds that entries wait for company, unless somebody waits for them."""
MOST_ROWS = 10_000
MOST_BYTES = 64 << 20
ON_THE_SPOT = 256
"""Entries that a caller commits itself at most; more is left to the thread."""
MOST_PER_COMMIT = 5_000
_RETRY_LONGEST = 2.0
_HOPELESS = (StoreTooNew, StoreNotADatabase, StoreClosed)
_logger = logging.getLogger("callsheet.journal")

Callback = Callable[[], None]


class Lost(msgspec.Struct, frozen=True):
    """What could not be saved, in the order in which it was accepted, and why. False when nothing was lost."""

    entries: tuple[Entry, ...] = ()
    reason: StoreError | None = None

    def __bool__(self) -> bool:
        return bool(self.entries)

    def as_error(self) -> StoreError:
        """Give an error of the reason's kind whose message tells exactly what is missing."""
        kinds: dict[str, int] = {}
        for entry in self.entries:
            what = _WORDS[entry.__class__]
            kinds[what] = kinds.get(what, 0) + 1
        missing = ", ".join(f"{count} {what}" for what, count in kinds.items())
        runs = {run for entry in self.entries if (run := _run_of(entry)) is not None}
        error = (StoreUnavailable if self.reason is None else type(self.reason))(
            f"History of {len(runs)} runs could not be saved ({missing}). {self.reason or ''}".strip()
        )
        error.add_note("Runs concerned: " + ", ".join(map(str, sorted(runs))))
        return error


def call_all(callbacks: list[Callback]) -> None:
    """Call callbacks one after the other; an error in one is logged and does not keep the others waiting."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _logger.exception("A callback of the journal failed")


class Journal:
    """Takes entries from any thread and gets them into a store.

    Args:
        store: where entries go; `start` opens it.
        level: how much is promised, see the guarantees page. At ``off`` entries are kept only by a memory store.
        fire: runs the callbacks of waiters, in the committing thread.
        gather: seconds that entries wait for company, unless somebody waits for them.
        sync_interval: seconds after which at the latest what was committed also survives a power loss.
        ack_deadline: seconds of failing after which waiters are told (`failure`).

    Example:
        >>> journal = Journal(MemoryStore(), Durability.RELAXED)
        >>> journal.start()
        >>> journal.committed
        0
        >>> bool(journal.close())
        False
    """

    def __init__(
        self,
        store: Store,
        level: Durability,
        *,
        fire: Callable[[list[Callback]], None] = call_all,
        gather: float = GATHER,
        sync_interval: float = 1.0,
        ack_deadline: float = 30.0,
    ) -> None:
        self._store = store
        self._level = level
        self._fire = fire
        self._gather = gather
        self._sync_interval = sync_interval
        self._ack_deadline = ack_deadline
        self._refused: list[Callable[[Entry, Refusal], None]] = []
        self._note = store.note if isinstance(store, MemoryStore) else None
        self._positions = itertools.count(1).__next__
        self._order = itertools.count()
        self._reset()
        forks.remember(self)

    def _reset(self) -> None:
        self._gate = threading.Lock()  # the queue and the flags; held for less than a microsecond
        self._writer = threading.Lock()  # held by whoever commits
        self._bell = threading.Lock()  # wakes the thread: released to ring
        self._bell.acquire()
        self._rung = False
        self._idle = False
        self._urgent = False
        self._stopping = False
        self._closed = False
        self._queue: list[Entry] = []
        self._batch: list[Entry] | None = None
        self._accepted = 0
        self._committed = sys.maxsize if self._level is Durability.OFF else 0
        self._bytes = 0
        self._waiters: list[tuple[int, int, Callback]] = []
        self._thread: threading.Thread | None = None
        self._unsynced_since: float | None = None
        self._failing_since: float | None = None
        self._held_since: float | None = None
        self._degraded: StoreError | None = None
        self._failure: StoreError | None = None

    # ----------------------------------------------------------------------------------------- state

    @property
    def committed(self) -> int:
        """Everything up to this position is committed (at level ``off``, whatever is accepted)."""
        return self._committed

    @property
    def accepted(self) -> int:
        """The position of the newest entry."""
        return self._accepted

    @property
    def degraded(self) -> StoreError | None:
        """Why commits fail just now. They are tried again until they succeed."""
        return self._degraded

    @property
    def failure(self) -> StoreError | None:
        """Why waiters were let go without a commit: it failed for too long, or cannot succeed."""
        return self._failure

    @property
    def crowded(self) -> bool:
        """Tell whether so much waits to be committed (10,000 rows or 64 MiB) that acknowledgements should wait."""
        return self._accepted - self._committed >= MOST_ROWS or self._bytes >= MOST_BYTES

    @property
    def full(self) -> bool:
        """Tell whether nothing new should begin: commits fail, and what waits for them fills the buffer."""
        return self._degraded is not None and self.crowded

    # ------------------------------------------------------------------------------------ start, stop

    def start(self) -> None:
        """Open the store and start the thread. Without threads (interpreter shutdown) callers commit themselves.

        Raises:
            StoreError: the store cannot be opened; one of its kinds says why.
        """
        self._store.open()
        if self._level is Durability.OFF or self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="callsheet-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # "can't create new thread at interpreter shutdown"
            return
        self._thread = thread

    def close(self, timeout: float = 10.0) -> Lost:
        """Commit what is left, end the thread, and say what could not be saved. The store stays open.

        Args:
            timeout: seconds for all of it.
        """
        deadline = time.monotonic() + timeout
        with self._gate:
            self._stopping = True
            self._ring()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        # The thread may be stuck in a dying disk; then its batch is lost, and said to be.
        if self._writer.acquire(timeout=max(0.01, deadline - time.monotonic())):
            try:
                callbacks = self._finish(deadline)
            finally:
                self._writer.release()
            self._fire(callbacks)
        with self._gate:
            self._closed = True
            left = (*(self._batch or ()), *self._queue)
            callbacks = self._pop_waiters()
        if left and self._failure is None:
            self._failure = self._degraded or StoreUnavailable(
                f"The history in '{self._store.location}' did not answer."
            )
        self._fire(callbacks)
        return Lost(left, self._failure if left else None)

    def _finish(self, deadline: float) -> list[Callback]:
        callbacks: list[Callback] = []
        for pause in pauses(max(0.01, deadline - time.monotonic())):
            done = self._commit_next(callbacks)
            if self._committed >= self._accepted or isinstance(self._degraded, _HOPELESS):
                break
            if not done:
                time.sleep(pause)
                self._reopen()
        if self._unsynced_since is not None and self._degraded is None:
            self._sync(callbacks)
        return callbacks

    def forget_after_fork(self) -> None:
        """Begin empty in a forked child: what the parent accepted is the parent's to commit."""
        self._reset()
        self._closed = True

    # ----------------------------------------------------------------------------------------- accept

    def put(self, entry: Entry) -> int:
        """Accept an entry and give its position in the one commit order (1, 2, 3 …). Never waits; any thread."""
        if self._level is Durability.OFF:
            return self._put_off(entry)
        with self._gate:
            if self._closed:
                raise StoreClosed(f"The journal of the history in '{self._store.location}' is closed.")
            self._queue.append(entry)
            self._accepted = position = self._accepted + 1
            if entry.__class__ in _HEAVY:
                self._bytes += _weight(entry)
            if self._idle:
                self._idle = False
                self._ring()
        return position

    def _put_off(self, entry: Entry) -> int:
        if self._note is not None:
            if entry.__class__ in _GUARDED and entry.guards:  # type: ignore[union-attr]
                self._tell_refused((entry,), self._store.commit((entry,)))
            else:
                self._note(entry)
        self._accepted = position = self._positions()
        return position

    def on_refused(self, callback: Callable[[Entry, Refusal], None]) -> None:
        """Call `callback(entry, refusal)` for entries whose guards did not hold, before those who wait for them."""
        self._refused.append(callback)

    def notify(self, position: int, callback: Callback) -> None:
        """Call `callback()` once everything up to `position` is committed, or `failure` is set; maybe at once."""
        with self._gate:
            now = self._committed >= position or self._failure is not None or self._closed
            if not now:
                heapq.heappush(self._waiters, (position, next(self._order), callback))
                self._hurry()
        if now:
            self._fire([callback])

    # ----------------------------------------------------------------------------------------- commit

    def flush_here(self, position: int) -> bool:
        """Commit in the calling thread everything queued, in order, if nobody else is at it.

        Returns:
            Whether everything up to `position` is committed. If not, the journal's thread was woken to do it.
        """
        if self._committed >= position:
            return True
        callbacks: list[Callback] = []
        if self._writer.acquire(blocking=False):
            try:
                if self._degraded is None and len(self._queue) <= ON_THE_SPOT:
                    self._commit_next(callbacks, on_the_spot=True)
            finally:
                self._writer.release()
        if callbacks:
            self._fire(callbacks)
        if self._committed >= position:
            return True
        with self._gate:
            self._hurry()
        return False

    def flush(self) -> None:
        """Wait in the calling thread until everything accepted so far is committed.

        Raises:
            StoreError: the commit failed for longer than the deadline, or cannot succeed.
        """
        position = self._accepted
        if self.flush_here(position):
            return
        if self._thread is None or not self._thread.is_alive():
            self._flush_without_thread(position)
        else:
            done = threading.Event()
            self.notify(position, done.set)
            done.wait()
        if self._committed < position and (error := self._failure or self._degraded):
            raise error

    def _flush_without_thread(self, position: int) -> None:
        callbacks: list[Callback] = []
        with self._writer:
            for pause in pauses(self._ack_deadline):
                if not self._commit_next(callbacks):
                    if isinstance(self._degraded, _HOPELESS):
                        break
                    time.sleep(pause)
                    self._reopen()
                if self._committed >= position:
                    break
        self._fire(callbacks)

    def _commit_next(self, callbacks: list[Callback], *, on_the_spot: bool = False) -> bool:
        """Commit the next batch; the caller holds the writer's lock. False: not now. Never raises."""
        batch = self._take()
        if not batch:
            return True
        # A caller on the spot may be an event loop: the one commit a second that waits for the disk is not for it.
        sync = self._level is Durability.STRICT or (not on_the_spot and self._sync_is_due())
        try:
            refusals = self._written(batch, sync)
        except StoreError as error:
            self._failed(error, callbacks)
            return False
        if refusals is None:
            self._is_held(callbacks)
            return False
        self._batch = None
        self._held_since = None
        self._unsynced_since = None if sync else self._unsynced_since or time.monotonic()
        if refusals:
            self._tell_refused(batch, refusals)
        self._advance(batch, callbacks)
        return True

    def _take(self) -> list[Entry]:
        batch = self._batch
        if batch is None:
            with self._gate:
                batch = self._queue[:MOST_PER_COMMIT]
                if len(batch) == len(self._queue):
                    self._queue = []
                else:
                    del self._queue[:MOST_PER_COMMIT]
                self._batch = batch or None
        return batch

    def _advance(self, batch: list[Entry], callbacks: list[Callback]) -> None:
        with self._gate:
            self._committed += len(batch)
            if self._bytes:
                self._bytes -= sum(_weight(entry) for entry in batch)
            waiters = self._waiters
            while waiters and waiters[0][0] <= self._committed:
                callbacks.append(heapq.heappop(waiters)[2])
            self._urgent = bool(waiters)
        self._well_again()

    def _written(self, batch: list[Entry], sync: bool) -> list[Refusal] | None:
        try:
            return self._store.try_commit(batch, sync=sync)
        except StoreError:
            raise
        except Exception:
            _logger.exception("Writing history failed in an unforeseen way; trying its entries one by one")
        refusals: list[Refusal] = []
        for index, entry in enumerate(batch):
            try:
                refusals += [Refusal(index, one.guard, one.current) for one in self._store.commit([entry], sync=sync)]
            except StoreError:
                raise
            except Exception:
                _logger.exception("An entry cannot be written and is left out of history: %r", entry)
        return refusals

    def _tell_refused(self, batch: Any, refusals: list[Refusal]) -> None:
        for refusal in refusals:
            for callback in self._refused:
                try:
                    callback(batch[refusal.index], refusal)
                except Exception:
                    _logger.exception("A callback of the journal failed")

    # ---------------------------------------------------------------------------------- when it fails

    def _failed(self, error: StoreError, callbacks: list[Callback]) -> None:
        now = time.monotonic()
        if self._degraded is None:
            self._failing_since = self._failing_since or now
            _logger.warning("History is not being saved just now and is kept in memory: %s", error)
        self._degraded = error
        since = self._failing_since or now
        if isinstance(error, _HOPELESS) or now - since >= self._ack_deadline:
            self._failure = error
            with self._gate:
                callbacks += self._pop_waiters()

    def _is_held(self, callbacks: list[Callback]) -> None:
        now = time.monotonic()
        self._held_since = since = self._held_since or now
        if now - since >= self._ack_deadline:
            self._failing_since = since
            self._failed(mishaps.held(self._store.location, now - since), callbacks)

    def _well_again(self) -> None:
        if self._degraded is not None:
            _logger.warning("History is being saved again in '%s'; nothing was lost.", self._store.location)
            self._degraded = self._failure = None
            self._failing_since = None

    def _reopen(self) -> None:
        """Begin anew after an error of the disk: what SQLite still has in memory is not to be believed."""
        if self._degraded is None:
            return
        try:
            self._store.close()
            self._store.open()
        except StoreError as error:
            self._degraded = error

    def _pop_waiters(self) -> list[Callback]:
        callbacks = [callback for _, _, callback in sorted(self._waiters, key=lambda waiter: waiter[:2])]
        self._waiters.clear()
        self._urgent = False
        return callbacks

    # ------------------------------------------------------------------------------------- the thread

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.release()

    def _hurry(self) -> None:
        """Let the thread commit at once; the caller holds the gate."""
        self._urgent = True
        self._idle = False
        self._ring()

    def _sleep(self, seconds: float | None) -> None:
        """Sleep until somebody rings, without polling."""
        if self._bell.acquire(timeout=-1 if seconds is None else max(0.0, seconds)):
            with self._gate:
                self._rung = False

    def _run(self) -> None:
        attempts = 0
        while not self._closed:
            try:
                self._wait_for_work()
                if not (self._urgent or self._stopping):
                    self._sleep(self._gather)
                attempts = 0 if self._work() else attempts + 1
                if self._stopping and (self._committed == self._accepted or self._degraded is not None):
                    return  # close() sees to the rest
                if attempts:
                    self._pause(attempts)
            except Exception:  # whatever it was, the thread that saves history goes on
                _logger.exception("The journal stumbled")
                time.sleep(self._gather)

    def _work(self) -> bool:
        callbacks: list[Callback] = []
        with self._writer:
            done = self._commit_next(callbacks)
            if done and self._sync_is_due():
                done = self._sync(callbacks)
        if callbacks:
            self._fire(callbacks)
        if done and not self._waiters:
            self._store.tend()
        return done

    def _wait_for_work(self) -> None:
        while True:
            with self._gate:
                if self._queue or self._batch or self._stopping or self._sync_is_due():
                    self._idle = False
                    return
                self._idle = True
                since = self._unsynced_since
            self._sleep(None if since is None else since + self._sync_interval - time.monotonic())

    def _pause(self, attempts: int) -> None:
        if self._degraded is None:  # somebody else holds the place
            time.sleep(next(pauses()) * min(attempts, 8))
            return
        self._sleep(min(0.05 * 2 ** min(attempts, 6), _RETRY_LONGEST))
        with self._writer:
            self._reopen()

    def _sync_is_due(self) -> bool:
        since = self._unsynced_since
        return since is not None and time.monotonic() - since >= self._sync_interval

    def _sync(self, callbacks: list[Callback]) -> bool:
        """Let what was committed survive a power loss; the caller holds the writer's lock."""
        try:
            if self._store.try_commit((), sync=True) is None:
                return False
        except StoreError as error:
            self._failed(error, callbacks)
            return False
        self._unsynced_since = None
        self._well_again()
        return True


_WORDS: dict[type, str] = {
    RunCreated: "creations",
    StateEntered: "states",
    RunRenamed: "names",
    InputsResolved: "inputs",
    OutcomeRecorded: "outcomes",
    LogWritten: "log records",
}


def _run_of(entry: Entry) -> UUID | None:
    match entry:
        case RunCreated():
            return entry.id
        case LogWritten():
            return entry.task_run_id or entry.flow_run_id
        case _:
            return entry.run_id


_GUARDED = frozenset({RunCreated, StateEntered})
_HEAVY = frozenset({OutcomeRecorded, RunCreated, InputsResolved, LogWritten})


def _weight(entry: Entry) -> int:
    """Give the bytes of an entry that may be large; the rest is counted by rows."""
    match entry:
        case OutcomeRecorded(result=result):
            return 0 if result is None or result.inline is None else len(result.inline)
        case RunCreated(parameters=bytes() as body) | InputsResolved(parameters=bytes() as body):
            return len(body)
        case LogWritten(message=message):
            return len(message)
        case _:
            return 0
