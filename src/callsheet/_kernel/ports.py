"""Ports: how a run waits and how its body is called, in each place where a run can live.

The run loop is written once, as coroutines that await nothing but the methods of a port. On a loop they
suspend. In a thread they block it and never suspend, so `step` runs them to their end with a single `send`.
In a sync call inside an async task they switch to the task's driver. (The same idea as drivers of sans-I/O
generators: one logic, one small driver for each way of waiting.)
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from inspect import isawaitable
from typing import Any, Final, Protocol, TypeVar

from anyio import CancelScope, current_time, move_on_after

from callsheet._clock import virtual_clock
from callsheet._kernel import driver
from callsheet._kernel.critical import critical
from callsheet._kernel.host import Host, current_host, runtime_thread
from callsheet._kernel.loop_parts import Event
from callsheet._kernel.scopes import DEADLINE, Interrupted, RunScope
from callsheet._kernel.signals import Once
from callsheet._kernel.spawning import Flag, threads
from callsheet._unstarted import discard
from callsheet.exceptions import BlockingWaitError

T = TypeVar("T")
_HEARS_SIGNALS: Final = 0.5  # seconds after which a main thread that waits has heard of a signal at the latest
_AS_IT_IS: Final = nullcontext()


class Port(Protocol):
    """One place where a run lives."""

    @property
    def host(self) -> Host | None:
        """Give the loop, for runs that live in a task of one."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let others run, where the place has others."""
        ...

    def due_checkpoint(self) -> Awaitable[None] | None:
        """Give what lets others run before a run that begins here, where they are due."""
        ...

    async def wait(self, once: Once, timeout: float | None = None, scope: RunScope | None = None) -> bool:
        """Wait until `once` is set or `timeout` seconds are over; tell whether it is set.

        Raises:
            Interrupted: `scope` ended meanwhile.
        """
        ...

    async def shielded_wait(self, once: Once, timeout: float | None = None) -> bool:
        """Wait, whatever scopes around end meanwhile; native cancellation still goes through."""
        ...

    async def call(self, fn: Callable[..., Any], *args: Any, scope: RunScope | None = None) -> Any:
        """Call a function of the user (hook, condition) of either colour and give its value.

        Raises:
            Interrupted: `scope` ended while an async one was under way.
        """
        ...


def _never() -> None:
    return None


def step(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, in the calling thread."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise BlockingWaitError(
        "A coroutine that waits for an event loop was called from sync code. Await it in async code instead."
    )


def _wake(host: Host, event: Event) -> None:
    """Let a task go on that waits in a loop, from any thread."""
    if host.is_here():
        event.set()
    else:
        host.post(event.set)


async def _awaited(value: Awaitable[T]) -> T:
    return await value


class LoopPort:
    """A run that lives in a task of an event loop."""

    __slots__ = ("host",)

    def __init__(self, host: Host) -> None:
        self.host: Host = host

    def checkpoint(self) -> Awaitable[None]:
        return self.host.checkpoint()

    def due_checkpoint(self) -> Awaitable[None] | None:
        return self.host.due_checkpoint()

    async def wait(self, once: Once, timeout: float | None = None, scope: RunScope | None = None) -> bool:
        if not once.is_set:
            event = self.host.new_event()
            wake = partial(_wake, self.host, event)
            once.subscribe(wake)
            if scope is not None:
                scope.subscribe(wake)
            try:
                if timeout is None:
                    await event.wait()
                else:
                    with move_on_after(timeout):
                        await event.wait()
            finally:
                once.unsubscribe(wake)
                if scope is not None:
                    scope.unsubscribe(wake)
        if scope is not None and scope.reason is not None:
            raise Interrupted
        return once.is_set

    async def shielded_wait(self, once: Once, timeout: float | None = None) -> bool:
        with CancelScope(shield=True):
            await self.wait(once, timeout)
        return once.is_set

    async def call(self, fn: Callable[..., Any], *args: Any, scope: RunScope | None = None) -> Any:
        value = fn(*args)
        return await self.within(value, scope) if isawaitable(value) else value

    async def within(self, value: Awaitable[T], scope: RunScope | None) -> T:
        """Await what a function of the user gave, under a run's scope if there is one.

        Raises:
            Interrupted: the scope ended.
        """
        return await value if scope is None else await self.call_async(partial(_awaited, value), (), {}, scope, None)

    async def call_async(
        self,
        fn: Callable[..., Awaitable[T]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        scope: RunScope,
        timeout: float | None,
    ) -> T:
        """Await an async body under the run's scope.

        Raises:
            Interrupted: the scope ended: its deadline passed, or the run was cancelled.
        """
        with self.host.new_scope() as loop_scope:
            if timeout is not None:
                loop_scope.deadline = current_time() + timeout
            scope.attach(loop_scope, self.host)
            try:
                value = await fn(*args, **kwargs)
            finally:
                scope.detach()
                if timeout is not None and loop_scope.cancel_called and scope.reason is None:
                    scope.reason = DEADLINE
            if scope.reason is None:
                return value
        raise Interrupted


class StartedPort(LoopPort):
    """A run that has a task of its own: others ran before its first step."""

    __slots__ = ()

    def due_checkpoint(self) -> None:
        return None


class ThreadPort:
    """A run that lives in a thread without a running loop; every method blocks it."""

    __slots__ = ()
    host: Host | None = None

    async def checkpoint(self) -> None:
        return

    due_checkpoint = staticmethod(_never)

    async def wait(self, once: Once, timeout: float | None = None, scope: RunScope | None = None) -> bool:
        if not once.is_set:
            block(once, timeout, scope)
        if scope is not None and scope.reason is not None:
            raise Interrupted
        return once.is_set

    async def shielded_wait(self, once: Once, timeout: float | None = None) -> bool:
        return await self.wait(once, timeout)

    async def call(self, fn: Callable[..., Any], *args: Any, scope: RunScope | None = None) -> Any:
        value = critical.lift(fn, *args)
        if not isawaitable(value):
            return value
        host = runtime_thread.host()
        return run_on(host, LoopPort(host).within(value, scope))


def block(once: Once, timeout: float | None, scope: RunScope | None = None, *, rest: float | None = None) -> None:
    """Block the calling thread until `once` is set, `scope` has ended or time is over.

    Args:
        once: What is waited for.
        timeout: Seconds of the clock of this context; `None`: for ever.
        scope: What ends the wait, too.
        rest: Seconds of the machine; in virtual time, where nobody knows how long others take, they are not the same.
    """
    clock = virtual_clock()
    if clock is None:
        event = threads.flag()
        seconds = timeout if rest is None else rest if timeout is None else min(timeout, rest)
        _block(_AS_IT_IS, event, seconds, event.set, once, scope)
    else:
        parking = clock.parking(timeout)
        _block(parking, parking.event, rest, parking.wake, once, scope)


def _block(
    meanwhile: AbstractContextManager[object],
    event: Flag,
    seconds: float | None,
    wake: Callable[[], object],
    once: Once,
    scope: RunScope | None,
) -> None:
    # Subscribed for longer than it is parked: in between time would go on, with nobody to hear that it must not.
    once.subscribe(wake)
    if scope is not None:
        scope.subscribe(wake)
    try:
        with meanwhile:
            critical.lift(_wait, event, seconds)
    finally:
        once.unsubscribe(wake)
        if scope is not None:
            scope.unsubscribe(wake)


def _wait(event: Flag, seconds: float | None) -> None:
    # Python's handlers run in the main thread, between its bytecodes. A signal that another thread was given, or that came just
    # before the system call, does not end that call: nobody would hear of it before the wait is over, which may be never.
    if seconds is None and not threads.simulated and threading.get_ident() == threading.main_thread().ident:
        while not event.wait(_HEARS_SIGNALS):
            pass
    else:
        event.wait(seconds)


class SwitchPort:
    """A sync call inside a driven task: waits switch to the driver, which lets the loop go on."""

    __slots__ = ("_loop_port",)
    host: Host | None = None  # it switches only where it truly must wait, never for an acknowledgement

    def __init__(self, host: Host) -> None:
        self._loop_port = LoopPort(host)

    async def checkpoint(self) -> None:
        return  # sync code does not expect others to run at each of its calls

    due_checkpoint = staticmethod(_never)

    async def wait(self, once: Once, timeout: float | None = None, scope: RunScope | None = None) -> bool:
        if once.is_set and (scope is None or scope.reason is None):
            return True
        critical.lift(driver.wait, self._loop_port.wait(once, timeout, scope))
        return once.is_set

    async def shielded_wait(self, once: Once, timeout: float | None = None) -> bool:
        if not once.is_set:
            critical.lift(driver.wait, self._loop_port.shielded_wait(once, timeout))
        return once.is_set

    async def call(self, fn: Callable[..., Any], *args: Any, scope: RunScope | None = None) -> Any:
        value = critical.lift(fn, *args)
        if not isawaitable(value):
            return value
        try:
            return critical.lift(driver.wait, self._loop_port.within(value, scope))
        finally:
            discard(value)  # where waiting is refused nobody has begun it


THREAD_PORT = ThreadPort()


def sync_port() -> Port:
    """Give the port for a sync call in the calling thread."""
    host = current_host()
    if host is None or not driver.is_driven():
        return THREAD_PORT
    return SwitchPort(host)


def wait_blocking(once: Once, timeout: float | None, scope: RunScope | None, home: Host | None) -> bool:
    """Wait in a sync frame, wherever it runs. `home` is the loop that what is waited for needs.

    Raises:
        BlockingWaitError: the wait would block that very loop, so it could never end.
    """
    if once.is_set:
        return True
    host = current_host()
    if host is not None and not driver.is_driven() and host is home:
        raise BlockingWaitError(
            "This wait blocks the event loop that the run it waits for needs, so it could never end. "
            "Use `await future`, or run the helper that waits here by `await callsheet.drive(helper())`."
        )
    return step(sync_port().wait(once, timeout, scope))


async def apart(work: Callable[[], T], port: Port, start: Callable[[Callable[[], None]], object]) -> T:
    """Do something that blocks on a thread that `start` gives, while the caller waits, whatever ends around it."""
    done = Once()
    box: list[Any] = [None, None]

    def do() -> None:
        try:
            box[0] = work()
        except BaseException as error:
            box[1] = error
        finally:
            done.set()

    start(do)
    await port.shielded_wait(done)
    if box[1] is not None:
        raise box[1]
    return box[0]


def run_on(host: Host, awaitable: Awaitable[T]) -> T:
    """Run an awaitable on a host's loop while the calling thread waits; context variables go along."""
    done = Once()
    box: list[Any] = [None, None]

    async def actor() -> None:
        try:
            box[0] = await awaitable
        except BaseException as error:
            box[1] = error
        finally:
            done.set()

    tasks: list[object] = []
    context = copy_context()
    host.post(lambda: tasks.append(host.spawn(actor, context)))
    step(THREAD_PORT.wait(done))
    if box[1] is not None:
        raise box[1]
    return box[0]
