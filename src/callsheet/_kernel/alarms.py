"""Signals of a sync root: deadlines that interrupt `time.sleep`, Ctrl-C and SIGTERM.

For a flow or task that is called from sync code in the main thread, where no event loop runs. Python runs its
signal handlers there, between two bytecodes of whatever runs. Ours raise only in the user's code: in a critical
section (see `critical`) they leave a note that is raised as soon as the section is left through
``critical.lift`` or ``critical.check``; an alarm also comes back by itself, every `RETRY_SECONDS`.

What the host had set is the same after as before, and its own alarm clock rings at its time meanwhile. A handler
that the body installs itself is left alone.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any, Self

from callsheet._kernel.critical import critical, is_bookkeeping
from callsheet._kernel.handlers import DEFAULT, Handler, handler_of, set_handler
from callsheet._kernel.host import current_host
from callsheet._kernel.spawning import threads
from callsheet.exceptions import TerminationSignal

RETRY_SECONDS = 0.005  # an alarm that came in a critical section comes again
AGAIN_SECONDS = 0.02  # an alarm that this thread has not noticed comes again
PATIENCE_SECONDS = 0.5  # a second Ctrl-C this long after one that was held back is raised wherever it comes
_SHORTEST = 1e-6  # zero would switch the timer off
_EARLY = 1e-4  # timers count in another unit than the clock; this much before its time an alarm counts as due


def usable() -> bool:
    """Tell whether an alarm can guard code that is called here.

    That takes the main thread of the main interpreter, no event loop that runs in it, a system with SIGALRM, and
    no handler of it that Python did not install and could not restore.
    """
    return hasattr(signal, "SIGALRM") and _signals_usable() and handler_of(signal.SIGALRM) is not None


def _signals_usable() -> bool:
    return current_host() is None and not threads.simulated and in_main_thread()


def in_main_thread() -> bool:
    """Tell whether the caller may set handlers: in the main thread of the main interpreter."""
    return threading.get_ident() == threading.main_thread().ident and _is_main_interpreter()


@cache
def _is_main_interpreter() -> bool:
    try:
        set_handler(signal.SIGINT, handler_of(signal.SIGINT))
    except (ValueError, TypeError):  # a sub-interpreter; a handler that is not Python's
        return False
    return True


def _is_free(frame: FrameType | None, may_raise: Callable[[], bool]) -> bool:
    """Tell whether a handler that interrupted `frame` may raise there."""
    return critical.may_raise() and may_raise() and not is_bookkeeping(frame, globals())


# -------------------------------------------------------------------------------------------------------------- alarms


class _HostAlarm:
    """What the host had set for SIGALRM before the outermost alarm of ours."""

    __slots__ = ("handler", "interval", "rings_at")

    def __init__(self) -> None:
        self.handler: Handler = handler_of(signal.SIGALRM)
        rest, self.interval = signal.setitimer(signal.ITIMER_REAL, 0)
        self.rings_at = time.monotonic() + rest if rest else None

    def give_back(self) -> None:
        if handler_of(signal.SIGALRM) is not _on_alarm:
            return  # the body installed its own handler, and perhaps its own alarm
        signal.setitimer(signal.ITIMER_REAL, 0)
        set_handler(signal.SIGALRM, self.handler)
        if self.rings_at is not None:
            rest = max(self.rings_at - time.monotonic(), _SHORTEST)
            signal.setitimer(signal.ITIMER_REAL, rest, self.interval)

    def ring(self, now: float, frame: FrameType | None) -> None:
        """Do what would have happened without us, if it is due. The host's handler may raise, so not everywhere."""
        if self.rings_at is None or self.rings_at > now + _EARLY or not _is_free(frame, critical.may_raise):
            return
        self.rings_at = max(self.rings_at + self.interval, now) if self.interval else None
        if callable(self.handler):
            self.handler(signal.SIGALRM, frame)
        elif self.handler == DEFAULT:  # the end of the process
            set_handler(signal.SIGALRM, DEFAULT)
            signal.raise_signal(signal.SIGALRM)


_alarms: list[Alarm] = []  # outermost first
_host_alarm: _HostAlarm | None = None  # while there are alarms


class Alarm:
    """A context in which the code is interrupted at a deadline; made by `deadline_alarm`.

    Attributes:
        deadline: when it is due, in seconds of the monotonic clock.
        settled: its exception was raised, or that of an outer one, which ends this one too.
        pending: the deadline has passed and nothing was raised for it (yet).
        raised: what was raised for it. It is raised once, also if the body catches it.
    """

    __slots__ = ("_make_exc", "_may_raise", "_seconds", "deadline", "pending", "raised", "settled")

    def __init__(self, seconds: float, make_exc: Callable[[], BaseException], may_raise: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._make_exc = make_exc
        self._may_raise = may_raise
        self.deadline = 0.0
        self.settled = False
        self.pending = False
        self.raised: BaseException | None = None

    @property
    def expired(self) -> bool:
        """Whether the deadline passed before the end of the context."""
        return self.pending or self.raised is not None

    def __enter__(self) -> Self:
        global _host_alarm
        with critical:
            if not _alarms:
                if not usable():
                    raise RuntimeError("Alarms work in the main thread only, where no event loop runs.")
                host_alarm = _HostAlarm()
                set_handler(signal.SIGALRM, _on_alarm)
                _host_alarm = host_alarm
            self.deadline = time.monotonic() + self._seconds
            _alarms.append(self)
            _set_timer()
        return self

    def __exit__(self, *exc_info: object) -> None:
        global _host_alarm
        with critical:
            _alarms.remove(self)
            self.pending = self.raised is None and time.monotonic() >= self.deadline
            if _alarms:
                _set_timer()
            elif _host_alarm is not None:
                host_alarm, _host_alarm = _host_alarm, None
                host_alarm.give_back()

    def check(self) -> None:
        """Raise what is pending, if the context is still entered."""
        if self.pending and not self.settled and self in _alarms:
            self._raise()

    def _raise(self) -> None:
        for alarm in _alarms[_alarms.index(self) :]:
            alarm.settled = True
        self.pending = False
        self.raised = self._make_exc()
        raise self.raised

    def ring(self, frame: FrameType | None) -> None:
        """Raise if that may be done here; else leave a note."""
        self.pending = True
        if _is_free(frame, self._may_raise):
            self._raise()
        critical.section.defer(self.check)


def deadline_alarm(
    seconds: float, make_exc: Callable[[], BaseException], *, may_raise: Callable[[], bool] = critical.may_raise
) -> Alarm:
    """Give a context in which an exception is raised at a deadline, also in the middle of `time.sleep`.

    Contexts nest: each holds, the outer one comes first if both are due, and ends the inner one.

    Args:
        seconds: from entering the context to the deadline.
        make_exc: makes the exception.
        may_raise: tells whether it may be raised now. It never is in a critical section.

    Returns:
        The context. It raises `RuntimeError` when entered where alarms are not `usable`.

    Example:
        >>> try:
        ...     with deadline_alarm(0.001, TimeoutError) as alarm:
        ...         time.sleep(10)
        ... except TimeoutError as error:
        ...     error is alarm.raised
        True
    """
    return Alarm(seconds, make_exc, may_raise)


def _on_alarm(_signum: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    try:
        if _host_alarm is not None:
            _host_alarm.ring(now, frame)  # may raise
    finally:
        due = next((alarm for alarm in _alarms if not alarm.settled and alarm.deadline <= now + _EARLY), None)
        _set_timer()
    if due is not None:
        due.ring(frame)


def _set_timer() -> None:
    now = time.monotonic()
    # One that has passed is being seen to, and comes again if that could not be done.
    moments = [alarm.deadline for alarm in _alarms if not alarm.settled]
    if _host_alarm is not None and _host_alarm.rings_at is not None:
        moments.append(_host_alarm.rings_at)
    rests = [moment - now if moment > now else RETRY_SECONDS for moment in moments]
    # It repeats: a signal that the system hands to another thread does not wake this one from what it waits for.
    signal.setitimer(signal.ITIMER_REAL, max(min(rests), _SHORTEST) if rests else 0, AGAIN_SECONDS)


# ------------------------------------------------------------------------------------------------- SIGINT and SIGTERM

_guard: SignalGuard | None = None  # the outermost


class SignalGuard:
    """A context in which SIGINT and SIGTERM are raised in the user's code only; made by `guarded_signals`."""

    __slots__ = ("_may_raise", "_owner", "_pending", "_previous", "_terminated", "_termination")

    def __init__(self, may_raise: Callable[[], bool]) -> None:
        self._may_raise = may_raise
        self._owner: SignalGuard | None = None  # the one that installed handlers
        self._previous: dict[int, Handler] = {}
        self._pending: dict[int, float] = {}  # signals that were held back, since when
        self._terminated = False
        self._termination: Handler = None  # what to do about SIGTERM at the end

    @property
    def terminated(self) -> bool:
        """Whether SIGTERM came."""
        return self._owner is not None and self._owner._terminated

    @property
    def pending(self) -> bool:
        """Whether a signal is held back, for `check` to raise."""
        return self._owner is not None and bool(self._owner._pending)

    def __enter__(self) -> Self:
        global _guard
        with critical:
            if _guard is not None and threading.get_ident() == threading.main_thread().ident:
                self._owner = _guard
            elif _guard is None and _signals_usable():
                _guard = self._owner = self
                self._install()
        return self

    def __exit__(self, *exc_info: object) -> None:
        global _guard
        with critical:
            if _guard is self:
                self.restore()
                _guard = None

    def check(self) -> None:
        """Raise what was held back.

        Raises:
            TerminationSignal: SIGTERM came.
            KeyboardInterrupt: SIGINT came.
        """
        owner = self._owner
        if owner is None:
            return
        for signum in (signal.SIGTERM, signal.SIGINT):
            if owner._pending.pop(signum, None) is not None:
                raise _exception(signum)

    def propagate(self) -> None:
        """Do, after the context and when everything is recorded, what the signals would have done without us.

        SIGTERM calls the host's handler, or ends the process where it had none. Only the outermost context does it.

        Raises:
            KeyboardInterrupt: SIGINT came at the very end and nobody checked.
        """
        if self._owner is not self or _guard is self:
            return
        if self._terminated:
            self._terminated = False
            self._pending.pop(signal.SIGTERM, None)
            if callable(self._termination):
                self._termination(signal.SIGTERM, None)
            else:
                signal.raise_signal(signal.SIGTERM)
        try:
            self.check()
        finally:
            self._owner = None  # itself: the garbage collector need not see to it

    def _install(self) -> None:
        interrupt, termination = handler_of(signal.SIGINT), handler_of(signal.SIGTERM)
        if interrupt is signal.default_int_handler:
            self._previous[signal.SIGINT] = interrupt
        if termination == DEFAULT or (callable(termination) and not is_of_a_loop(termination)):
            self._previous[signal.SIGTERM] = self._termination = termination
        for signum in self._previous:
            set_handler(signum, _on_signal)

    def restore(self) -> None:
        """Give the host its handlers back."""
        for signum, handler in self._previous.items():
            if handler_of(signum) is _on_signal:  # else the body installed its own
                set_handler(signum, handler)

    def forget(self) -> None:
        """Do nothing any more, in a forked child."""
        self.restore()
        self._owner = None

    def receive(self, signum: int, frame: FrameType | None) -> None:
        """Raise what a signal means if that may be done here; else leave a note."""
        self._terminated |= signum == signal.SIGTERM
        since = self._pending.setdefault(signum, time.monotonic())
        if _is_free(frame, self._may_raise) or time.monotonic() - since > PATIENCE_SECONDS:
            del self._pending[signum]
            raise _exception(signum)
        critical.section.defer(self.check)


def guarded_signals(*, may_raise: Callable[[], bool] = critical.may_raise) -> SignalGuard:
    """Give a context in which SIGINT and SIGTERM are raised in the user's code, and never in a critical section.

    SIGINT raises `KeyboardInterrupt`, as Python does, if nobody has changed that; SIGTERM raises
    `TerminationSignal`. Handlers of an event loop, ignored signals and handlers that are not Python's are left
    alone. Only the outermost context in the main thread, where no loop runs, installs handlers; others share it
    or do nothing.

    Args:
        may_raise: tells whether a signal may be raised now. It never is in a critical section, unless the user
            presses Ctrl-C again after half a second.

    Example:
        >>> with guarded_signals() as signals:
        ...     with critical:
        ...         signal.raise_signal(signal.SIGINT)
        ...         saved = True
        ...     try:
        ...         signals.check()
        ...     except KeyboardInterrupt:
        ...         print("interrupted after it was saved")
        interrupted after it was saved
        >>> signals.propagate()
    """
    return SignalGuard(may_raise)


def _on_signal(signum: int, frame: FrameType | None) -> None:
    if _guard is not None:
        _guard.receive(signum, frame)


def _exception(signum: int) -> BaseException:
    return KeyboardInterrupt() if signum == signal.SIGINT else TerminationSignal(signal.SIGTERM)


def is_of_a_loop(handler: Callable[..., Any]) -> bool:
    """Tell whether a handler is that of an event loop, or of a web server that ends its requests in order."""
    # A loop's handler does nothing: the loop reads the signal from a pipe.
    return (getattr(handler, "__module__", None) or "").partition(".")[0] in _LOOPS_AND_SERVERS


_LOOPS_AND_SERVERS = frozenset({"asyncio", "uvloop", "trio", "uvicorn", "hypercorn", "granian", "gunicorn"})


def _after_fork() -> None:
    """Leave a child the host's handlers: it has not called what we guard, and no timer was inherited."""
    global _guard, _host_alarm
    _alarms.clear()
    host_alarm, _host_alarm = _host_alarm, None
    guard, _guard = _guard, None
    critical.section.deferred = ()
    if host_alarm is not None:
        host_alarm.rings_at = None
        host_alarm.give_back()
    if guard is not None:
        guard.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
