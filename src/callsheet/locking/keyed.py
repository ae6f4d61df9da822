"""The locks of a store's keys: all of it asked of the store's lock manager."""

from __future__ import annotations

from typing import Any

from callsheet.locking.holders import generate_default_holder


class KeyLocks:
    """What stores of results and of records say of locks. Each takes a lock in a way of its own."""

    lock_manager: Any

    def _manager(self, what: str) -> Any:
        """Give the lock manager, or say that without one it cannot be done."""
        raise NotImplementedError

    def _plain(self, key: str) -> str:
        """Give a key as the lock manager knows it."""
        return key

    @staticmethod
    def generate_default_holder() -> str:
        """Give the name under which the code that runs here takes locks: host, process, thread, task of an event loop."""
        return generate_default_holder()

    def release_lock(self, key: str, holder: str | None = None) -> None:
        """Release the lock of a key.

        Args:
            key: The key.
            holder: Who holds it; by default the code that runs here.

        Raises:
            ValueError: That holder does not hold it.
            ConfigurationError: This store has no lock manager (`NotImplementedError` of a store of records).
        """
        self._manager("release locks").release_lock(self._plain(key), holder or generate_default_holder())

    def is_locked(self, key: str) -> bool:
        """Tell whether anybody holds the lock of a key.

        Args:
            key: The key.

        Raises:
            ConfigurationError: This store has no lock manager (`NotImplementedError` of a store of records).
        """
        return self._manager("check for locks").is_locked(self._plain(key))

    def is_lock_holder(self, key: str, holder: str | None = None) -> bool:
        """Tell whether a holder has the lock of a key.

        Args:
            key: The key.
            holder: The holder; by default the code that runs here.

        Raises:
            ConfigurationError: This store has no lock manager (`NotImplementedError` of a store of records).
        """
        return self._manager("check for locks").is_lock_holder(self._plain(key), holder or generate_default_holder())

    def wait_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Wait until the lock of a key is free.

        Args:
            key: The key.
            timeout: Seconds to wait at most.

        Returns:
            Whether it was seen free.

        Raises:
            ConfigurationError: This store has no lock manager (`NotImplementedError` of a store of records).
        """
        return self._manager("wait for locks").wait_for_lock(self._plain(key), timeout)

    async def await_for_lock(self, key: str, timeout: float | None = None) -> bool:
        """Do what `wait_for_lock` does without blocking the event loop.

        Args:
            key: The key.
            timeout: Seconds to wait at most.

        Returns:
            Whether it was seen free.

        Raises:
            ConfigurationError: This store has no lock manager (`NotImplementedError` of a store of records).
        """
        return await self._manager("wait for locks").await_for_lock(self._plain(key), timeout)
