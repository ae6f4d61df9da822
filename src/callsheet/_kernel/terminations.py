"""SIGTERM while async root runs are alive in the main thread.

Sync roots are interrupted where they are (see `alarms`). On a loop nothing may be raised from a signal handler: it
could land in the loop itself. So the handler only asks the runs to leave; each ends as crashed and raises
`TerminationSignal` to its caller, and when the last one has left the host's handler is called, or the process ends
as it would have without us. A second SIGTERM does that at once.

What the host has planned for is left alone: handlers of loops and of web servers, ignored signals, other threads,
and every run of an explicit engine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Self

from callsheet._kernel.alarms import in_main_thread, is_of_a_loop
from callsheet._kernel.handlers import DEFAULT, Handler, handler_of, set_handler

if TYPE_CHECKING:
    from callsheet._kernel.host import Host

_guards: list[TerminationGuard] = []  # of the root runs that are alive
_previous: Handler = None  # the host's, while there are guards
_came = False
_wakeup: tuple[Host, int] | None = None  # where we have signals written to, while there are guards


class TerminationGuard:
    """A context in which SIGTERM asks a run to leave. Enter it in the thread of the run's loop."""

    __slots__ = ("_entered", "_host", "_is_last", "_leave")

    def __init__(self, host: Host, leave: Callable[[], object]) -> None:
        """Make a context.

        Args:
            host: the run's loop.
            leave: asks the run to leave; called on that loop.
        """
        self._host = host
        self._leave = leave
        self._entered = self._is_last = False

    @property
    def terminated(self) -> bool:
        """Whether SIGTERM came and this was the last run that had to leave: see `propagate`."""
        return self._is_last and _came

    def __enter__(self) -> Self:
        if _guards or _take_over(self._host):
            _guards.append(self)
            self._entered = True
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._entered and self in _guards:  # a forked child has none of its parent's
            self._is_last = len(_guards) == 1
            if self._is_last:
                _give_back()
            _guards.remove(self)

    def ask(self) -> None:
        """Ask the run to leave, from a signal handler."""
        self._host.post(self._leave)

    def propagate(self) -> None:
        """Do, when everything is recorded, what the signal would have done without us."""
        global _came
        if self.terminated:
            _came = False
            _as_without_us()


def _take_over(host: Host) -> bool:
    global _previous
    if not in_main_thread():
        return False
    handler = handler_of(signal.SIGTERM)
    if handler != DEFAULT and (not callable(handler) or is_of_a_loop(handler)):
        return False
    _previous = handler
    set_handler(signal.SIGTERM, _on_termination)
    _have_it_wake(host)
    return True


def _have_it_wake(host: Host) -> None:
    """See to it that a signal ends the loop's wait for events.

    It does by itself where it interrupts that wait. One that comes a moment before the wait begins, or that the
    system hands to another thread, is noted only, and a loop that nothing else wakes never looks.
    """
    global _wakeup
    end = host.signal_fd
    if end is None:
        return
    before = signal.set_wakeup_fd(end, warn_on_full_buffer=False)
    if before == -1:
        _wakeup = host, end
    else:  # somebody listens already
        signal.set_wakeup_fd(before)


def _give_back() -> None:
    global _wakeup
    ours, _wakeup = _wakeup, None
    if ours is not None:
        host, end = ours
        found = signal.set_wakeup_fd(-1)
        if found != end or (host.signal_fd is None and not host.closed):  # somebody has listened since
            signal.set_wakeup_fd(found)
    if handler_of(signal.SIGTERM) is _on_termination:  # else the host has installed another one meanwhile
        set_handler(signal.SIGTERM, _previous)


def _as_without_us() -> None:
    if callable(_previous):
        _previous(signal.SIGTERM, None)
    else:
        signal.raise_signal(signal.SIGTERM)


def _on_termination(_signum: int, _frame: FrameType | None) -> None:
    global _came
    if _came:
        _give_back()
        _as_without_us()
        return
    _came = True
    for guard in _guards:
        guard.ask()


def _after_fork() -> None:
    """Leave a child the host's handler: its loop, if any, is another one."""
    global _came
    _came = False
    if _guards:
        _guards.clear()
        _give_back()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
