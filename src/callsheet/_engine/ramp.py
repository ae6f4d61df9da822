"""A gentle ramp for sync runs: so many threads at once, and more for as long as those there only wait.

There is no upper limit on workers: runs may wait for each other, and for slow peers. But two thousand runs that
compute would be two thousand threads that fight for one interpreter. So the first ones are started at once, the
others are queued, and while there is a queue a watcher looks every few milliseconds which threads only wait; those
do not count. It looks at their clocks: the one of a thread that waits for a lock, a socket or a time stands still,
the one of a thread that wants the interpreter goes on. (Whether runs *end* would tell nothing of runs that wait.)
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from callsheet._kernel.critical import critical
from callsheet._kernel.threads import Deadlines, WorkerThreads

LOOK_SECONDS: Final = 0.01
AT_ONCE: Final = max(32, (os.cpu_count() or 1) + 4)
_STILL: Final = 2e-6  # seconds of its clock in a look: a thread that waits for the interpreter uses more
_BUSY: Final = 0.25  # processors, where there is one clock for all: who uses more computes
_LOOKS: Final = 2  # in a row, and in time, that find threads waiting; else it is processors that they wait for
_STUCK_SECONDS: Final = 1.0  # without an end: who polls for something that a queued run does seems to compute

Job = Callable[[], None]


class Ramp:
    """Starts jobs on threads, in order.

    Example:
        >>> ramp = Ramp(WorkerThreads())
        >>> done = threading.Event()
        >>> ramp.run(done.set)
        >>> done.wait(5)
        True
        >>> ramp.close()
    """

    def __init__(self, threads: WorkerThreads, *, at_once: int = AT_ONCE) -> None:
        """Make a ramp.

        Args:
            threads: where jobs run.
            at_once: how many jobs run before anybody looks what they do.
        """
        self._threads = threads
        self._at_once = at_once
        self._lock = threading.Lock()
        self._queue: deque[Job] = deque()
        self._running = 0
        self._used: dict[int, float] = {}  # by the clocks of the threads that run jobs, at the last look
        self._deadlines = Deadlines()
        self._watching = False
        self._looked = self._moved = 0.0  # when
        self._looks = 0  # in a row that found room for more
        self._computing = False  # what the last look found

    def run(self, job: Job) -> None:
        """Start a job, now or when it is its turn; from any thread. A job must not raise.

        Raises:
            RuntimeError: No thread can be started for it, and there is none that could take it later.
        """
        with self._lock:
            if self._running < self._at_once:
                self._running += 1
                watch = None
            else:
                self._queue.append(job)
                watch, self._watching = not self._watching, True
        if watch is None:
            self._start(job)
        elif watch:
            self._looked = self._moved = time.monotonic()
            self._looks = 0
            self._look_again()

    def close(self) -> None:
        """Look no more. Jobs in the queue still run, one after the other, as threads get free."""
        self._deadlines.close()

    def _start(self, job: Job) -> None:
        try:
            self._threads.run(partial(self._work, job))
        except RuntimeError:
            with self._lock:
                self._running -= 1
                if not self._running:
                    raise
                self._queue.appendleft(job)  # those that run will come to it

    def _work(self, job: Job | None) -> None:
        clock = _own_clock()
        with self._lock:
            self._used[clock] = time.clock_gettime(clock)
        while job is not None:
            job()
            with self._lock:
                self._moved = time.monotonic()
                crowded = self._computing and self._running > self._at_once
                job = self._queue.popleft() if self._queue and not crowded else None
                if job is None or critical.section.tainted:  # such a thread takes no further job
                    self._used.pop(clock, None)
                    self._running -= job is None
                    break
        if job is not None:
            self._start(job)

    # --------------------------------------------------------------------------------- the watcher's

    def _look(self) -> None:
        with self._lock:
            now = time.monotonic()
            if not self._queue:
                self._watching = self._computing = False
                return
            late = now - self._looked > 2 * LOOK_SECONDS
            active = self._active(now)
            self._computing = active >= self._at_once
            self._looks = 0 if self._computing or late else self._looks + 1
            more = 0
            if self._looks >= _LOOKS:
                more = max(self._at_once - active, (self._running - active) // 2)
            elif now - self._moved >= _STUCK_SECONDS:
                more, self._moved = 1, now
            jobs = [self._queue.popleft() for _ in range(min(more, len(self._queue)))]
            self._running += len(jobs)
        for job in jobs:
            self._start(job)
        self._look_again()

    def _look_again(self) -> None:
        try:
            self._deadlines.at(time.monotonic() + LOOK_SECONDS, self._look)
        except RuntimeError:  # closed, or the system gives no thread: then the jobs that end are all that moves
            self._watching = self._computing = False

    def _active(self, now: float) -> int:
        """Count the threads that did not just wait since the last look."""
        active, used = self._running - len(self._used), 0.0  # some have only just been started
        for clock, before in self._used.items():
            try:
                after = time.clock_gettime(clock)
            except OSError:  # the thread has ended
                continue
            self._used[clock] = after
            used += after - before
            active += after - before > _STILL
        elapsed, self._looked = now - self._looked, now
        if _HAS_THREAD_CLOCKS:
            return active
        return self._at_once if used >= elapsed * _BUSY else 0


_HAS_THREAD_CLOCKS: Final = hasattr(time, "pthread_getcpuclockid")


def _own_clock() -> int:
    """Give the calling thread's own processor clock, which others can read; that of the process where there is none."""
    if _HAS_THREAD_CLOCKS:
        return time.pthread_getcpuclockid(threading.get_ident())
    return time.CLOCK_PROCESS_CPUTIME_ID  # macOS
