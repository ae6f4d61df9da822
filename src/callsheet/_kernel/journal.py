"""The journal: one commit order, written by a daemon thread that needs nothing from any event loop.

Entries are queued by `put` in the order in which they were accepted. Whoever commits (the thread, or a caller
on the spot) takes everything queued so far, in order, in one transaction, so what is on disk is always a
prefix of what was accepted. A batch that failed stays in front and is committed again before anything newer.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from collections.abc import Callable
from time import sleep  # of the machine: it only gives way

from callsheet._clock import machine, virtual_clock
from callsheet._kernel.commits import OFF, Callback, Commits, call_all
from callsheet._kernel.lease import Lease
from callsheet._kernel.limits import BEHIND, GATHER, GIVE_WAY, MOST_LOGGED, ON_THE_SPOT, RETRY_LONGEST, SETTLE_AFTER
from callsheet._kernel.lost import Lost, weight
from callsheet._kernel.outside import Outside
from callsheet._kernel.spawning import Thread, threads
from callsheet._kernel.trouble import TOLD_AFTER
from callsheet._model.kinds import Durability
from callsheet._model.records import Entry, InputStored, RunCreated, StateEntered
from callsheet._store import forks
from callsheet._store.memory import MemoryStore
from callsheet._store.patience import pauses
from callsheet._store.protocol import Store
from callsheet.exceptions import StoreUnavailable

_logger = logging.getLogger("callsheet.journal")


class Journal(Commits):
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
        ack_deadline: float = TOLD_AFTER,
    ) -> None:
        self.lease: Lease | None = None  # of an engine whose runs others may take over
        self._fire = fire
        self._gather = gather
        self._note = store.note if isinstance(store, MemoryStore) else None
        self._positions = itertools.count(1).__next__
        super().__init__(store, level, sync_interval=sync_interval, ack_deadline=ack_deadline)
        forks.remember(self)

    def _reset(self) -> None:
        super()._reset()
        self._idle = self._quiet = self._stopping = False
        self._lost = Lost()
        self._thread: Thread | None = None
        self._outside = Outside(self._store, self._ring)

    # ------------------------------------------------------------------------------------ start, stop

    def start(self) -> None:
        """Open the store and start the thread. Without threads (interpreter shutdown) callers commit themselves.

        Raises:
            StoreError: the store cannot be opened; one of its kinds says why.
        """
        self._store.open()
        if self._level is OFF or self._thread is not None:
            return
        try:
            self._thread = threads.start(self._run, "callsheet-journal")
        except RuntimeError:  # "can't create new thread at interpreter shutdown"
            return

    def close(self, timeout: float = 10.0) -> Lost:
        """Commit what is left, end the thread, and say what could not be saved. The store stays open.

        Args:
            timeout: seconds for all of it.
        """
        deadline = machine.monotonic() + timeout
        with self._gate:
            self._stopping = True
            self._bell.ring()
        if self._thread is not None and not self._thread.is_here():
            self._thread.join(max(0.0, deadline - machine.monotonic()))
        if self._closed:
            return self._lost
        # The thread may be stuck in a dying disk; then its batch is lost, and said to be.
        if self._writer.acquire(timeout=max(0.01, deadline - machine.monotonic())):
            with self._gate:
                self._refuses = True  # what were accepted from here on would be said to be lost
            try:
                callbacks = self._finish(deadline)
            finally:
                self._writer.release()
            self._fire(callbacks)
        with self._gate:
            self._closed = self._refuses = True
            left = (*(self._batch or ()), *self._queue)  # what is in the redo log is safe
            callbacks = self._pop_waiters()
        if left and self._trouble.failure is None:
            silent = StoreUnavailable(f"The history in '{self._store.location}' did not answer.")
            self._trouble.failure = self._trouble.degraded or silent
        self._fire(callbacks)
        self._lost = Lost(left, self._trouble.failure if left else None)
        return self._lost

    def _finish(self, deadline: float) -> list[Callback]:
        callbacks: list[Callback] = []
        for pause in pauses(max(0.01, deadline - machine.monotonic())):
            done = self._commit_next(callbacks)
            if self._shown >= self._accepted or self._trouble.hopeless:
                break
            if not done:
                machine.sleep(pause)
                self._reopen()
        if self._unsynced_since is not None and self._trouble.degraded is None:
            self._sync(callbacks)
        return callbacks

    def forget_after_fork(self) -> None:
        """Begin empty in a forked child: what the parent accepted is the parent's to commit."""
        self._reset()
        self._closed = self._refuses = True

    # ----------------------------------------------------------------------------------------- accept

    def put(self, *entries: Entry) -> int:
        """Accept entries, next to each other in the one commit order (1, 2, 3 …). Waits for no commit; any thread.

        Returns:
            The position of the last one.
        """
        if self._level is OFF:
            return self._put_off(entries)
        gate = self._gate
        gate.acquire()  # half the price of `with`
        try:
            if self._refuses:
                raise self._trouble.why_closed()
            self._queue += entries
            self._accepted = position = self._accepted + len(entries)
            for entry in entries:
                if entry.__class__ is not StateEntered and (size := weight(entry)):
                    self._accepted_bytes += size
            if self._idle:
                self._idle = False
                self._bell.ring()
        finally:
            gate.release()
        if position - self._shown > BEHIND and position % GIVE_WAY < len(entries):
            sleep(0)
        return position

    @property
    def keeps(self) -> bool:
        """Tell whether entries are kept at all: not at ``off``, but for a store in memory."""
        return self._level is not OFF or self._note is not None

    def _put_off(self, entries: tuple[Entry, ...]) -> int:
        position = 0
        for entry in entries:
            if self._note is not None:
                if isinstance(entry, (StateEntered, RunCreated, InputStored)) and entry.guards:
                    self._tell_refused((entry,), self._store.commit((entry,)))
                else:
                    self._note(entry)
            self._accepted = position = self._positions()
        if self._followers:
            self._fire(list(self._followers))
        return position

    def notify(self, position: int, callback: Callback, *, hurry: bool = True) -> None:
        """Call `callback()` once everything up to `position` is committed, or `failure` is set; maybe at once.

        Without `hurry` the thread need not wake up for it: the caller is about to commit itself.
        """
        if (clock := virtual_clock()) is not None:
            callback = clock.held(callback)
        with self._gate:
            now = self._committed >= position or self._trouble.failure is not None or self._closed
            if not now:
                heapq.heappush(self._waiters, (position, next(self._order), callback))
                if hurry:
                    self._hurry()
        if now:
            self._fire([callback])

    def notify_shown(self, position: int, callback: Callback) -> None:
        """Call `callback()` once everything up to `position` can be read, or `failure` is set; maybe at once."""
        if (clock := virtual_clock()) is not None:
            callback = clock.held(callback)
        with self._gate:
            now = self._shown >= position or self._trouble.failure is not None or self._closed
            if not now:
                heapq.heappush(self._watchers, (position, next(self._order), callback))
                self._hurry()
        if now:
            self._fire([callback])

    def renew_soon(self) -> None:
        """Have the engine's sign of life given now."""
        if self.lease is not None:
            self.lease.lapse()
            self._ring()

    def _ring(self) -> None:
        with self._gate:
            self._bell.ring()

    def watch(self, callback: Callback, wanted: Callable[[], bool] | None = None) -> None:
        """Call `callback()`, from now on, soon after another process has committed anything (within 0.1 s or so).

        Nobody looks while `wanted()` does not hold. Before it begins to, something is to be put into the journal.
        """
        with self._gate:
            self._outside.add(callback, wanted)
            self._bell.ring()

    def unwatch(self, callback: Callback) -> None:
        """End that."""
        with self._gate:
            self._outside.remove(callback)

    def follow(self, callback: Callback) -> None:
        """Call `callback()`, from now on, whenever something new can be read, whichever process has committed it."""
        with self._gate:
            self._followers = (*self._followers, callback)
        self.watch(callback)

    def unfollow(self, callback: Callback) -> None:
        """End that."""
        self.unwatch(callback)
        with self._gate:
            self._followers = tuple(one for one in self._followers if one != callback)

    # ----------------------------------------------------------------------------------------- commit

    def flush_here(self, position: int) -> bool:
        """Commit in the calling thread everything queued, in order, if nobody else is at it.

        Returns:
            Whether everything up to `position` is committed. If not, the journal's thread was woken to do it.
        """
        if self._committed >= position:
            return True
        callbacks: list[Callback] = []
        if self._writer.acquire(False):
            try:
                if self._trouble.degraded is None and len(self._queue) <= ON_THE_SPOT:
                    few = self._accepted - self._shown <= ON_THE_SPOT
                    _ = self._log_next(callbacks) or (few and self._commit_next(callbacks, on_the_spot=True))
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
        """Wait in the calling thread until everything accepted so far is committed and can be read.

        Raises:
            StoreError: the commit failed for longer than the deadline, or cannot succeed.
        """
        position = self._accepted
        if self._shown >= position:
            return
        if self._thread is None or not self._thread.is_alive():
            self._flush_without_thread(position)
        else:
            done = threads.flag()
            self.notify_shown(position, done.set)
            done.wait()
        if self._shown < position and (error := self._trouble.failure or self._trouble.degraded):
            raise error

    def _flush_without_thread(self, position: int) -> None:
        callbacks: list[Callback] = []
        with self._writer:
            for pause in pauses(self._ack_deadline):
                if not self._commit_next(callbacks):
                    if self._trouble.hopeless:
                        break
                    machine.sleep(pause)
                    self._reopen()
                if self._shown >= position:
                    break
        self._fire(callbacks)

    # ------------------------------------------------------------------------------------- the thread

    def _hurry(self) -> None:
        """Let the thread commit at once; the caller holds the gate."""
        if self._urgent:
            return  # a second ring would wake the thread once more when it is done, in the way of the next caller
        self._urgent = True
        self._idle = False
        self._bell.ring()

    def _run(self) -> None:
        attempts = 0
        while not self._closed:
            try:
                self._wait_for_work()
                committed, self._quiet = self._committed, False
                if not (self._urgent or self._stopping):
                    # A ring that came while the thread was busy ends this at once: that was no silence.
                    self._quiet = not self._bell.sleep(self._gather) and self._committed == committed
                attempts = 0 if self._work() else attempts + 1
                if self._stopping and (self._shown >= self._accepted or self._trouble.degraded is not None):
                    return  # close() sees to the rest
                if attempts and not self._closed:
                    self._pause(attempts)
                elif not (self._waiters or self._watchers):
                    self._store.tend()
            except Exception:  # whatever it was, the thread that saves history goes on
                _logger.exception("The journal stumbled")
                machine.sleep(self._gather)

    def _work(self) -> bool:
        callbacks: list[Callback] = []
        done = True
        lease = self.lease
        if lease is not None and lease.rest() == 0:  # before anything else: the queue may be long
            with self._writer:
                done = self._renew(lease, callbacks)
        if done and (self._queue or self._batch):  # else the lock would only be in the way of a caller
            with self._writer:
                # Where callers commit on the spot, a batch in between is not to hold them up for long.
                log = (self._logged or self._waiters) and len(self._queue) <= ON_THE_SPOT
                quick = log and not self._watchers and not self.degraded
                done = bool(quick and self._log_next(callbacks)) or self._commit_next(callbacks)
        if callbacks:
            self._fire(callbacks)
            callbacks = []
        if done and self._settling_is_due():
            done = self._settle(callbacks)
        if done and self._sync_is_due():
            with self._writer:
                done = self._sync(callbacks)
        if callbacks:
            self._fire(callbacks)
        return done

    def _settling_is_due(self) -> bool:
        """Tell whether to write the tables now: while callers commit on the spot they can wait a little."""
        if self._watchers or self._stopping or self._committed - self._shown > MOST_LOGGED or self._sync_is_due():
            return True
        return bool(self._logged) and (self._quiet or machine.monotonic() >= self._logged_since + SETTLE_AFTER)

    def _wait_for_work(self) -> None:
        while True:
            if told := self._outside.look():  # also where there is always work
                self._fire(told)
            with self._gate:
                rest = None if self.lease is None else self.lease.rest()
                if self._queue or self._batch or self._logged or self._stopping or self._sync_is_due() or rest == 0:
                    self._idle = False
                    return
                self._idle = True
                since = self._unsynced_since
            sync = None if since is None else since + self._sync_interval - machine.monotonic()
            dues = [due for due in (sync, rest, self._outside.rest()) if due is not None]
            self._bell.sleep(min(dues, default=None))

    def _pause(self, attempts: int) -> None:
        if self._trouble.only_held:
            machine.sleep(next(pauses()) * min(attempts, 8))
            return
        self._bell.sleep(min(0.05 * 2 ** min(attempts, 6), RETRY_LONGEST))
        with self._writer:
            self._reopen()
