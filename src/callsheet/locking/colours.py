"""The methods of both colours, over one logic: what managers of locks have in common."""

from __future__ import annotations

from abc import abstractmethod

from callsheet._kernel.ports import Port
from callsheet.locking.protocol import LockManager
from callsheet.locking.waiting import awaited, blocking


class LocksOfBothColours(LockManager):
    """Base of our managers. A subclass says how to wait for a lock, by a port, who has one, and how it is released."""

    @abstractmethod
    async def _acquire(
        self, port: Port, key: str, holder: str, acquire_timeout: float | None, hold_timeout: float | None
    ) -> bool:
        """Do what `acquire_lock` does, for code that lives on a port."""

    @abstractmethod
    async def _observe(self, port: Port, key: str, timeout: float | None) -> bool:
        """Do what `wait_for_lock` does, for code that lives on a port."""

    @abstractmethod
    def _holder_of(self, key: str) -> str | None:
        """Give who holds a lock, or `None`."""

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        return blocking(self._acquire, key, holder, acquire_timeout, hold_timeout)

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        return await awaited(self._acquire, key, holder, acquire_timeout, hold_timeout)

    def is_locked(self, key: str) -> bool:
        return self._holder_of(key) is not None

    def is_lock_holder(self, key: str, holder: str) -> bool:
        return self._holder_of(key) == holder

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        return blocking(self._observe, key, timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        return await awaited(self._observe, key, timeout)
