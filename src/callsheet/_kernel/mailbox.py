"""The orchestrator's mailbox: an anyio memory stream with one consumer function and nobody parked in it.

A receiver parked in `receive()` would be handed an item by `send_nowait` while `drain` looks at the buffer,
and messages would be handled out of order. So nobody parks: whoever posts also drains, under one lock, and
the reply is there when `ask` returns. The lock also makes the stream usable from threads without a loop;
a message costs no thread hop (ADR 0001).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Generic, TypeVar

from anyio import create_memory_object_stream

from callsheet._kernel.critical import critical

M = TypeVar("M")
R = TypeVar("R")


class _Envelope(Generic[M, R]):
    __slots__ = ("error", "message", "reply")

    def __init__(self, message: M) -> None:
        self.message = message
        self.reply: R | None = None
        self.error: BaseException | None = None


class Mailbox(Generic[M, R]):
    """Takes messages from any thread and has them handled one at a time, in order."""

    __slots__ = (
        "_draining", "_handle", "_lock", "_orphans", "_receive", "_receive_nowait", "_send", "_send_nowait", "_waiting",
    )  # fmt: skip

    def __init__(self, handle: Callable[[M], R]) -> None:
        self._handle = handle
        self._lock = threading.RLock()
        self._draining = False
        self._waiting = 0
        self._send, self._receive = create_memory_object_stream[_Envelope[M, R]](inf)
        self._send_nowait, self._receive_nowait = self._send.send_nowait, self._receive.receive_nowait
        self._orphans: deque[M] = deque()

    def ask(self, message: M) -> R:
        """Post a message and give its reply; raise what handling *this* message raised."""
        envelope: _Envelope[M, R] = _Envelope(message)
        section = critical.section
        section.__enter__()
        try:
            with self._lock:
                if self._draining:
                    raise RuntimeError("a handler may tell, but not ask: its answer would have to wait for itself")
                self._post(envelope)
                self._drain()
        finally:
            section.__exit__()
        if envelope.error is not None:
            try:
                raise envelope.error
            finally:
                del envelope  # the traceback would hold the envelope that holds the error
        return envelope.reply  # type: ignore[return-value]

    def tell(self, message: M) -> None:
        """Post a message that needs no reply; from inside a handler it is only appended."""
        with critical, self._lock:
            self._post(_Envelope(message))
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

    def _post(self, envelope: _Envelope[M, R]) -> None:
        self._waiting += 1  # counted, because asking an empty stream costs an exception
        self._send_nowait(envelope)

    def _drain(self) -> None:
        self._draining = True
        handle, receive = self._handle, self._receive_nowait
        try:
            while self._waiting or self._adopt():
                self._waiting -= 1
                envelope = receive()
                try:
                    envelope.reply = handle(envelope.message)
                except BaseException as error:
                    envelope.error = error
                    del envelope  # this frame is in the error's traceback
        finally:
            self._draining = False

    def _adopt(self) -> bool:
        """Post what finalizers left; tell whether there was anything."""
        if not self._orphans:
            return False
        self._post(_Envelope(self._orphans.popleft()))
        return True

    def forget(self) -> None:
        """Begin anew in a forked child, where a thread that held the lock does not exist."""
        self._lock = threading.RLock()
        self._draining = False

    def close(self) -> None:
        """Close the stream; anyio warns of streams that are dropped open."""
        self._send.close()
        self._receive.close()
