"""Event loops as places where actors can be started. With the driver and `virtual_loops` the home of backends' names.

A host starts bare tasks of its loop, outside of every scope of the user: `submit` is a plain call that may come
from inside a user's task group, where a group of ours could not be entered without corrupting both. What a host
starts its engine owns: each actor catches everything, and the orchestrator knows it until it has ended.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from queue import SimpleQueue
from types import coroutine
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary, ref

from anyio import CancelScope

from callsheet._clock import virtual_clock
from callsheet._kernel.driver import task_of
from callsheet._kernel.loop_parts import Event, FutureEvent, Posts, Scopes
from callsheet._kernel.turns import Turn

if TYPE_CHECKING:
    import trio


class Host(Protocol):
    """A running event loop, seen from any thread."""

    engines: list[Any]  # explicit engines that are open here, innermost last
    posts: Posts  # calls that are still to be made

    def new_scope(self) -> CancelScope:
        """Give a cancel scope for the running task."""
        ...

    def new_event(self) -> Event:
        """Give something to wait for in this loop; it is set in the loop's own thread."""
        ...

    def spawn(self, start: Callable[[], Coroutine[Any, Any, None]], context: Context) -> object:
        """Start an actor, in the loop's own thread, and give its task, which the caller keeps until it has ended."""
        ...

    def post(self, call: Callable[[], object]) -> None:
        """Have the loop make a call soon; from any thread. A loop that has ended ignores it."""
        ...

    def after_step(self, call: Callable[[], object]) -> None:
        """Have the loop make a call after what it is doing; from a task of this loop only, which costs no wake-up.

        Not from a signal handler: that may run in the loop's thread while the loop sleeps.
        """
        ...

    def is_here(self) -> bool:
        """Tell whether the caller runs in this loop's thread, inside the loop."""
        ...

    @property
    def closed(self) -> bool:
        """Tell whether the loop has ended for good."""
        ...

    @property
    def signal_fd(self) -> int | None:
        """Give what a signal must be written to for the loop to wake; `None` where it sees to that itself."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let others run once, and be cancelled here if that is due."""
        ...

    def due_checkpoint(self) -> Awaitable[None] | None:
        """Give the checkpoint that a run which begins here must pass first, if it must; asked in one of the loop's tasks."""
        ...


@coroutine
def _pass() -> Generator[None, None, None]:
    """Let asyncio's loop go round once: `asyncio.sleep(0)` without the frames around."""
    yield


class AsyncioHost(Scopes):
    """An asyncio loop (uvloop's too)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.engines: list[Any] = []
        self.loop = ref(loop)  # weak: hosts are found by their loops, and would keep those alive for ever
        self._thread = threading.get_ident()
        self.posts = Posts()
        self._turn = Turn()

    def new_event(self) -> Event:
        loop = self.loop()
        if loop is None:
            raise RuntimeError("The event loop has ended.")
        return FutureEvent(loop)

    def spawn(self, start: Callable[[], Coroutine[Any, Any, None]], context: Context) -> object:
        correct_library(context, "asyncio")
        # Not loop.create_task: an eager factory would run the actor's first step inside this call.
        return asyncio.Task(start(), loop=self.loop(), context=context)

    def post(self, call: Callable[[], object]) -> None:
        loop = self.loop()
        try:
            if loop is not None:
                self.posts.add(call, loop.call_soon_threadsafe)
        except RuntimeError:  # the loop is closed: nobody is left to be woken
            pass

    def after_step(self, call: Callable[[], object]) -> None:
        loop = self.loop()
        if loop is not None:
            self.posts.add(call, loop.call_soon)

    def is_here(self) -> bool:
        loop = asyncio._get_running_loop()  # pyright: ignore[reportPrivateUsage] - never raises
        return loop is not None and loop is self.loop()

    @property
    def closed(self) -> bool:
        loop = self.loop()
        return loop is None or loop.is_closed()

    checkpoint = staticmethod(_pass)

    def due_checkpoint(self) -> Awaitable[None] | None:
        task = task_of(self.loop())
        return self._next_turn(task) if self._turn.is_over(task, self) else None

    @coroutine
    def _next_turn(self, task: object) -> Generator[None, None, None]:
        yield
        self._turn.is_over(task, self)  # no: but its next run is not the first one of that turn

    @property
    def signal_fd(self) -> int | None:
        # None for uvloop, which sees to it itself, and for a loop that has signal handlers of its own and does so too.
        loop: Any = self.loop()
        if loop is None or getattr(loop, "_signal_handlers", None):
            return None
        end = getattr(loop, "_csock", None)
        return None if end is None else end.fileno()


class TrioHost(Scopes):
    """A trio run."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        super().__init__()
        import trio

        self.engines: list[Any] = []
        self._trio = trio
        self._token = ref(token)  # weak, as the loop of an asyncio host
        self.posts = Posts()
        self._ended = False

    def new_event(self) -> Event:
        return self._trio.Event()

    def spawn(self, start: Callable[[], Coroutine[Any, Any, None]], context: Context) -> object:
        correct_library(context, "trio")
        return self._trio.lowlevel.spawn_system_task(start, context=context)

    def post(self, call: Callable[[], object]) -> None:
        token = self._token()
        try:
            if token is not None:
                self.posts.add(call, token.run_sync_soon)
        except self._trio.RunFinishedError:
            self._ended = True

    after_step = post

    def is_here(self) -> bool:
        lowlevel = self._trio.lowlevel
        return lowlevel.in_trio_run() and lowlevel.current_trio_token() is self._token()

    @property
    def closed(self) -> bool:
        token = self._token()
        if token is not None and not self._ended:
            try:
                token.run_sync_soon(_nothing, idempotent=True)
            except self._trio.RunFinishedError:
                self._ended = True
        return token is None or self._ended

    @property
    def signal_fd(self) -> int | None:
        return None  # trio sees to it

    async def checkpoint(self) -> None:
        await self._trio.lowlevel.checkpoint()

    due_checkpoint = checkpoint  # by trio's rules every await is a checkpoint, and its users count on that


def _nothing() -> None:
    pass


def correct_library(context: Context, name: str | None) -> None:
    """Have a copied context say which kind of loop runs where it goes; `None`: none.

    `anyio.run` writes the kind of its loop into a context variable (of sniffio), which is believed before anything
    else: carried over to another loop or to a thread it would be wrong there.
    """
    sniffio: Any = sys.modules.get("sniffio")
    if sniffio is not None and context.get(sniffio.current_async_library_cvar) not in (None, name):
        context.run(sniffio.current_async_library_cvar.set, name)


_asyncio_hosts: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncioHost] = WeakKeyDictionary()
_trio_hosts: WeakKeyDictionary[Any, TrioHost] = WeakKeyDictionary()
_last = threading.local()
simulated_threads: set[object] = set()
"""Tasks of trio that stand for threads without a loop, in a simulation."""


def is_in_simulated_thread() -> bool:
    """Tell whether the caller runs in what stands for a thread."""
    trio = sys.modules["trio"]
    return trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() in simulated_threads


def current_host() -> Host | None:
    """Give the host of the loop that runs in this thread, or `None`."""
    loop = asyncio._get_running_loop()  # pyright: ignore[reportPrivateUsage] - never raises, 30 ns
    if loop is not None:
        cached: AsyncioHost | None = getattr(_last, "host", None)
        if cached is not None:
            loop_of = cached.loop
            if loop_of() is loop:
                return cached
        host = _asyncio_hosts.get(loop)
        if host is None:
            host = _asyncio_hosts[loop] = AsyncioHost(loop)
        _last.host = host
        return host
    trio = sys.modules.get("trio")
    if trio is None or not hasattr(trio, "lowlevel") or not trio.lowlevel.in_trio_run():
        return None
    if simulated_threads and is_in_simulated_thread():
        return None
    token = trio.lowlevel.current_trio_token()
    trio_host = _trio_hosts.get(token)
    if trio_host is None:
        trio_host = _trio_hosts[token] = TrioHost(token)
    return trio_host


def here() -> Host:
    """Give the host of the loop that runs the calling code.

    Raises:
        RuntimeError: neither asyncio nor trio runs it.
    """
    host = current_host()
    if host is None:
        raise RuntimeError("This is for code that asyncio or trio runs, for instance by `asyncio.run(...)`.")
    return host


class RuntimeThread:
    """The process's own loop for sync programs: async tasks that a sync flow submits run here.

    A daemon thread, started when it is first needed; one atexit hook stops it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._host: AsyncioHost | None = None
        self._lent: Host | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def host(self) -> Host:
        """Give the thread's host, starting the thread where needed; in virtual time the loop that keeps it."""
        clock = virtual_clock()
        if clock is not None and clock.host is not None and not clock.host.closed and not clock.host.is_here():
            return clock.host
        with self._lock:
            if self._lent is not None:
                return self._lent
            if self._host is None:
                started: SimpleQueue[AsyncioHost] = SimpleQueue()
                self._thread = threading.Thread(
                    target=self._run, args=(started,), name="callsheet-runtime", daemon=True
                )
                self._thread.start()
                self._host = started.get()
            return self._host

    def lend(self, host: Host | None) -> None:
        """Use another loop instead of the thread's, until it is taken back: that of a simulation, which has no threads."""
        self._lent = host

    def _run(self, started: SimpleQueue[AsyncioHost]) -> None:
        loop = self._loop = asyncio.new_event_loop()

        def ready() -> None:
            host = _asyncio_hosts[loop] = AsyncioHost(loop)
            started.put(host)

        loop.call_soon(ready)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=1))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def stop(self, timeout: float = 2.0) -> None:
        """Stop and join the thread (seconds at most)."""
        with self._lock:
            thread, loop, self._host, self._loop, self._thread = self._thread, self._loop, None, None, None
        if thread is not None and loop is not None and thread.is_alive():
            try:
                loop.call_soon_threadsafe(loop.stop)
            except RuntimeError:
                return
            thread.join(timeout)

    def forget(self) -> None:
        """Drop what a forked child inherited: the thread does not exist there."""
        self.__init__()


runtime_thread = RuntimeThread()
atexit.register(runtime_thread.stop)


def _after_fork() -> None:
    runtime_thread.forget()
    _last.__dict__.clear()
    _asyncio_hosts.clear()
    _trio_hosts.clear()


os.register_at_fork(after_in_child=_after_fork)
