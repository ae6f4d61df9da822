"""Event loops that jump: asyncio's by a selector of ours, trio's by its mock clock. With `host` the home of backends' names.

Before a jump a loop asks two questions, in this order: whether time is held, and whether anything is ready. Whoever holds
posts what the loop is to do before it takes its hold back, so whatever was not held can be seen in what is ready.
"""

from __future__ import annotations

import asyncio
import math
import stat
import threading
from asyncio import _get_running_loop as running_loop  # pyright: ignore[reportPrivateUsage]
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache, partial, wraps
from os import fstat
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from callsheet._clock import keep, virtual_clock
from callsheet._kernel.host import Host, here
from callsheet._kernel.virtual import VirtualClock
from callsheet.exceptions import VirtualTimeError

if TYPE_CHECKING:
    import trio


def loop_options(backend: str, clock: VirtualClock) -> tuple[str, dict[str, Any]]:
    """Give what `anyio.run` takes for an event loop that can jump: the name of the backend, and its options.

    Raises:
        VirtualTimeError: There is none of that name that can.
    """
    match backend:
        case "asyncio":
            return backend, {"loop_factory": asyncio.SelectorEventLoop}
        case "trio":
            return backend, {"clock": trio_clock(clock)}
        case _:
            raise VirtualTimeError(
                f"There is no virtual time on {backend!r}: choose 'asyncio' (without uvloop) or 'trio'."
            )


@contextmanager
def virtual_time(clock: VirtualClock) -> Generator[None, None, None]:
    """Have the running loop live in virtual time; to be entered and left in one of its tasks.

    Raises:
        VirtualTimeError: The loop is one of uvloop or of another kind that we cannot have jump, or it jumps already.
    """
    host = here()
    if virtual_clock() is not None:
        raise VirtualTimeError("Time is virtual here already. Use the clock that is there, or begin outside of it.")
    loop = running_loop()
    with _asyncio_time(loop, clock, host) if loop is not None else _trio_time(clock, host), keep(clock):
        yield


def _no_socket(what: str, *_: object, **__: object) -> NoReturn:
    raise VirtualTimeError(
        f"{what}: there are no sockets in virtual time. Nobody could tell for how long the other side really works, so "
        "every deadline would pass meanwhile. Put a stub in the place of what is behind the socket."
    )


# --------------------------------------------------------------------------------------------------- asyncio

_SOCKETS: Final = (
    "connect_accepted_socket", "create_connection", "create_datagram_endpoint", "create_server",
    "create_unix_connection", "create_unix_server", "sendfile", "sock_accept", "sock_connect", "sock_recv",
    "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into", "sock_sendall", "sock_sendfile", "sock_sendto", "start_tls",
)  # fmt: skip


class _JumpingSelector:
    """Stands before a loop's selector: where the loop would sleep until a timer, its time jumps there."""

    def __init__(self, loop: Any, clock: VirtualClock) -> None:
        self._loop = loop
        self._clock = clock
        self.inner = loop._selector
        self.seconds: float = math.ceil(loop.time() * 1024) / 1024  # so round that hours can be added without a rest
        self.resolution: float = loop._clock_resolution

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def select(self, timeout: float | None = None) -> Any:
        """Give what is ready; jump, or wait for threads, where nothing is."""
        if timeout is not None and timeout <= 0:
            return self.inner.select(0)
        if self._clock.is_held or timeout is None:
            return self.inner.select(None)
        events = self.inner.select(0)
        if events:
            return events
        # Not by the timeout, which is at most a day, but exactly to the timer.
        self.seconds = max(self.seconds, self._loop._scheduled[0].when())
        # A timer is due a resolution before its time; one that cannot be added to the time makes none due at all.
        self._loop._clock_resolution = max(self.resolution, 2 * math.ulp(self.seconds))
        return events


@contextmanager
def _asyncio_time(of: object, clock: VirtualClock, host: Host) -> Generator[None, None, None]:
    loop: Any = of  # as such, for type checkers: what is private is taken from it
    if not all(hasattr(loop, name) for name in ("_selector", "_scheduled", "_clock_resolution")):
        raise VirtualTimeError(
            f"There is no virtual time on {type(loop).__module__}.{type(loop).__name__}: it cannot be made to jump. "
            "Use asyncio's own loop (without uvloop), or trio."
        )
    selector = _JumpingSelector(loop, clock)
    instead: dict[str, Any] = {
        "_selector": selector,
        "time": lambda: selector.seconds,
        "run_in_executor": partial(_run_in_executor, loop.run_in_executor, clock),
        "shutdown_default_executor": partial(_standing, loop.shutdown_default_executor, clock),
        "_make_subprocess_transport": partial(_subprocess, loop, loop._make_subprocess_transport, clock),
        "add_reader": partial(_watched, loop.add_reader),
        "add_writer": partial(_watched, loop.add_writer),
        **{name: partial(_no_socket, f"`loop.{name}`") for name in _SOCKETS},
    }
    attributes = cast("dict[str, Any]", vars(loop))
    attributes.update(instead)
    clock.follow(host, lambda: selector.seconds, _anyio_threads(), _is_anyio_thread)
    try:
        yield
    finally:
        for name in instead:
            del attributes[name]
        loop._selector, loop._clock_resolution = selector.inner, selector.resolution


def _run_in_executor(original: Callable[..., Any], clock: VirtualClock, executor: Any, fn: Any, *args: Any) -> Any:
    hop = _ExecutorHop(clock, fn)
    clock.hold()
    try:
        future = original(executor, hop.run, *args)
    except BaseException:
        clock.release()
        raise
    future.add_done_callback(hop.arrived)
    return future


class _ExecutorHop:
    """A call in an executor. Its hold ends when its outcome has arrived in the loop or, if nobody wants that, at its end."""

    def __init__(self, clock: VirtualClock, fn: Callable[..., Any]) -> None:
        self._clock = clock
        self._fn = fn
        self._lock = threading.Lock()
        self._runs = self._is_unwanted = False

    def run(self, *args: Any) -> Any:
        self._runs = True
        try:
            with self._clock.carrying():
                return self._fn(*args)
        finally:
            with self._lock:
                self._runs = False
            if self._is_unwanted:
                self._clock.release()

    def arrived(self, _: object) -> None:
        with self._lock:
            self._is_unwanted = self._runs
        if not self._is_unwanted:
            self._clock.release()


async def _standing(original: Callable[..., Any], clock: VirtualClock, *args: Any, **kwargs: Any) -> Any:
    with clock.holding():
        return await original(*args, **kwargs)


async def _subprocess(loop: Any, original: Callable[..., Any], clock: VirtualClock, *args: Any, **kwargs: Any) -> Any:
    with clock.holding():
        transport = await original(*args, **kwargs)
        clock.hold()
        task = loop.create_task(transport._wait(), name="callsheet-subprocess")
        task.add_done_callback(partial(_released, clock))
        return transport


def _released(clock: VirtualClock, _: object) -> None:
    clock.release()


def _watched(original: Callable[..., Any], fd: Any, *args: Any) -> Any:
    number = fd if isinstance(fd, int) else fd.fileno()
    if stat.S_ISSOCK(fstat(number).st_mode):
        _no_socket("Waiting for a socket")
    return original(fd, *args)


def _anyio_threads() -> Callable[[], int]:
    """Give what counts the worker threads of anyio that are at work for the running loop. To be called in a task of it."""
    import anyio._backends._asyncio

    backend: Any = anyio._backends._asyncio  # private names: tests pin them
    names = backend._threadpool_workers, backend._threadpool_idle_workers
    values: dict[Any, Any] = names[0]._current_vars  # of the loop: between its tasks it could not be asked for

    def count() -> int:
        workers, idle = (values.get(name, ()) for name in names)
        return len(workers) - len(idle)

    return count


def _is_anyio_thread() -> bool:
    import anyio._backends._asyncio as backend

    return isinstance(threading.current_thread(), backend.WorkerThread)


# ------------------------------------------------------------------------------------------------------ trio


def trio_clock(clock: VirtualClock) -> trio.abc.Clock:
    """Give trio's mock clock, jumping when a virtual clock allows it; for `trio.run(…, clock=…)`."""
    from trio.testing import MockClock

    jumping: Any = MockClock()  # a final class
    sleep_time = jumping.deadline_to_sleep_time

    def deadline_to_sleep_time(deadline: float) -> float:
        # Asked before each sleep. Without a deadline there is nowhere to jump to, and trio would go round and round.
        jumps = deadline < math.inf and not clock.is_held
        jumping.autojump_threshold = 0 if jumps else math.inf
        return sleep_time(deadline)

    jumping.deadline_to_sleep_time = deadline_to_sleep_time
    return jumping


@contextmanager
def _trio_time(clock: VirtualClock, host: Host) -> Generator[None, None, None]:
    import trio
    from trio.testing import active_thread_count

    _teach_trio()
    inside: Any = trio
    runner: Any = inside._core._run.GLOBAL_RUN_CONTEXT.runner
    before: Any = runner.clock
    jumping: Any = trio_clock(clock)
    jumping.jump(math.ceil(before.current_time() * 1024) / 1024)
    parents: Any = inside._threads.PARENT_TASK_DATA
    clock.follow(host, jumping.current_time, active_thread_count, lambda: hasattr(parents, "token"))
    runner.clock = jumping
    trio.socket.set_custom_socket_factory(cast("Any", _NoSockets()))
    try:
        yield
    finally:
        trio.socket.set_custom_socket_factory(None)
        runner.clock, runner.clock_autojump_threshold = before, getattr(before, "autojump_threshold", math.inf)


class _NoSockets:
    """What trio asks for sockets."""

    def socket(self, *_: object) -> NoReturn:
        _no_socket("A socket")


@cache
def _teach_trio() -> None:
    """Have child processes hold virtual time, and sockets of others refused in it. trio has no other place for that."""
    import trio

    module: Any = cast("Any", trio)._subprocess
    original: Callable[..., Any] = module._open_process

    @wraps(original)
    async def open_process(*args: Any, **kwargs: Any) -> Any:
        clock: Any = virtual_clock()
        if clock is None:
            return await original(*args, **kwargs)
        with clock.holding():
            process = await original(*args, **kwargs)
            clock.hold()
            trio.lowlevel.spawn_system_task(_held_until_exit, process, clock, name="callsheet-subprocess")
            return process

    taken_over = trio.socket.from_stdlib_socket

    @wraps(taken_over)
    def from_stdlib_socket(sock: Any) -> Any:
        if virtual_clock() is None:
            return taken_over(sock)
        sock.close()  # whoever made it believes it to be in trio's hands
        _no_socket("A socket")

    trio.socket.from_stdlib_socket = from_stdlib_socket
    module._open_process = module.open_process = trio.lowlevel.open_process = open_process


async def _held_until_exit(process: Any, clock: VirtualClock) -> None:
    try:
        await process.wait()
    finally:
        clock.release()
