"""How somebody who reads or writes a result waits: blocking the thread, or suspending the task.

Results are read and written by coroutines that await nothing but a way, so there is one logic for both colours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from inspect import isawaitable
from typing import Any, Final, Protocol, TypeVar

from callsheet._dual import is_stepped, may_suspend, undo
from callsheet._kernel.host import here
from callsheet._kernel.ports import THREAD_PORT, LoopPort, Port, apart, step, sync_port
from callsheet._kernel.signals import Once
from callsheet._kernel.threads import WorkerThreads
from callsheet._results import limits
from callsheet.context import current_run
from callsheet.settings import held_here

T = TypeVar("T")

_IDLE_SECONDS: Final = 0.25
_threads: Final = WorkerThreads(idle_seconds=_IDLE_SECONDS)


class Way(Protocol):
    """One way to wait."""

    @property
    def suspends(self) -> bool:
        """Tell whether waiting lets a loop go on."""
        ...

    async def apart(self, work: Callable[[], T]) -> T:
        """Do something that blocks."""
        ...

    async def ask(self, storage: Any, key: str, work: Callable[[], T]) -> T:
        """Do something that blocks, part of which is `asked` of a storage, in time.

        Raises:
            StorageTimeout: the storage did not answer in time.
        """
        ...

    async def call(self, storage: Any, fn: Callable[..., Any], key: str, *args: Any) -> Any:
        """Call a method of a user's storage, of either colour; a sync one may block.

        Raises:
            StorageTimeout: the storage did not answer in time.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for a time."""
        ...


class Blocking:
    """Blocks the thread, which no loop needs."""

    __slots__ = ()
    suspends = False

    async def apart(self, work: Callable[[], T]) -> T:
        return work()

    async def ask(self, storage: Any, key: str, work: Callable[[], T]) -> T:
        seconds = limits.limit()
        if seconds is None:
            return work()
        question = limits.Question(storage, key, seconds)
        start(lambda: question.run(work))
        return await question.outcome(_block)

    async def call(self, storage: Any, fn: Callable[..., Any], key: str, *args: Any) -> Any:
        token = may_suspend()
        try:
            context = copy_context()
        finally:
            undo(token)

        async def whole() -> Any:
            return await THREAD_PORT.call(_started(storage, fn, key, *args))

        return await self.ask(storage, key, lambda: limits.asked(lambda: context.run(lambda: step(whole()))))

    async def sleep(self, seconds: float) -> None:
        await THREAD_PORT.wait(Once(), seconds)


class Suspending:
    """Waits by a port, and leaves what blocks to a thread."""

    __slots__ = ("_port", "suspends")

    def __init__(self, port: Port) -> None:
        self._port = port
        self.suspends = port.host is not None

    async def apart(self, work: Callable[[], T]) -> T:
        return await apart(work, self._port, start)

    async def ask(self, storage: Any, key: str, work: Callable[[], T]) -> T:
        seconds = limits.limit()
        if seconds is None:
            return await self.apart(work)
        question = limits.Question(storage, key, seconds)
        start(lambda: question.run(work))
        return await question.outcome(self._port.shielded_wait)

    async def call(self, storage: Any, fn: Callable[..., Any], key: str, *args: Any) -> Any:
        begin = _started(storage, fn, key, *args)
        made = await self.ask(storage, key, lambda: limits.asked(begin))
        return await self._port.call(lambda: made) if isawaitable(made) else made

    async def sleep(self, seconds: float) -> None:
        await self._port.wait(Once(), seconds)


_BLOCKING: Final = Blocking()


async def _block(done: Once, seconds: float) -> bool:
    # Not by the port, which lets a deadline interrupt waiting: what the engine keeps, it keeps to the end.
    event = threading.Event()
    done.subscribe(event.set)
    event.wait(seconds)
    done.unsubscribe(event.set)
    return done.is_set


def _started(storage: Any, fn: Callable[..., Any], key: str, *args: Any) -> Callable[[], Any]:
    def begin() -> Any:
        made = fn(key, *args)
        return limits.in_time(made, storage, key) if isawaitable(made) else made

    return begin


def _with_settings(job: Callable[[], None]) -> Callable[[], None]:
    """Give a job that sees the temporary settings that hold here, and nothing else of these surroundings."""
    settings = held_here.get()
    if settings is None:
        return job
    context = Context()
    context.run(held_here.set, settings)
    return lambda: context.run(job)


def start(job: Callable[[], None]) -> None:
    """Start a job on a thread, with the settings that hold here: one of the current run's engine, else one of ours."""
    job = _with_settings(job)
    run = current_run.get()
    core = None if run is None else run.core
    if core is None or not core.usable:
        _threads.run(job)
        return
    try:
        core.workers.run(job)
    except RuntimeError:  # that engine has just been closed
        _threads.run(job)


def blocking() -> Way:
    """Give the way of sync code. In a sync frame of a driven task the loop still goes on."""
    port = sync_port()
    return _BLOCKING if port is THREAD_PORT else Suspending(port)


def suspending() -> Way:
    """Give the way of async code."""
    return Suspending(LoopPort(here()))


def along(port: Port) -> Way:
    """Give the way of a run that lives by a port."""
    return _BLOCKING if port is THREAD_PORT else Suspending(port)


def way_here() -> Way:
    """Give the way of the dual function that is under way."""
    return blocking() if is_stepped() else suspending()
