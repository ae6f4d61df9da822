"""Where threads and waits in them come from: the system, or a simulation that has none.

What in the engine starts a thread, or blocks one, asks `threads` here. In a simulation each thread is a task of its one
event loop, on a stack of its own, and a wait is a point at which others run.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from callsheet._kernel.bell import Bell
from callsheet._kernel.critical import Interruptible


class Thread(Protocol):
    """A thread that was started."""

    def is_alive(self) -> bool:
        """Tell whether it has not ended."""
        ...

    def is_here(self) -> bool:
        """Tell whether the caller runs in it."""
        ...

    def join(self, timeout: float | None) -> None:
        """Wait until it has ended, for so many seconds at most."""
        ...


class Flag(Protocol):
    """What any number of threads wait for, as for `threading.Event`."""

    def is_set(self) -> bool:
        """Tell whether it is set."""
        ...

    def set(self) -> None:
        """Set it, and let everybody go on who waits."""
        ...

    def clear(self) -> None:
        """Take it back."""
        ...

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for so many seconds at most; tell whether it is."""
        ...


class Lock(Protocol):
    """A lock under which somebody may wait, as `threading.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, or tell that it was not to be had."""
        ...

    def release(self) -> None:
        """Give it back."""
        ...

    def __enter__(self) -> bool: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


class Sleeper(Protocol):
    """What one thread sleeps by, see `Bell`."""

    def ring(self) -> None:
        """Wake the sleeper, or let its next sleep end at once; the caller holds the gate."""
        ...

    def sleep(self, seconds: float | None) -> bool:
        """Sleep until it rings, at most so many seconds; tell whether it has rung."""
        ...


class Body(Protocol):
    """One call of a body on a thread, see `Interruptible`."""

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` came before the end."""
        ...

    def call(self, fn: Callable[..., Any], /) -> Any:
        """Call it."""
        ...

    def interrupt(self, exc_type: type[BaseException]) -> bool:
        """Have it leave, where that can be done."""
        ...


class _SystemThread(threading.Thread):
    def is_here(self) -> bool:
        return threading.current_thread() is self


def start_system_thread(work: Callable[[], None], name: str) -> Thread:
    """Start a daemon thread of the system.

    Raises:
        RuntimeError: The interpreter is shutting down, or the system gives no thread.
    """
    # 3.11 would start a thread that never gets to run, and wait for it for ever.
    if sys.is_finalizing():
        raise RuntimeError("The interpreter is shutting down: no more runs can be started on threads.")
    thread = _SystemThread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise RuntimeError(f"No thread could be started for a run: {error}.") from error
    return thread


class Threads:
    """Makes threads, and what they wait for. A simulation puts its own makers in their places.

    Attributes:
        start: Starts a daemon thread for some work, under a name.
        flag: Makes a flag.
        lock: Makes a lock for those who wait under it. Others need none of these: nobody else runs meanwhile.
        bell: Makes a bell whose gate is a lock.
        body: Makes a call of a body that may be interrupted.
        simulated: Whether a simulation makes all of these; pools of threads leave their jobs to it then.
    """

    __slots__ = ("bell", "body", "flag", "lock", "simulated", "start")

    def __init__(self) -> None:
        self.start: Callable[[Callable[[], None], str], Thread] = start_system_thread
        self.flag: Callable[[], Flag] = threading.Event
        self.lock: Callable[[], Lock] = threading.Lock
        self.bell: Callable[[threading.Lock], Sleeper] = Bell
        self.body: Callable[[], Body] = Interruptible
        self.simulated = False


threads = Threads()
