"""The stacks on which driven code runs, lent for one step at a time by a pool.

A stepper is a greenlet that takes one step of one coroutine after another. While it is idle it holds nothing of its
last user; while a sync frame is parked on it, it belongs to that frame's coroutine.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, Final, cast

from greenlet import GreenletExit, getcurrent, greenlet

RETURNED: Final = "returned"
YIELDED: Final = "yielded"
RAISED: Final = "raised"

# One at a time is in use unless sync frames are parked; after a crowd of those the rest is let go.
_POOL_SIZE: Final = 128
# A stepper counts the frames that were below it when it was made as its own for ever: one made deep in a
# recursion would leave its later users too few before RecursionError.
_SHALLOW: Final = 250


def _references_of_one_name() -> int:
    lone = object()
    return sys.getrefcount(lone)


UNSHARED: Final = _references_of_one_name()


class Stepper(greenlet):
    """A stack on which a driven coroutine takes a step, and on which its sync frames are parked.

    Its own frames hold no reference to it: a parked stack is invisible to the garbage collector, so such a
    reference would keep an abandoned one alive for ever.
    """

    __slots__ = ("above", "asker", "outcome", "owner", "request", "shallow")

    shallow: bool  # was made with few frames below it
    above: list[Stepper]  # the pool of those that ran on this one, for tasks that were started eagerly
    owner: object | None  # the backend task in whose step it runs; nobody's while it is idle or parked
    outcome: tuple[str, Any] | None  # how the step ended
    request: Awaitable[Any] | None  # what the parked frame waits for, until the hub takes it
    asker: greenlet | None  # the greenlet that is parked, if it is another library's above this one


class Parking:
    """The steppers of one thread. Holds no contexts, tasks, futures or exceptions."""

    __slots__ = ("__weakref__", "idle", "parked")

    def __init__(self) -> None:
        self.idle: list[Stepper] = []
        self.parked: dict[Stepper, Any] = {}  # with the coroutine whose sync frame it is; oldest first

    def frames(self) -> list[FrameType]:
        """Give the frame in which each parked stack waits, oldest first. From any thread."""
        parked = ((stepper.asker or stepper).gr_frame for stepper in list(self.parked))
        return [frame for frame in parked if frame is not None]


class _Here(threading.local):
    def __init__(self) -> None:
        self.parking = Parking()


here = _Here()


def enter(stepper: Stepper | None, idle: list[Stepper]) -> Stepper:
    """Get a stepper ready above the running greenlet, which its switches and its end lead to.

    `idle` is the pool of the calling thread.
    """
    hub = getcurrent()
    if stepper is None:
        pool = _pool(hub, idle)
        stepper = pool.pop() if pool else _make()
    elif stepper.parent is not hub:
        stepper.parent = hub
    stepper.gr_context = hub.gr_context
    return stepper


def _pool(hub: greenlet, idle: list[Stepper]) -> list[Stepper] | None:
    """Choose the pool by the hub: an idle stepper is suspended in a call that holds its hub, so the two stay together."""
    if hub.parent is None:
        return idle
    return hub.above if type(hub) is Stepper else None


def _make() -> Stepper:
    stepper = Stepper(_serve)
    stepper.owner = stepper.outcome = stepper.request = stepper.asker = None
    stepper.above = []
    try:
        sys._getframe(_SHALLOW)  # pyright: ignore[reportPrivateUsage]
        stepper.shallow = False
    except ValueError:
        stepper.shallow = True
    return stepper


def let_go(stepper: Stepper, idle: list[Stepper]) -> None:
    """Put an idle stepper where the next one who needs it looks, or end it. On its hub.

    The pool is looked up and not kept by the stepper: that would be a cycle, left behind by every thread that ends.
    """
    if stepper.dead:
        return
    hub = getcurrent()
    pool = _pool(hub, idle)
    if stepper.shallow and pool is not None and len(pool) < _POOL_SIZE:
        pool.append(stepper)
    else:
        stepper.switch(None, None)


def dismiss(idle: list[Stepper]) -> None:
    """End the steppers of a pool."""
    while idle:
        stepper = idle.pop()
        stepper.parent = getcurrent()
        stepper.switch(None, None)


def resume(stepper: Stepper, error: BaseException | None, value: Any) -> None:
    """Switch to the frame that is parked on a stepper; returns when it has parked again or its step has ended."""
    asker, stepper.asker = stepper.asker or stepper, None
    hub = getcurrent()
    if stepper.parent is not hub:
        stepper.parent = hub
    asker.switch(error, value)


def _serve(call: Callable[[Any], Any] | None, argument: Any) -> None:
    """Take one step of one coroutine after another. The stack's first frame."""
    while call is not None:
        try:
            outcome = (YIELDED, call(argument))
        except StopIteration as stop:
            outcome = (RETURNED, stop.value)
        except GreenletExit as dropped:
            # Nobody can resume this stack any more; the interpreter unwinds it and it must end here.
            me = cast("Stepper", getcurrent())
            me.outcome = (RAISED, dropped)
            return
        except BaseException as error:
            trace = error.__traceback__
            outcome = (RAISED, error.with_traceback(trace and trace.tb_next))  # without this frame
            del trace
        me: Any = getcurrent()
        me.outcome, hub = outcome, me.parent
        del call, argument, outcome, me
        call, argument = hub.switch()
        del hub  # the next step may have another one
