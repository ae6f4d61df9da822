"""Locks of one process, for its threads and for the tasks of its event loops."""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any, ClassVar, Self
from weakref import WeakSet

from callsheet._clock import monotonic
from callsheet._kernel.host import Host, current_host
from callsheet._kernel.ports import Port
from callsheet._kernel.signals import Once
from callsheet.locking.colours import LocksOfBothColours
from callsheet.locking.protocol import not_held
from callsheet.locking.waiting import blocked_loop, wait_until, would_hang

__all__ = ["MemoryLockManager", "MemoryLocks"]


class _Claim:
    """Somebody who wants a lock."""

    __slots__ = ("granted", "hold_timeout", "holder", "home")

    def __init__(self, holder: str, hold_timeout: float | None) -> None:
        self.home = current_host()  # the loop whose code this is
        self.holder = holder
        self.hold_timeout = hold_timeout
        self.granted = Once()


class _Lock:
    """One lock that is held. It is handed over to whoever waits longest; there is none while nobody has it."""

    __slots__ = ("expires", "holder", "home", "observers", "queue")

    def __init__(self) -> None:
        self.home: Host | None = None
        self.holder = ""
        self.expires: float | None = None
        self.queue: deque[_Claim] = deque()
        self.observers: list[Once] = []  # of those who only want to see it free

    def grant(self, claim: _Claim) -> None:
        self.holder, self.home = claim.holder, claim.home
        self.expires = None if claim.hold_timeout is None else monotonic() + claim.hold_timeout
        claim.granted.set()


class MemoryLocks(LocksOfBothColours):
    """Locks by key, in memory. `MemoryLockManager` is the one that a process shares.

    Waiting for a lock costs nothing: whoever releases it hands it to the one that has waited longest, and wakes it.
    """

    def __init__(self) -> None:
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        self._gate = threading.Lock()
        self._locks: dict[str, _Lock] = {}

    def release_lock(self, key: str, holder: str) -> None:
        with self._gate:
            lock = self._live(key)
            if lock is None or lock.holder != holder:
                raise not_held(key, holder)
            self._pass_on(key, lock)

    def _holder_of(self, key: str) -> str | None:
        with self._gate:
            lock = self._live(key)
            return None if lock is None else lock.holder

    # ------------------------------------------------------------------------------------ in any colour

    async def _acquire(
        self, port: Port, key: str, holder: str, acquire_timeout: float | None, hold_timeout: float | None
    ) -> bool:
        claim = _Claim(holder, hold_timeout)
        with self._gate:
            lock = self._live(key)
            if lock is None:
                lock = self._locks[key] = _Lock()
                lock.grant(claim)
                return True
            if lock.holder == holder:
                return True
            loop = blocked_loop(port) if acquire_timeout is None else None
            if loop is not None and (_is_kept_by(lock, loop) or any(other.home is loop for other in lock.queue)):
                raise would_hang(key, "acquire_lock")
            lock.queue.append(claim)
        try:
            await self._await(port, key, claim.granted, acquire_timeout)
        except BaseException:
            with self._gate:
                _withdraw(lock, claim)
                if claim.granted.is_set and self._locks.get(key) is lock and lock.holder == holder:
                    self._pass_on(key, lock)  # it was handed over to us while we left
            raise
        with self._gate:
            _withdraw(lock, claim)
            return claim.granted.is_set

    async def _observe(self, port: Port, key: str, timeout: float | None) -> bool:
        freed = Once()
        with self._gate:
            lock = self._live(key)
            if lock is None:
                return True
            loop = blocked_loop(port) if timeout is None else None
            if loop is not None and _is_kept_by(lock, loop):
                raise would_hang(key, "wait_for_lock")
            lock.observers.append(freed)
        try:
            await self._await(port, key, freed, timeout)
        finally:
            with self._gate:
                if freed in lock.observers:
                    lock.observers.remove(freed)
        return freed.is_set

    async def _await(self, port: Port, key: str, once: Once, timeout: float | None) -> None:
        """Wait; and wake up when the lock expires, since nobody else will free it then."""
        deadline = None if timeout is None else monotonic() + timeout
        while not once.is_set:
            with self._gate:
                lock = self._live(key)
                expires = None if lock is None else lock.expires
            if once.is_set or (deadline is not None and monotonic() >= deadline):
                return
            await wait_until(port, once, min((t for t in (deadline, expires) if t is not None), default=None))

    # ---------------------------------------------------------------------------------- under the gate

    def _live(self, key: str) -> _Lock | None:
        """Give a lock that is held, and free it first if its time is over."""
        lock = self._locks.get(key)
        while lock is not None and lock.expires is not None and monotonic() >= lock.expires:
            self._pass_on(key, lock)
            lock = self._locks.get(key)
        return lock

    def _pass_on(self, key: str, lock: _Lock) -> None:
        observers, lock.observers = lock.observers, []
        if not lock.queue:
            del self._locks[key]
        else:
            first = lock.queue.popleft()
            lock.grant(first)
            for claim in [claim for claim in lock.queue if claim.holder == first.holder]:
                lock.queue.remove(claim)
                claim.granted.set()
        for observer in observers:
            observer.set()


def _is_kept_by(lock: _Lock, loop: Host) -> bool:
    return lock.home is loop and lock.expires is None


def _withdraw(lock: _Lock, claim: _Claim) -> None:
    if claim in lock.queue:
        lock.queue.remove(claim)


class MemoryLockManager(MemoryLocks):
    """The locks of this process: one object, however often it is made. A lock is gone with the process.

    Example:
        >>> locks = MemoryLockManager()
        >>> locks.acquire_lock("report", holder="a"), locks.acquire_lock("report", holder="b", acquire_timeout=0.01)
        (True, False)
        >>> locks.release_lock("report", holder="a")
        >>> locks.is_locked("report")
        False
    """

    _instance: ClassVar[MemoryLockManager | None] = None

    def __new__(cls) -> Self:
        with _making:
            if cls._instance is None:
                made = super().__new__(cls)
                MemoryLocks.__init__(made)
                cls._instance = made
            return cls._instance  # type: ignore[return-value]

    def __init__(self) -> None:
        pass  # made once, by `__new__`

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as that one object."""
        return type(self), ()


_making = threading.Lock()
_all: WeakSet[MemoryLocks] = WeakSet()


def _after_fork() -> None:
    for locks in _all:
        locks._forget()  # pyright: ignore[reportPrivateUsage]  # they belong to threads of the parent


os.register_at_fork(after_in_child=_after_fork)
