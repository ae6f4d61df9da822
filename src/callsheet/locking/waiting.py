"""How the code of lock managers runs, in each place from which they are called."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from callsheet._clock import monotonic
from callsheet._kernel.critical import critical
from callsheet._kernel.host import Host, current_host
from callsheet._kernel.ports import LoopPort, Port, ThreadPort, apart, step, sync_port
from callsheet._kernel.scopes import RunScope
from callsheet._kernel.signals import Once
from callsheet._kernel.threads import start_thread
from callsheet.context import current_run
from callsheet.exceptions import BlockingWaitError

T = TypeVar("T")


def blocking(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Do something in the calling thread; in sync code of a run on a loop the loop goes on while it waits."""
    with critical:
        return step(work(sync_port(), *args))


async def awaited(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    """Do something in a task of the running event loop.

    Raises:
        RuntimeError: No event loop is running here.
    """
    host = current_host()
    if host is None:
        raise RuntimeError("Locks are awaited on asyncio or trio. In sync code call the method without the `a`.")
    return await work(LoopPort(host), *args)


def blocked_loop(port: Port) -> Host | None:
    """Give the loop that a wait would stop: sync code in a task that nobody drives."""
    return current_host() if isinstance(port, ThreadPort) else None


def would_hang(key: str, method: str) -> BlockingWaitError:
    """Make the error of a wait for somebody who needs the very loop that the wait would stop."""
    return BlockingWaitError(
        f"The lock {key!r} is held, or waited for, by code of the event loop that this call would block, so it could never "
        f"be released. Use `await locks.a{method}(…)`, pass a timeout, or run the code that calls this by "
        f"`await callsheet.drive(helper())`."
    )


async def off_loop(port: Port, work: Callable[[], T]) -> T:
    """Do something that waits for a disk: on a thread if a loop would be blocked."""
    if isinstance(port, ThreadPort):
        return critical.lift(work)
    return await apart(work, port, lambda job: start_thread(job, "callsheet-locking"))


async def wait_until(port: Port, once: Once, deadline: float | None) -> bool:
    """Wait for a condition until a time of the clock that is kept here; tell whether it holds.

    Raises:
        Interrupted: The run that waits must leave.
    """
    run = current_run.get()
    scope: RunScope | None = None if run is None or run.cell.ended else run.scope
    timeout = None if deadline is None else max(0.0, deadline - monotonic())
    return await port.wait(once, timeout, scope)
