"""Where the engine may not be interrupted, and how a body in a thread is.

Two things interrupt sync code: signal handlers (main thread) and asynchronous exceptions (any thread). Both may
strike between any two bytecodes, so the engine's own code runs inside ``with critical:`` and the user's code that
it calls runs through ``critical.lift(fn, ...)`` or `Interruptible.call`. Rules for who uses it:

* A critical section is never held over a switch of greenlets, nor over a wait: ``critical.lift(event.wait)``.
* A signal that came meanwhile is raised by ``critical.check()`` and by ``lift`` before it calls. An interruption
  of a body that came meanwhile is raised when the outermost critical section is left.

CPython keeps one slot for an asynchronous exception per thread. So one is in flight at a time, and whoever closes
a thread against interruptions first makes sure that the slot is empty: it puts a marker there and waits for the
marker to land. Clearing the slot instead is not enough to know (before 3.13 one thread's exception also switches
off the interpreter's common "look at your slot" flag for all others, who then never look).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

# A traced thread of 3.11 (a debugger's, coverage's) spins at its next call of a Python function for as long as any
# thread has an exception in its slot: for ever, if that thread waits for it.
_SPINS = sys.version_info < (3, 12)

_lock = threading.Lock()
_unsettled: set[_Guard] = set()  # threads whose slot was written since they were last known to be clean


class _Guard:
    """A thread that runs interruptible bodies, as other threads see it."""

    __slots__ = ("bodies", "flying", "ident", "open")

    def __init__(self) -> None:
        self.ident = threading.get_ident()
        self.bodies: list[Interruptible] = []  # outermost first
        self.flying: type[BaseException] | None = None  # what is in the slot and has not landed
        self.open = False


class _Settled(BaseException):
    """The marker that shows that a thread's slot is empty."""


class Section:
    """One thread's critical sections; only that thread uses it."""

    __slots__ = ("deferred", "depth", "guard", "tainted")

    def __init__(self) -> None:
        self.depth = 0
        self.guard: _Guard | None = None  # only while this thread runs interruptible bodies
        self.tainted = False  # an interruption was sent to this thread: it takes no further job
        self.deferred: tuple[Callable[[], None], ...] = ()  # checks of signals that came in critical sections

    def __enter__(self) -> None:
        depth = self.depth
        if depth == 0 and self.guard is not None:
            self._close(self.guard)
        self.depth = depth + 1

    def __exit__(self, *exc_info: object) -> None:
        depth = self.depth = self.depth - 1
        if depth == 0 and self.guard is not None:
            _open(self.guard)

    def may_raise(self) -> bool:
        """Tell whether the calling thread is outside of every critical section."""
        return self.depth == 0

    def defer(self, check: Callable[[], None]) -> None:
        """Have `check` called by the next `check()` of this thread; it raises what is still due."""
        if check not in self.deferred:
            self.deferred = (*self.deferred, check)

    def check(self) -> None:
        """Raise what signal handlers of this thread held back; cheap when there is nothing.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
            TerminationSignal: the process was asked to end.
            BaseException: whatever a deadline alarm makes.
        """
        while self.deferred:
            first, self.deferred = self.deferred[0], self.deferred[1:]
            first()

    def lift(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call the user's code, or wait, from inside critical sections: it may be interrupted, what follows may not."""
        depth = self.depth
        # Twice: an exception may land in the first one. It can only be the last one, which was sent before.
        try:
            try:
                self.depth = 0
                if self.guard is not None:
                    _open(self.guard)
                if self.deferred:
                    self.check()
                return _body(fn, args, kwargs)
            finally:
                self._restore(depth)
        finally:
            self._restore(depth)

    def _restore(self, depth: int) -> None:
        if depth and self.guard is not None:
            _shut(self.guard)
        self.depth = depth

    def _close(self, guard: _Guard) -> None:
        try:
            _shut(guard)
        except BaseException:
            # It landed here, before the critical section: the caller never entered.
            _open(guard)
            raise


class Critical(threading.local):
    """Marks code of the engine that nothing may interrupt; re-entrant, per thread, cheap.

    Every method is that of the calling thread's `Section`, which `section` gives: a caller that stays in one
    thread keeps it, and saves the look-up (0.1 µs).

    Example:
        >>> with critical:
        ...     critical.may_raise()
        False
        >>> critical.may_raise()
        True
    """

    def __init__(self) -> None:
        self.section = Section()

    def __enter__(self) -> None:
        self.section.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        self.section.__exit__()

    def may_raise(self) -> bool:
        """Tell whether the calling thread is outside of every critical section."""
        return self.section.depth == 0

    def check(self) -> None:
        """Raise what signal handlers of this thread held back: see `Section.check`."""
        self.section.check()

    def lift(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call the user's code, or wait, from inside critical sections: see `Section.lift`."""
        return self.section.lift(fn, *args, **kwargs)


critical = Critical()


def _body(fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    # The only frame of this module that is the user's: see `is_bookkeeping`.
    return fn(*args, **kwargs)


def is_bookkeeping(frame: FrameType | None, *modules: dict[str, Any]) -> bool:
    """Tell whether a signal came in code of this module (or of others, by their globals), or in what that calls.

    The body is not meant, but a handler of the host that runs on top of ours is.
    """
    while frame is not None and frame.f_code is not _USERS_CODE:
        if any(frame.f_globals is ours for ours in (_OURS, *modules)):
            return True
        frame = frame.f_back
    return False


_OURS = globals()
_USERS_CODE = _body.__code__


class Interruptible:
    """One call of a body that another thread may interrupt: for a deadline, or because its run was cancelled.

    Attributes:
        wanted: the type of exception that `interrupt` was given.
        sent: it was raised, or that of an outer body, which ends this one too.

    Example:
        >>> body = Interruptible()
        >>> body.call(divmod, 7, 2)
        (3, 1)
        >>> body.interrupt(KeyboardInterrupt)  # too late: it is over
        False
    """

    __slots__ = ("_guard", "_over", "sent", "wanted")

    def __init__(self) -> None:
        self._guard: _Guard | None = None
        self.wanted: type[BaseException] | None = None
        self.sent = False
        self._over = False

    @property
    def interrupted(self) -> bool:
        """Whether `interrupt` came before the end, whatever the body made of it."""
        return self.wanted is not None

    def call(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call `fn` in this thread and give its value. Once.

        A body that was interrupted, caught the exception and returns all the same gives its value: whoever
        interrupted it discards that. Bodies nest in one thread: the outer one's interruption ends the inner one.

        Raises:
            BaseException: an instance of the type given to `interrupt`, if that came before or during the call;
                or what `fn` raises.
        """
        section = critical.section
        with section:
            guard = self._begin(section)
            try:
                return section.lift(fn, *args, **kwargs)
            finally:
                self._end(section, guard)

    def interrupt(self, exc_type: type[BaseException]) -> bool:
        """Raise an exception in the body, once, as soon as its thread runs bytecode of it. From any thread.

        It never lands in anything but the body. Before the body has started it keeps it from starting.

        Args:
            exc_type: the type to raise, made without arguments. (The body sees a subclass of the same name.)

        Returns:
            Whether the body is interrupted by this call: not if it is over or was interrupted before.
        """
        with _lock:
            if self._over or self.wanted is not None:
                return False
            self.wanted = exc_type
            if self._guard is not None:
                _send(self._guard)
            return True

    def _begin(self, section: Section) -> _Guard:
        guard = section.guard
        with _lock:
            if self._over or self._guard is not None:
                raise RuntimeError("An interruptible body is called once only.")
            if self.wanted is None:
                if guard is None:
                    guard = section.guard = _Guard()
                guard.bodies.append(self)
                self._guard = guard
                return guard
            self._over = True
        raise self.wanted

    def _end(self, section: Section, guard: _Guard) -> None:
        with _lock:
            self._over = True
            guard.bodies.remove(self)
            if self.sent:
                section.tainted = True
            if not guard.bodies:
                section.guard = None
        if self.wanted is not None and not self.sent:  # it came when the body had just returned
            raise self.wanted


def _open(guard: _Guard) -> None:
    """Let exceptions reach this thread, and raise what came while it was shut."""
    with _lock:
        guard.open = True
        due = _claim(guard)
    if due is not None:
        raise due


def _shut(guard: _Guard) -> None:
    """Let no exception reach this thread any more. One that is under way lands here."""
    with _lock:
        guard.open = False
        settled = guard not in _unsettled
    if not settled:
        _settle(guard)


def _send(guard: _Guard) -> None:
    """Under the lock: send what is due to a thread that is open."""
    # Where it would freeze every traced thread, the body hears of it at the next border of a critical section.
    if not guard.open or guard.flying is not None or (_SPINS and (sys.gettrace() or threading.gettrace())):
        return
    guard.flying = _claim(guard)
    if guard.flying is not None:
        _unsettled.add(guard)
        _set_async_exc(guard.ident, _noting(guard.flying))


def _claim(guard: _Guard) -> type[BaseException] | None:
    """Under the lock: give what is due to the outermost body; those in it end with it."""
    due: type[BaseException] | None = None
    for body in guard.bodies:
        if due is None and not body.sent:
            due = body.wanted
        body.sent |= due is not None
    return due


def _settle(guard: _Guard) -> None:
    while True:
        try:
            _set_async_exc(guard.ident, _Settled)
        except _Settled:
            break
    with _lock:
        _unsettled.discard(guard)
        flying, guard.flying = guard.flying, None
        if _unsettled:  # the marker that landed switched the common flag off for them
            _set_async_exc(guard.ident, None)
    if flying is not None:  # the marker took its place
        raise flying


@cache
def _noting(exc_type: type[BaseException]) -> type[BaseException]:
    """Give a subclass whose making tells its thread that it has landed."""

    def note(self: BaseException, *args: object) -> None:
        guard = critical.section.guard
        if guard is not None:
            guard.flying = None
        exc_type.__init__(self, *args)

    def reduce(self: BaseException) -> tuple[Any, ...]:
        return exc_type, self.args

    names = {"__init__": note, "__reduce__": reduce, "__module__": exc_type.__module__, "__doc__": exc_type.__doc__}
    return type(exc_type.__name__, (exc_type,), names)


def _set_async_exc(ident: int, exc_type: type[BaseException] | None) -> None:
    function, null = _async_exc_setter()
    function(ident, null if exc_type is None else exc_type)


@cache
def _async_exc_setter() -> tuple[Callable[[int, Any], object], Any]:
    """Give the interpreter's own function, and its null pointer."""
    import ctypes  # 5 ms that most programs never need

    prototype = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_ulong, ctypes.py_object)
    return prototype(("PyThreadState_SetAsyncExc", ctypes.pythonapi)), ctypes.py_object()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _unsettled.clear()


os.register_at_fork(after_in_child=_after_fork)
