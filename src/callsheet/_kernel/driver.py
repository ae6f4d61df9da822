"""Blocking waits in async code.

A sync frame below an `async def` cannot await. Below a *driven* coroutine it can wait all the same: `wait` switches
by greenlet from the sync frame to the driver of its task; the driver awaits on the loop and switches back.

::

    the task's own greenlet (the hub)        a stepper, borrowed from this thread's pool
    drive(coroutine)                   ──►   coroutine.send(None)
      ▲ await                          ◄──     … a sync frame calls wait(awaitable)
      │ (the loop runs other tasks)            (the frame is parked on its stepper)
      └ done                           ──►     … and goes on with the value, or with the error raised in it
    return what it returned            ◄──   StopIteration

A coroutine that suspends by itself gives its stepper back, so only a parked sync frame costs a stack of its own.

Whatever an `awaitable` given to `wait` runs is awaited by the hub: it is not driven unless it is a `drive(…)` itself.
"""

from __future__ import annotations

import asyncio.tasks
import sys
from asyncio import CancelledError, Task
from asyncio import _get_running_loop as running_loop  # pyright: ignore[reportPrivateUsage]
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from sys import getrefcount
from types import CoroutineType, coroutine
from typing import Any, Final, TypeVar, cast

from greenlet import getcurrent, greenlet

from callsheet._kernel.steppers import (
    RAISED,
    RETURNED,
    UNSHARED,
    YIELDED,
    Parking,
    Stepper,
    dismiss,
    enter,
    here,
    let_go,
    resume,
)
from callsheet._unstarted import Unstarted, discard
from callsheet.exceptions import BlockingWaitError
from callsheet.settings import get_current_settings

T = TypeVar("T")

if sys.version_info < (
    3,
    12,
):  # there `current_task` is written in Python: a look-up in this dict, at four times its price
    task_of: Callable[[Any], Any] = getattr(asyncio.tasks, "_current_tasks").get  # noqa: B009 - unknown to type checkers
else:
    from asyncio import current_task as task_of


def current_backend_task() -> object | None:
    """Give the task that the running event loop is stepping in this thread, or None."""
    loop = running_loop()
    if loop is not None:
        task = task_of(loop)
        if task is not None:
            return task
    trio = sys.modules.get("trio.lowlevel")
    in_trio_task = getattr(trio, "in_trio_task", None)  # another thread may be halfway through importing it
    return trio.current_task() if trio is not None and in_trio_task is not None and in_trio_task() else None


def is_driven() -> bool:
    """Tell whether a sync frame here may wait for the loop without blocking it.

    A task that was started eagerly runs its first step on the stack of the task that started it; that one's
    driver could not be resumed from there, so the two must be the same.
    """
    stepper = _nearest()
    return stepper is not None and stepper.owner is not None and stepper.owner is current_backend_task()


def drive(awaitable: Awaitable[T]) -> CoroutineType[Any, Any, T]:
    """Await something so that sync code which it calls can wait for runs of the same event loop.

    Flows and tasks are driven by themselves. Drive your own coroutine when it is the outermost one of a task that you
    started (with `asyncio.create_task`, `gather`, a task group …) and sync code in it blocks on a future.

    Args:
        awaitable: A coroutine, or anything else that can be awaited.

    Returns:
        A coroutine that gives what the awaitable gives. Errors pass through unchanged, and so do cancellations.

    Example:
        >>> import asyncio
        >>> async def answer():
        ...     return 42
        >>> asyncio.run(drive(answer()))
        42
    """
    return _begin(Unstarted(awaitable))


def driven(awaitable: Awaitable[T]) -> Awaitable[T]:
    """Do what `drive` does, for a caller that awaits it on the spot: it need not guard what is never begun."""
    task, stepper = current_backend_task(), _nearest()
    if task is None or (stepper is not None and stepper.owner is task):
        return awaitable
    return _steps(awaitable if hasattr(awaitable, "send") else _awaiting(awaitable), task)


async def _begin(unstarted: Unstarted) -> Any:
    return await driven(unstarted.take())


async def _awaiting(awaitable: Awaitable[T]) -> T:
    return await awaitable


def wait(awaitable: Awaitable[T]) -> T:
    """Wait in a sync frame of a driven task while the event loop goes on.

    Args:
        awaitable: Awaited by the task itself, in its context, scopes and deadlines.

    Returns:
        What the awaitable gives.

    Raises:
        BlockingWaitError: The current task is not driven, or switching is forbidden by the settings.
        BaseException: Whatever the awaitable raises, and the cancellation of the task.
    """
    asker = getcurrent()
    stepper = _nearest()
    if stepper is None or stepper.owner is None or stepper.owner is not current_backend_task():
        raise _refusal(awaitable, _NOT_DRIVEN)
    if get_current_settings().blocking_waits == "error":
        raise _refusal(awaitable, _FORBIDDEN)
    stepper.request = awaitable
    stepper.asker = None if asker is stepper else asker
    hub = cast("greenlet", stepper.parent)
    del asker, stepper, awaitable  # what is parked refers to none of them
    error, value = hub.switch()
    if error is None:
        return value
    context = error.__context__
    try:
        raise error
    finally:
        if context is not None:
            error.__context__ = context  # `raise` has put what the frame was handling in its place
        del error, context


_NOT_DRIVEN: Final = (
    "This wait would block the event loop that it waits for, so it could never end. In async code use `await future`; "
    "to wait in sync code that it calls, run the coroutine by `await callsheet.drive(coro)`."
)
_FORBIDDEN: Final = (
    "Blocking waits in async code are errors here (CALLSHEET_BLOCKING_WAITS=error). Use `await future` instead; "
    "with the setting off, `callsheet.drive(coro)` lets sync code wait."
)


def _refusal(awaitable: object, message: str) -> BlockingWaitError:
    discard(awaitable)  # nobody will await it, and that is our doing
    return BlockingWaitError(message)


def _nearest() -> Stepper | None:
    """Find the nearest driver's stepper below the running frame; other libraries' greenlets may lie between."""
    found = getcurrent()
    while found is not None:
        if type(found) is Stepper:
            return found
        found = found.parent
    return None


# ------------------------------------------------------------------------------------------------ on the hub


@coroutine
def _steps(driven: Any, owner: object) -> Generator[Any, Any, Any]:
    send, throw, idle = driven.send, driven.throw, here.parking.idle
    if not isinstance(owner, Task):
        send, throw = _interruptible(send), _interruptible(throw)
    call, argument, stepper = send, None, None
    while True:
        stepper = enter(stepper, idle)
        stepper.owner = owner
        stepper.switch(call, argument)
        argument = None
        while stepper.outcome is None:
            yield from _answer(stepper, driven)
        how, argument = stepper.outcome
        stepper.outcome = stepper.owner = stepper.gr_context = None
        if stepper.above:
            dismiss(stepper.above)
        # Another library's greenlet that hangs on this stepper comes back to it, so the coroutine keeps it then.
        if getrefcount(stepper) <= UNSHARED or stepper.dead:
            let_go(stepper, idle)
            stepper = None
        if how is YIELDED:
            try:
                argument, call = (yield argument), send
            except GeneratorExit:
                driven.close()
                raise
            except BaseException as error:
                argument, call = error, throw
        elif how is RETURNED:
            return argument
        else:
            context = argument.__context__
            try:
                raise argument
            finally:
                if context is not None:
                    argument.__context__ = context
                del argument, context


def _answer(stepper: Stepper, driven: Any) -> Generator[Any, Any, None]:
    """Await what a parked frame asked for, and let it go on with the answer."""
    request, owner, parking = cast("Awaitable[Any]", stepper.request), stepper.owner, here.parking
    stepper.request = stepper.owner = None
    parking.parked[stepper] = driven
    error: BaseException | None = None
    value: Any = None
    try:
        value = yield from request.__await__()
    except GeneratorExit as closing:
        parking.parked.pop(stepper, None)
        if stepper.outcome is not None or parking is not here.parking:
            raise  # abandoned before; or collected in a foreign thread, which cannot switch to it
        error, owner = closing, None  # whoever closes a task awaits nothing any more: further waits are refused
    except BaseException as raised:
        error = raised
    del request
    parking.parked.pop(stepper, None)
    if stepper.outcome is None:
        stepper.owner = owner
        resume(stepper, error, value)
    del error, value  # this frame is in the error's traceback


# ----------------------------------------------------------------------------------------------- on trio


def _open(call: Callable[[Any], Any], argument: Any) -> Any:
    """Make a call in which Ctrl-C may strike. Frames end at a stepper's root, where trio takes all to be protected."""
    return call(argument)


def _interruptible(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if not _marked:
        from trio.lowlevel import disable_ki_protection, enable_ki_protection

        disable_ki_protection(_open)
        for function in (_steps, wait):  # half a switch would lose the parked frame
            enable_ki_protection(function)
        _marked.append(True)
    return partial(_open, call)


_marked: list[bool] = []


# ------------------------------------------------------------------------------------------ the parked frames


def parking() -> Parking:
    """Give this thread's parked frames, for a watchdog that looks from another thread."""
    return here.parking


def abandon_parked(reason: str) -> int:
    """Throw cancellation into every sync frame that is parked in this thread, the youngest first.

    For the end of a loop that leaves tasks behind; call it in the loop's thread, outside its tasks. While a loop
    runs, cancel the tasks: that reaches their parked frames and lets them wait in their `finally` blocks.

    Args:
        reason: The message of the cancellation.

    Returns:
        How many frames there were. They have ended; further waits of theirs were refused.
    """
    parked = here.parking.parked
    count = 0
    while parked:
        stepper, driven = parked.popitem()
        count += 1
        resume(stepper, CancelledError(reason), None)
        if stepper.outcome is not None and stepper.outcome[0] is YIELDED:
            stepper.outcome = (RAISED, CancelledError(reason))
            try:
                driven.close()
            except BaseException as error:
                stepper.outcome = (RAISED, error)  # the task has it, should it ever go on
    return count
