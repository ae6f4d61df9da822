"""What every lock manager can do."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["LockManager", "not_held"]


@runtime_checkable
class LockManager(Protocol):
    """Locks by key. A lock is held by a holder, a name that the caller chooses; it is idempotent for its holder."""

    def acquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Take a lock, and wait for it where another holder has it.

        Args:
            key: The lock.
            holder: Who takes it. One that has it already gets `True` at once.
            acquire_timeout: Seconds to wait at most; `None` waits for ever.
            hold_timeout: Seconds after which the lock frees itself; `None` holds it until it is released.

        Returns:
            Whether the holder has the lock.

        Raises:
            BlockingWaitError: Without a timeout, on an event loop whose own code has the lock: the wait would never end.
        """
        ...

    async def aacquire_lock(
        self, key: str, holder: str, acquire_timeout: float | None = None, hold_timeout: float | None = None
    ) -> bool:
        """Do what `acquire_lock` does without blocking the event loop.

        Args:
            key: The lock.
            holder: Who takes it.
            acquire_timeout: Seconds to wait at most.
            hold_timeout: Seconds after which the lock frees itself.

        Returns:
            Whether the holder has the lock.
        """
        ...

    def release_lock(self, key: str, holder: str) -> None:
        """Release a lock.

        Args:
            key: The lock.
            holder: Who holds it.

        Raises:
            ValueError: That holder does not hold it.
        """
        ...

    def is_locked(self, key: str) -> bool:
        """Tell whether anybody holds a lock."""
        ...

    def is_lock_holder(self, key: str, holder: str) -> bool:
        """Tell whether a holder holds a lock.

        Args:
            key: The lock.
            holder: The holder.
        """
        ...

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until a lock is free.

        Args:
            key: The lock.
            timeout: Seconds to wait at most; `None` waits for ever.

        Returns:
            Whether it was seen free.
        """
        ...

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Do what `wait_for_lock` does without blocking the event loop.

        Args:
            key: The lock.
            timeout: Seconds to wait at most.

        Returns:
            Whether it was seen free.
        """
        ...


def not_held(key: str, holder: str) -> ValueError:
    """Make the error of a release by somebody who does not hold the lock."""
    return ValueError(f"No lock held by {holder} for transaction with key {key}")
