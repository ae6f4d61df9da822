"""Threads of ours: workers for sync bodies, and one that watches deadlines.

Never anyio's worker threads: their limiter is shared with the host's web framework, and an exception that
interrupts a body there can land in the next, innocent job.
"""

from __future__ import annotations

import heapq
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from weakref import WeakSet

from callsheet._clock import virtual_clock
from callsheet._kernel.critical import Interruptible, critical
from callsheet._kernel.spawning import Thread, threads

__all__ = ["Deadline", "Deadlines", "Interruptible", "WorkerThreads"]

IDLE_SECONDS = 2.0


def start_thread(work: Callable[[], None], name: str, *, stands: bool = False) -> None:
    """Start a daemon thread for one piece of work that may wait for the disk.

    Args:
        work: What it does.
        name: Its name.
        stands: It lives for long and does not end by itself, so that virtual time cannot wait for it.

    Raises:
        RuntimeError: The interpreter is shutting down, or the system gives no thread.
    """
    clock = virtual_clock()
    if clock is None or stands:
        threads.start(work, name)
    else:
        clock.hop(work, lambda job: threads.start(job, name))


class _Worker:
    """One thread. Its lock is a semaphore: released once for each job that is put in, acquired by the thread."""

    __slots__ = ("job", "thread", "wake")

    def __init__(self, job: Callable[[], None]) -> None:
        self.job: Callable[[], None] | None = job
        self.wake = threading.Lock()
        self.wake.acquire()
        self.thread: Thread | None = None


class WorkerThreads:
    """Daemon threads for sync bodies, as many as there are jobs; how many there may be is decided above.

    Example:
        >>> threads = WorkerThreads()
        >>> done = threading.Event()
        >>> threads.run(done.set)
        >>> done.wait(5)
        True
        >>> threads.close(timeout=5)
        0
    """

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Make a pool without threads.

        Args:
            idle_seconds: how long a thread waits for its next job before it ends.
        """
        self._idle_seconds = idle_seconds
        self._forget()
        _forkable.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []  # the latest last: it is the warmest, the others may retire
        self._workers: set[_Worker] = set()
        self._numbers = itertools.count(1)
        self._closed = False

    @property
    def idle(self) -> int:
        """How many threads wait for a job."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many threads run a job."""
        with self._lock:
            return len(self._workers) - len(self._idle)

    def run(self, job: Callable[[], None]) -> None:
        """Start a job at once, on an idle thread or a new one. From any thread; takes no part in its outcome.

        A job should not raise. If it does, `threading.excepthook` is told and the thread ends.

        Raises:
            RuntimeError: the pool is closed, the interpreter is shutting down, or the system gives no thread.
        """
        if threads.simulated:
            threads.start(job, "callsheet-worker")
            return
        clock = virtual_clock()
        if clock is None:
            self._begin(job)
        else:
            clock.hop(job, self._begin)

    def _begin(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("The threads are closed.")
            if self._idle:
                worker = self._idle.pop()
                worker.job = job
                worker.wake.release()
                return
            worker = _Worker(job)
            self._workers.add(worker)
        name = f"callsheet-worker-{next(self._numbers)}"
        try:
            worker.thread = threads.start(partial(self._work, worker), name)
        except BaseException:
            with self._lock:
                self._workers.discard(worker)
            raise

    def retire(self) -> None:
        """End the threads that wait for a job, without waiting for that; the next job starts a new one."""
        with self._lock:
            for worker in self._idle:
                worker.wake.release()
            self._idle.clear()

    def close(self, timeout: float) -> int:
        """Take no more jobs, end idle threads and wait for busy ones.

        Args:
            timeout: seconds to wait at most, for all together.

        Returns:
            How many threads were still busy then. They end after their job.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        self.retire()
        for worker in workers:
            if worker.thread is not None and not worker.thread.is_here():
                worker.thread.join(max(0.0, deadline - time.monotonic()))
        return len(self._workers)

    def _work(self, worker: _Worker) -> None:
        section = critical.section
        try:
            while worker.job is not None:
                worker.job()
                worker.job = None  # an idle thread keeps nothing alive
                if section.tainted or not self._next(worker):
                    return
        finally:
            with self._lock:
                self._workers.discard(worker)

    def _next(self, worker: _Worker) -> bool:
        """Wait for the next job; tell whether to look for one."""
        with self._lock:
            if self._closed or worker not in self._workers:  # forgotten: this is a forked child
                return False
            self._idle.append(worker)
        if worker.wake.acquire(timeout=self._idle_seconds):
            return True
        with self._lock:
            if worker in self._idle:
                self._idle.remove(worker)
                return False
        return worker.wake.acquire()  # a job came in just now


class Deadline:
    """A call that is to be made at a time, unless it is cancelled before."""

    __slots__ = ("_callback", "_owner")

    def __init__(self, owner: Deadlines, callback: Callable[[], None]) -> None:
        self._owner = owner
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> bool:
        """Drop the call.

        Returns:
            Whether it was dropped. If not, it was made, or is just being made, or had been dropped before.
        """
        return self._owner._cancel(self)  # pyright: ignore[reportPrivateUsage]

    @property
    def is_set(self) -> bool:
        """Whether the call is still to be made."""
        return self._callback is not None

    def take(self) -> Callable[[], None] | None:
        """Give the callback to whoever comes first; under the owner's lock."""
        callback, self._callback = self._callback, None
        return callback


class Deadlines:
    """One daemon thread that makes calls at given times. It starts with the first and ends after the last.

    Setting and cancelling costs a lock and a heap entry. The thread is woken only by a time that is earlier than
    all it knew; cancelled entries are dropped when their time comes, or when they are most of the heap.

    Example:
        >>> deadlines = Deadlines()
        >>> rang = threading.Event()
        >>> handle = deadlines.at(time.monotonic() + 0.001, rang.set)
        >>> rang.wait(5)
        True
        >>> handle.cancel()
        False
        >>> deadlines.close()
    """

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS) -> None:
        """Make a watcher without a thread.

        Args:
            idle_seconds: how long the thread stays when nothing is left to wait for.
        """
        self._idle_seconds = idle_seconds
        self._forget()
        _forkable.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._heap: list[tuple[float, int, Deadline]] = []
        self._cancelled = 0  # of those in the heap
        self._numbers = itertools.count()
        self._thread: Thread | None = None
        self._wakes_at = 0.0
        self._closed = False

    def at(self, moment: float, callback: Callable[[], None]) -> Deadline:
        """Have `callback` called on the watcher's thread at a time; it must be quick.

        Args:
            moment: seconds of `time.monotonic()`. One that has passed is called at once, on that thread too.
            callback: what it raises is told to `threading.excepthook`.

        Raises:
            RuntimeError: the watcher is closed, or its thread cannot be started.
        """
        entry = Deadline(self, callback)
        with self._lock:
            if self._closed:
                raise RuntimeError("The deadlines are closed.")
            heapq.heappush(self._heap, (moment, next(self._numbers), entry))
            if self._thread is None:
                self._launch()
            elif moment < self._wakes_at:
                self._wakes_at = moment
                self._changed.notify()
        return entry

    def close(self) -> None:
        """Drop every entry and end the thread; wait for a callback that is just running."""
        with self._lock:
            self._closed = True
            self._heap.clear()
            thread = self._thread
            self._changed.notify()
        if thread is not None and not thread.is_here():
            thread.join(None)

    def _launch(self) -> None:
        try:
            self._thread = threads.start(self._watch, "callsheet-deadlines")
        except BaseException:
            self._heap.clear()  # it holds the one new entry only, or those that nobody watched
            raise
        self._wakes_at = self._heap[0][0]

    def _cancel(self, entry: Deadline) -> bool:
        with self._lock:
            if entry.take() is None:
                return False
            self._cancelled += 1
            if self._cancelled > 1000 and self._cancelled * 2 > len(self._heap):
                self._heap = [item for item in self._heap if item[2].is_set]
                heapq.heapify(self._heap)
                self._cancelled = 0
            return True

    def _watch(self) -> None:
        while True:
            with self._lock:
                callback = self._due()
                if callback is None:
                    self._thread = None
                    return
            try:
                callback()
            except BaseException:  # the other deadlines still hold
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
            del callback

    def _due(self) -> Callable[[], None] | None:
        """Wait, under the lock, for the next call; `None` when there was none for a while."""
        while not self._closed:
            if not self._heap:
                self._wakes_at = float("inf")
                if not self._changed.wait(self._idle_seconds) and not self._heap:
                    return None
                continue
            moment = self._heap[0][0]
            rest = moment - time.monotonic()
            if rest > 0:
                self._wakes_at = moment
                self._changed.wait(min(rest, threading.TIMEOUT_MAX))
                continue
            callback = heapq.heappop(self._heap)[2].take()
            if callback is not None:
                return callback
            self._cancelled -= 1
        return None


_forkable: WeakSet[WorkerThreads | Deadlines] = WeakSet()


def _after_fork() -> None:
    for pool in _forkable:
        pool._forget()  # pyright: ignore[reportPrivateUsage]


os.register_at_fork(after_in_child=_after_fork)
