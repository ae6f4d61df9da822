"""The orchestrator's mailbox: an anyio memory stream that whoever posts empties, with nobody parked in it.

A receiver parked in `receive()` would be handed an item by `send_nowait` while `drain` looks at the buffer,
and messages would be handled out of order. So nobody parks: whoever posts also drains, under one lock, and
the reply is there when `ask` returns. The lock also makes the stream usable from threads without a loop;
a message costs no thread hop (ADR 0001). What waits in the stream is what handlers and finalizers say.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Generic, NoReturn, TypeVar

from anyio import ClosedResourceError, create_memory_object_stream

from callsheet._kernel.critical import critical

M = TypeVar("M")
R = TypeVar("R")


class Mailbox(Generic[M, R]):
    """Takes messages from any thread and has them handled one at a time, in order."""

    __slots__ = ("_draining", "_handle", "_lock", "_orphans", "_receive", "_send", "_waiting")

    def __init__(self, handle: Callable[[M], R]) -> None:
        self._handle = handle
        self._lock = threading.RLock()
        self._draining = False
        self._waiting = 0
        self._send, self._receive = create_memory_object_stream[M](inf)
        self._orphans: deque[M] = deque()

    def ask(self, message: M) -> R:
        """Have a message handled and give its reply; raise what handling *this* message raised.

        Whoever holds the lock finds the stream empty, so the message need not be put into it.
        """
        section = critical.section
        if section.guard is None:  # as nearly always: two calls less
            section.depth += 1
        else:
            section.__enter__()
        try:
            lock = self._lock
            lock.acquire()  # half the price of `with`
            try:
                if self._draining:
                    raise RuntimeError("a handler may tell, but not ask: its answer would have to wait for itself")
                self._draining = True
                try:
                    handle = self._handle
                    return handle(message)
                finally:
                    self._draining = False
                    if self._waiting or self._orphans:
                        self._drain()
            finally:
                lock.release()
        finally:
            if section.guard is None:
                section.depth -= 1
            else:
                section.__exit__()

    def tell(self, message: M) -> None:
        """Post a message that needs no reply; from inside a handler it is only appended."""
        with critical, self._lock:
            self._post(message)
            if not self._draining:
                self._drain()

    def leave(self, message: M) -> None:
        """Append a message from a finalizer, where nothing may be locked; the next drain handles it."""
        self._orphans.append(message)

    def sweep(self) -> None:
        """Handle what finalizers left."""
        if self._orphans:
            with critical, self._lock:
                if not self._draining:
                    self._drain()

    def _post(self, message: M) -> None:
        self._waiting += 1  # counted, because asking an empty stream costs an exception
        self._send.send_nowait(message)

    def _drain(self) -> None:
        self._draining = True
        try:
            while self._waiting or self._adopt():
                self._waiting -= 1
                message = self._receive.receive_nowait()
                try:
                    self._handle(message)
                except BaseException:
                    pass  # it would be the reply, for which nobody waits, and no business of whoever drains
        finally:
            self._draining = False

    def _adopt(self) -> bool:
        """Post what finalizers left; tell whether there was anything."""
        if not self._orphans:
            return False
        self._post(self._orphans.popleft())
        return True

    def forget(self) -> None:
        """Begin anew in a forked child, where a thread that held the lock does not exist."""
        self._lock = threading.RLock()
        self._draining = False

    def close(self) -> None:
        """Close the stream, and refuse what is asked from now on; anyio warns of streams that are dropped open."""
        self._handle = _refuse
        self._send.close()
        self._receive.close()


def _refuse(_: object) -> NoReturn:
    raise ClosedResourceError
