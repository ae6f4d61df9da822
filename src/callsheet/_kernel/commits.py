"""The commit order: what was accepted, what of it is committed, and who waits for how much of it."""

from __future__ import annotations

import heapq
import itertools
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from callsheet._clock import machine
from callsheet._kernel.lease import Lease
from callsheet._kernel.limits import MOST_BYTES, MOST_PER_COMMIT, MOST_ROWS, SETTLED_AT_ONCE
from callsheet._kernel.lost import weight
from callsheet._kernel.spawning import threads
from callsheet._kernel.trouble import Trouble
from callsheet._model.kinds import Durability
from callsheet._model.records import Entry, OutcomeRecorded, Refusal
from callsheet._store import mishaps
from callsheet._store.protocol import Store
from callsheet.exceptions import LostOwnership, StoreError, StoreTooNew

ALL: Final = sys.maxsize
"""Everything that was appended to the redo log."""
# Names of their own: looking a member up in its enumeration costs as much as calling a function (3.11).
OFF: Final = Durability.OFF
_STRICT: Final = Durability.STRICT
_logger = logging.getLogger("callsheet.journal")

Callback = Callable[[], None]
T = TypeVar("T")


def call_all(callbacks: list[Callback]) -> None:
    """Call callbacks one after the other; an error in one is logged and does not keep the others waiting."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _logger.exception("A callback of the journal failed")


class Commits:
    """The queue of a journal and the way from there into the store.

    Only the holder of the writer's lock commits; the gate guards the queue and the numbers.

    Args:
        store: where entries go.
        level: how much is promised.
        sync_interval: seconds after which at the latest what was committed also survives a power loss.
        ack_deadline: seconds of failing after which waiters are told (`failure`).
    """

    def __init__(self, store: Store, level: Durability, *, sync_interval: float, ack_deadline: float) -> None:
        self._store = store
        self._level = level
        self._sync_interval = sync_interval
        self._ack_deadline = ack_deadline
        self._refused: list[Callable[[Entry, Refusal], None]] = []
        self._lost_by: list[Callback] = []
        self._order = itertools.count()
        self._reset()

    def _reset(self) -> None:
        self._gate = threading.Lock()  # the queue and the numbers; held for less than a microsecond
        self._bell = threads.bell(self._gate)  # wakes the thread
        self._refuses = False  # nothing more is accepted
        self._closed = False
        self._writer = threads.lock()  # held by whoever commits
        self._urgent = False
        self._queue: list[Entry] = []
        self._batch: list[Entry] | None = None
        self._batch_end = 0
        self._accepted = 0
        self._committed = sys.maxsize if self._level is OFF else 0
        self._accepted_bytes = self._batch_end_bytes = self._committed_bytes = 0  # as the positions, of large values
        self._waiters: list[tuple[int, int, Callback]] = []
        # What is durable in the store's redo log and not in its tables yet: the log's number, position, entries.
        self._logged: list[tuple[int, int, list[Entry]]] = []
        self._logged_since = 0.0
        self._shown = self._committed  # everything up to this position can be read
        self._watchers: list[tuple[int, int, Callback]] = []  # who waits for that
        self._followers: tuple[Callback, ...] = ()  # who wants to know whenever that grows
        self._unsynced_since: float | None = None
        self._trouble = Trouble(self._store.location, self._ack_deadline)
        self._shut = False  # the store was closed to begin anew, and could not be opened again so far
        self.is_lost = False  # others took the engine for dead: nothing is committed any more, and nobody waits

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
    def shown(self) -> int:
        """Everything up to this position can be read."""
        return self._shown

    @property
    def degraded(self) -> StoreError | None:
        """Why commits fail just now. They are tried again until they succeed."""
        return self._trouble.degraded

    @property
    def failure(self) -> StoreError | None:
        """Why waiters were let go without a commit: it failed for too long, or cannot succeed."""
        return self._trouble.failure

    @property
    def crowded(self) -> bool:
        """Tell whether so much waits to be committed (10,000 rows or 64 MiB) that acknowledgements should wait."""
        return (
            self._accepted - self._committed >= MOST_ROWS or self._accepted_bytes - self._committed_bytes >= MOST_BYTES
        )

    @property
    def full(self) -> bool:
        """Tell whether nothing new should begin: commits fail, and what waits for them fills the buffer."""
        return self._trouble.degraded is not None and self.crowded

    def on_refused(self, callback: Callable[[Entry, Refusal], None]) -> None:
        """Call `callback(entry, refusal)` for entries whose guards did not hold, before those who wait for them."""
        self._refused.append(callback)

    def on_lost(self, callback: Callback) -> None:
        """Call `callback()` when others have taken the engine for dead, outside of every lock."""
        self._lost_by.append(callback)

    # ---------------------------------------------------------------------------------------- commit

    def _commit_next(self, callbacks: list[Callback], *, on_the_spot: bool = False) -> bool:
        """Commit the next batch to the tables; the caller holds the writer's lock. False: not now. Never raises."""
        batch = self._take()
        logged = self._logged
        if not batch and not logged:
            return True
        settled = ALL if logged else 0
        whole = [*(entry for _, _, entries in logged for entry in entries), *batch] if logged else batch
        refusals = self._attempt(lambda: self._written(whole, self._syncs(on_the_spot), settled), callbacks)
        if refusals is None:
            return False
        if refusals:
            self._tell_refused(whole, refusals)
        self._logged = []
        self._advance(callbacks)
        self._show(self._committed, callbacks)
        return True

    def _log_next(self, callbacks: list[Callback]) -> bool:
        """Make the next batch durable, on the spot, in the store's redo log; the tables follow. False: not now."""
        batch = self._take()
        if not batch:
            return True
        if self._level is _STRICT:  # the log outlives this process, not a power loss
            return False
        number = self._attempt(partial(self._store.append, batch), callbacks, is_needed=False)
        if number is None:
            return False
        if not self._logged:
            self._wrote(sync=False)
            self._logged_since = machine.monotonic()
        self._logged.append((number, self._batch_end, batch))
        self._advance(callbacks)
        return True

    def _settle(self, callbacks: list[Callback]) -> bool:
        """Write some of what the redo log holds to the tables; callers commit on the spot before and after."""
        batch: list[Entry] = []
        count = 0
        with self._writer:
            logged = self._logged
            while count < len(logged) and len(batch) < SETTLED_AT_ONCE:
                batch += logged[count][2]
                count += 1
        if not batch:
            return True
        number, end, _ = logged[count - 1]
        with suppress(Exception):  # it only saves time; what cannot be written is told of where that is tried
            self._store.prepare(batch)
        with self._writer:
            if self._logged is not logged:
                return True  # somebody else has written them meanwhile
            if self._attempt(partial(self._written, batch, sync=False, settled=number), callbacks) is None:
                return False
            del logged[:count]
            self._show(end, callbacks)
            self._trouble.over()
        return True

    def _syncs(self, on_the_spot: bool) -> bool:
        # A caller on the spot may be an event loop: the one commit a second that waits for the disk is not for it.
        return self._level is Durability.STRICT or (not on_the_spot and self._sync_is_due())

    def _attempt(self, write: Callable[[], T | None], callbacks: list[Callback], *, is_needed: bool = True) -> T | None:
        """Write; `None`: not now. What goes wrong is noted, and waiters are let go where there is no hope.

        What is not needed can be done in another way, so that nobody hears of it.
        """
        try:
            if self._shut:
                self._open_again()
            done = write()
        except LostOwnership as error:
            self._lose(error, callbacks)
            return None
        except StoreTooNew as error:  # for good, and newer programs go on with the runs
            lost = mishaps.shut_out(error)
            _logger.error("%s", lost)
            self._lose(lost, callbacks)
            return None
        except StoreError as error:
            self._trouble.failed(error)
            done = None
        else:
            if done is None and is_needed:
                self._trouble.held()
        if done is None and is_needed:
            self._let_go(callbacks)
        return done

    def _lose(self, error: LostOwnership, callbacks: list[Callback]) -> None:
        """Drop what waits and take nothing more: the runs that it speaks of belong to another engine."""
        with self._gate:
            if self._closed:
                return
            self._closed = self._refuses = True
            self._queue, self._batch, self._logged = [], None, []
            self._committed_bytes = self._accepted_bytes
            self.is_lost = True  # before whoever looks may take the next line for a commit
            self._committed = self._shown = sys.maxsize
            self._unsynced_since = None
            self._trouble.failure = self._trouble.degraded = error
            callbacks += self._pop_waiters()
            self._bell.ring()
        callbacks += (*self._lost_by, *self._followers)  # who follows looks where the history goes on

    def abandon(self, why: LostOwnership) -> None:
        """Drop what waits and take nothing more, as if others had taken the engine for dead."""
        callbacks: list[Callback] = []
        self._lose(why, callbacks)
        call_all(callbacks)

    def _renew(self, lease: Lease, callbacks: list[Callback]) -> bool:
        """Give the engine's sign of life; the caller holds the writer's lock."""
        return self._attempt(lease.renew, callbacks) is not None

    def _wrote(self, *, sync: bool) -> None:
        self._unsynced_since = None if sync else self._unsynced_since or machine.monotonic()

    def _show(self, position: int, callbacks: list[Callback]) -> None:
        with self._gate:
            self._shown = position
            callbacks += self._followers
            while self._watchers and self._watchers[0][0] <= position:
                callbacks.append(heapq.heappop(self._watchers)[2])
            self._urgent = bool(self._waiters or self._watchers)

    def _take(self) -> list[Entry]:
        if self._batch is None and self._queue:
            gate = self._gate
            gate.acquire()  # here and below: half the price of `with`
            try:
                batch, end, end_bytes = self._queue, self._accepted, self._accepted_bytes
                rest: list[Entry] = []
                if len(batch) > MOST_PER_COMMIT:
                    batch, rest = _cut(batch)
                    end -= len(rest)
                    end_bytes = self._batch_end_bytes + sum(map(weight, batch))
                # No call between these: an interrupt (Ctrl-C on the spot) finds all of them or none.
                self._batch, self._queue, self._batch_end, self._batch_end_bytes = batch, rest, end, end_bytes
            finally:
                gate.release()
        return self._batch or []

    def _advance(self, callbacks: list[Callback]) -> None:
        gate = self._gate
        gate.acquire()
        try:
            self._committed, self._committed_bytes, self._batch = self._batch_end, self._batch_end_bytes, None
            waiters = self._waiters
            while waiters and waiters[0][0] <= self._committed:
                callbacks.append(heapq.heappop(waiters)[2])
            self._urgent = bool(waiters or self._watchers)
        finally:
            gate.release()
        self._trouble.over()

    def _written(self, batch: list[Entry], sync: bool, settled: int) -> list[Refusal] | None:
        try:
            refusals = self._store.try_commit(batch, sync=sync, settled=settled)
            if refusals is not None:
                self._wrote(sync=sync)
            return refusals
        except StoreError:
            raise
        except Exception:
            _logger.exception("Writing history failed in an unforeseen way; trying its entries one by one")
        refusals = list[Refusal]()
        for index, entry in enumerate(batch):
            try:
                refusals += [Refusal(index, one.guard, one.current) for one in self._store.commit([entry], sync=sync)]
            except StoreError:
                raise
            except Exception:
                _logger.exception("An entry cannot be written and is left out of history: %r", entry)
        return refusals

    def _tell_refused(self, batch: Sequence[Entry], refusals: list[Refusal]) -> None:
        for refusal in refusals:
            for callback in self._refused:
                try:
                    callback(batch[refusal.index], refusal)
                except Exception:
                    _logger.exception("A callback of the journal failed")

    def _sync_is_due(self) -> bool:
        since = self._unsynced_since
        # Added up as where the thread asks how long it may sleep: rounded in another way, it would go round for nothing.
        return since is not None and since + self._sync_interval - machine.monotonic() <= 0

    def _sync(self, callbacks: list[Callback]) -> bool:
        """Let what was committed survive a power loss; the caller holds the writer's lock."""
        if self._logged:  # the redo log itself is not synced
            return self._commit_next(callbacks)
        if self._attempt(lambda: self._store.try_commit((), sync=True), callbacks) is None:
            return False
        self._unsynced_since = None
        self._trouble.over()
        return True

    # ---------------------------------------------------------------------------------- when it fails

    def _let_go(self, callbacks: list[Callback]) -> None:
        """Let waiters go when there is no hope of a commit soon."""
        if self._trouble.failure is not None:
            with self._gate:
                callbacks += self._pop_waiters()

    def _reopen(self) -> None:
        """Begin anew after an error of the disk: what SQLite still has in memory is not to be believed."""
        if self._trouble.degraded is None or self._closed:
            return
        self._shut = True
        try:
            self._store.close()
            self._open_again()
        except StoreError as error:
            self._trouble.failed(error)

    def _open_again(self) -> None:
        self._store.open()
        self._shut = False

    def _pop_waiters(self) -> list[Callback]:
        waiters = sorted((*self._waiters, *self._watchers), key=lambda waiter: waiter[:2])
        callbacks = [callback for _, _, callback in waiters]
        self._waiters.clear()
        self._watchers.clear()
        self._urgent = False
        return callbacks


def _cut(queue: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    # An outcome goes with the state in front of it: a run that has ended without one would be run again after a crash.
    end = MOST_PER_COMMIT + isinstance(queue[MOST_PER_COMMIT], OutcomeRecorded)
    return queue[:end], queue[end:]
