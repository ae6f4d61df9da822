"""What every record store can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from callsheet._model.transactions import IsolationLevel
from callsheet.locking.holders import generate_default_holder
from callsheet.locking.keyed import KeyLocks
from callsheet.locking.protocol import LockManager

__all__ = ["RecordStore", "TransactionRecord"]


@dataclass
class TransactionRecord:
    """What is kept under a key.

    Attributes:
        key: The key.
        result: The value that was committed.
    """

    key: str
    result: Any


class RecordStore(KeyLocks, ABC):
    """Keeps one record a key. Subclasses read, write and look; locks come from `lock_manager`, where there is one.

    Attributes:
        lock_manager: Gives the locks of SERIALIZABLE transactions; `None` gives none.
    """

    lock_manager: LockManager | None = None

    @abstractmethod
    def read(self, key: str, holder: str | None = None) -> TransactionRecord | None:
        """Give the record of a key, or `None`. Waits while another holder has its lock.

        Args:
            key: The key.
            holder: Who reads; by default the code that runs here.
        """

    @abstractmethod
    def write(self, key: str, result: Any, holder: str | None = None) -> None:
        """Write the record of a key; an older one is replaced.

        Args:
            key: The key.
            result: The value.
            holder: Who writes; by default the code that runs here.

        Raises:
            ValueError: Another holder has the lock of the key.
        """

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Tell whether there is a record of a key."""

    def supports_isolation_level(self, isolation_level: IsolationLevel) -> bool:
        """Tell whether transactions of a level can use this store."""
        return isolation_level == IsolationLevel.READ_COMMITTED or self.lock_manager is not None

    # ----------------------------------------------------------------------------------------- locks

    def acquire_lock(
        self,
        key: str,
        holder: str | None = None,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Take the lock of a key.

        Args:
            key: The key.
            holder: Who takes it; by default the code that runs here.
            acquire_timeout: Seconds to wait at most.
            hold_timeout: Seconds after which it frees itself.

        Returns:
            Whether the holder has the lock.
        """
        return self._manager("acquire locks").acquire_lock(
            key, holder or generate_default_holder(), acquire_timeout, hold_timeout
        )

    async def aacquire_lock(
        self,
        key: str,
        holder: str | None = None,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> bool:
        """Do what `acquire_lock` does without blocking the event loop.

        Args:
            key: The key.
            holder: Who takes it; by default the code that runs here.
            acquire_timeout: Seconds to wait at most.
            hold_timeout: Seconds after which it frees itself.

        Returns:
            Whether the holder has the lock.
        """
        holder = holder or generate_default_holder()
        return await self._manager("acquire locks").aacquire_lock(key, holder, acquire_timeout, hold_timeout)

    @contextmanager
    def lock(
        self,
        key: str,
        holder: str | None = None,
        acquire_timeout: float | None = None,
        hold_timeout: float | None = None,
    ) -> Generator[None, None, None]:
        """Hold the lock of a key for a block.

        Args:
            key: The key.
            holder: Who takes it; by default the code that runs here.
            acquire_timeout: Seconds to wait at most.
            hold_timeout: Seconds after which it frees itself.

        Yields:
            Nothing.

        Raises:
            TimeoutError: It was not to be had in time.
        """
        holder = holder or generate_default_holder()
        if not self.acquire_lock(key, holder, acquire_timeout, hold_timeout):
            raise TimeoutError(f"The lock of {key!r} was not free within {acquire_timeout:g} s.")
        try:
            yield
        finally:
            if self.is_lock_holder(key, holder):
                self.release_lock(key, holder)

    # --------------------------------------------------------------------------------- for subclasses

    def wait_to_read(self, key: str, holder: str | None) -> None:
        """Wait while another holder has the lock of a key.

        Args:
            key: The key.
            holder: Who reads; by default the code that runs here.
        """
        locks = self.lock_manager
        if locks is not None and not locks.is_lock_holder(key, holder or generate_default_holder()):
            locks.wait_for_lock(key)

    def check_write(self, key: str, holder: str | None) -> None:
        """Refuse a write while another holder has the lock of a key.

        Args:
            key: The key.
            holder: Who writes; by default the code that runs here.

        Raises:
            ValueError: One has.
        """
        locks = self.lock_manager
        if (
            locks is not None
            and locks.is_locked(key)
            and not locks.is_lock_holder(key, holder or generate_default_holder())
        ):
            raise ValueError(f"Cannot write to transaction with key {key} because it is locked by another holder.")

    def _manager(self, what: str) -> LockManager:
        if self.lock_manager is None:
            raise NotImplementedError(f"Unable to {what}: {type(self).__name__} has no locks; give it a lock manager")
        return self.lock_manager
