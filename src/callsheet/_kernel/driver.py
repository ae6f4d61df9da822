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

import sys
import threading
from asyncio import CancelledError, current_task
from asyncio import _get_running_loop as running_loop  # pyright: ignore[reportPrivateUsage]
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from sys import getrefcount
from types import CoroutineType, FrameType, coroutine
from typing import Any, Final, TypeVar, cast

from greenlet import GreenletExit, getcurrent, greenlet

from callsheet.exceptions import BlockingWaitError

T = TypeVar("T")

_RETURNED: Final = "returned"
_YIELDED: Final = "yielded"
_RAISED: Final = "raised"

# One at a time is in use unless sync frames are parked; after a crowd of those the rest is let go.
_POOL_SIZE: Final = 128
# A stepper counts the frames that were below it when it was made as its own for ever: one made deep in a
# recursion would leave its later users too few before RecursionError.
_SHALLOW: Final = 250


def _references_of_one_name() -> int:
    lone = object()
    return getrefcount(lone)


_UNSHARED: Final = _references_of_one_name()


class _Stepper(greenlet):
    """A stack on which a driven coroutine takes a step, and on which its sync frames are parked.

    Its own frames hold no reference to it: a parked stack is invisible to the garbage collector, so such a
    reference would keep an abandoned one alive for ever.
    """

    __slots__ = ("asker", "home", "lasting", "outcome", "owner", "request", "shallow")

    home: Parking
    shallow: bool  # was made with few frames below it
    lasting: bool  # may go to the pool; an idle stepper holds its last hub, so that must be the thread's own greenlet
    owner: object | None  # the backend task in whose step it runs; nobody's while it is idle or parked
    outcome: tuple[str, Any] | None  # how the step ended
    request: Awaitable[Any] | None  # what the parked frame waits for, until the hub takes it
    asker: greenlet | None  # the greenlet that is parked, if it is another library's above this one


class Parking:
    """The steppers of one thread. Holds no contexts, tasks, futures or exceptions."""

    __slots__ = ("__weakref__", "idle", "parked")

    def __init__(self) -> None:
        self.idle: list[_Stepper] = []
        self.parked: dict[_Stepper, Any] = {}  # with the coroutine whose sync frame it is; oldest first

    def frames(self) -> list[FrameType]:
        """Give the frame in which each parked stack waits, oldest first. From any thread."""
        parked = ((stepper.asker or stepper).gr_frame for stepper in list(self.parked))
        return [frame for frame in parked if frame is not None]


class _Here(threading.local):
    def __init__(self) -> None:
        self.parking = Parking()


_here = _Here()


def current_backend_task() -> object | None:
    """Give the task that the running event loop is stepping in this thread, or None."""
    loop = running_loop()
    if loop is not None:
        task = current_task(loop)
        if task is not None:
            return task
    trio = sys.modules.get("trio.lowlevel")
    if trio is not None and trio.in_trio_task():
        return trio.current_task()
    return None


def is_driven() -> bool:
    """Tell whether a sync frame here may wait for the loop without blocking it.

    A task that was started eagerly runs its first step on the stack of the task that started it; that one's
    driver could not be resumed from there, so the two must be the same.
    """
    stepper = _nearest()
    return stepper is not None and stepper.owner is not None and stepper.owner is current_backend_task()


async def drive(awaitable: Awaitable[T]) -> T:
    """Await something so that sync code which it calls can wait for runs of the same event loop.

    Flows and tasks are driven by themselves. Drive your own coroutine when it is the outermost one of a task that you
    started (with `asyncio.create_task`, `gather`, a task group …) and sync code in it blocks on a future.

    Args:
        awaitable: A coroutine, or anything else that can be awaited.

    Returns:
        What the awaitable gives. Its errors pass through unchanged, and so do cancellations into it.

    Example:
        >>> import asyncio
        >>> async def answer():
        ...     return 42
        >>> asyncio.run(drive(answer()))
        42
    """
    task, stepper = current_backend_task(), _nearest()
    if task is None or (stepper is not None and stepper.owner is task):
        return await awaitable
    return await _steps(awaitable if hasattr(awaitable, "send") else _awaiting(awaitable), task)


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
    if _is_forbidden():
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
    if isinstance(awaitable, CoroutineType):
        awaitable.close()  # nobody will await it, and that is our doing
    return BlockingWaitError(message)


def _never() -> bool:
    return False


_is_forbidden: Callable[[], bool] = _never


def forbid_switching(check: Callable[[], bool] | None) -> None:
    """Set what is asked before each switch of `wait`: an answer of True makes it an error. None allows all."""
    global _is_forbidden
    _is_forbidden = check or _never


def _nearest() -> _Stepper | None:
    """Find the nearest driver's stepper below the running frame; other libraries' greenlets may lie between."""
    found = getcurrent()
    while found is not None:
        if type(found) is _Stepper:
            return found
        found = found.parent
    return None


# ------------------------------------------------------------------------------------------------ on the hub


@coroutine
def _steps(driven: Any, owner: object) -> Generator[Any, Any, Any]:
    send, throw, idle = driven.send, driven.throw, _here.parking.idle
    if running_loop() is None:
        send, throw = _interruptible(send), _interruptible(throw)
    call, argument, stepper = send, None, None
    while True:
        if stepper is None:
            stepper = idle.pop() if idle else _make()
        stepper.gr_context = _place(stepper).gr_context
        stepper.owner = owner
        stepper.switch(call, argument)
        argument = None
        while stepper.outcome is None:
            yield from _answer(stepper, driven)
        how, argument = stepper.outcome
        stepper.outcome = stepper.owner = stepper.gr_context = None
        # Another library's greenlet that hangs on this stepper comes back to it, so the coroutine keeps it then.
        if getrefcount(stepper) <= _UNSHARED or stepper.dead:
            _let_go(stepper, idle)
            stepper = None
        if how is _YIELDED:
            try:
                argument, call = (yield argument), send
            except GeneratorExit:
                driven.close()
                raise
            except BaseException as error:
                argument, call = error, throw
        elif how is _RETURNED:
            return argument
        else:
            context = argument.__context__
            try:
                raise argument
            finally:
                if context is not None:
                    argument.__context__ = context
                del argument, context


def _let_go(stepper: _Stepper, idle: list[_Stepper]) -> None:
    if stepper.lasting and len(idle) < _POOL_SIZE:
        idle.append(stepper)
    elif not stepper.dead:
        stepper.switch(None, None)


def _make() -> _Stepper:
    stepper = _Stepper(_serve)
    stepper.home = _here.parking
    stepper.owner = stepper.outcome = stepper.request = stepper.asker = None
    try:
        sys._getframe(_SHALLOW)  # pyright: ignore[reportPrivateUsage]
        stepper.shallow = False
    except ValueError:
        stepper.shallow = True
    stepper.lasting = stepper.shallow and getcurrent().parent is None
    return stepper


def _place(stepper: _Stepper) -> greenlet:
    """Put a stepper above the running greenlet, which its switches and its end lead to."""
    hub = getcurrent()
    if stepper.parent is not hub:
        stepper.parent = hub
        stepper.lasting = stepper.shallow and hub.parent is None
    return hub


def _answer(stepper: _Stepper, driven: Any) -> Generator[Any, Any, None]:
    """Await what a parked frame asked for, and let it go on with the answer."""
    request, owner, parking = cast("Awaitable[Any]", stepper.request), stepper.owner, stepper.home
    stepper.request = stepper.owner = None
    parking.parked[stepper] = driven
    error: BaseException | None = None
    value: Any = None
    try:
        value = yield from request.__await__()
    except GeneratorExit as closing:
        parking.parked.pop(stepper, None)
        if stepper.outcome is not None or parking is not _here.parking:
            raise  # abandoned before; or collected in a foreign thread, which cannot switch to it
        error, owner = closing, None  # whoever closes a task awaits nothing any more: further waits are refused
    except BaseException as raised:
        error = raised
    del request
    parking.parked.pop(stepper, None)
    if stepper.outcome is None:
        stepper.owner = owner
        _resume(stepper, error, value)
    del error, value  # this frame is in the error's traceback


def _resume(stepper: _Stepper, error: BaseException | None, value: Any) -> None:
    asker, stepper.asker = stepper.asker or stepper, None
    _place(stepper)
    asker.switch(error, value)


# -------------------------------------------------------------------------------------------- on the stepper


def _serve(call: Callable[[Any], Any] | None, argument: Any) -> None:
    """Take one step of one coroutine after another. The stack's first frame."""
    while call is not None:
        try:
            outcome = (_YIELDED, call(argument))
        except StopIteration as stop:
            outcome = (_RETURNED, stop.value)
        except GreenletExit as dropped:
            # Nobody can resume this stack any more; the interpreter unwinds it and it must end here.
            me = cast("_Stepper", getcurrent())
            me.outcome, me.lasting = (_RAISED, dropped), False
            return
        except BaseException as error:
            trace = error.__traceback__
            outcome = (_RAISED, error.with_traceback(trace and trace.tb_next))  # without this frame
            del trace
        cast("_Stepper", getcurrent()).outcome = outcome
        del call, argument, outcome
        call, argument = cast("greenlet", getcurrent().parent).switch()


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
    return _here.parking


def abandon_parked(reason: str) -> int:
    """Throw cancellation into every sync frame that is parked in this thread, the youngest first.

    For the end of a loop that leaves tasks behind; call it in the loop's thread, outside its tasks. While a loop
    runs, cancel the tasks: that reaches their parked frames and lets them wait in their `finally` blocks.

    Args:
        reason: The message of the cancellation.

    Returns:
        How many frames there were. They have ended; further waits of theirs were refused.
    """
    parked = _here.parking.parked
    count = 0
    while parked:
        stepper, driven = parked.popitem()
        count += 1
        _resume(stepper, CancelledError(reason), None)
        if stepper.outcome is not None and stepper.outcome[0] is _YIELDED:
            stepper.outcome = (_RAISED, CancelledError(reason))
            driven.close()
    return count
