"""What a result store says of locks: all of it asked of its lock manager."""

from __future__ import annotations

from typing import Any

from callsheet._results.ways import Way
from callsheet.exceptions import ConfigurationError
from callsheet.locking.keyed import KeyLocks


class Locks(KeyLocks):
    """The locks of a store's keys."""

    def supports_isolation_level(self, level: Any) -> bool:
        """Tell whether transactions with this store can have an isolation level.

        Args:
            level: the level.

        Raises:
            ValueError: it is no isolation level.
        """
        name = getattr(level, "name", str(level)).upper()
        if name == "READ_COMMITTED":
            return True
        if name == "SERIALIZABLE":
            return self.lock_manager is not None
        raise ValueError(f"Unsupported isolation level: {level}")

    def acquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Lock a key.

        Args:
            key: of a record.
            holder: who locks; by default this thread or task.
            timeout: seconds to wait for who has locked it; without end by default.

        Returns:
            Whether it is locked now.

        Raises:
            ConfigurationError: this store has no lock manager.
        """
        return self._manager("acquire locks").acquire_lock(self._plain(key), *self._ask(holder, timeout))

    async def aacquire_lock(self, key: str, holder: str | None = None, timeout: float | None = None) -> bool:
        """Lock a key, without blocking the loop.

        Args:
            key: of a record.
            holder: who locks; by default this thread or task.
            timeout: seconds to wait for who has locked it; without end by default.

        Returns:
            Whether it is locked now.

        Raises:
            ConfigurationError: this store has no lock manager.
        """
        return await self._manager("acquire locks").aacquire_lock(self._plain(key), *self._ask(holder, timeout))

    async def unlocked(self, way: Way, key: str) -> None:
        """Wait until a key is not locked.

        Args:
            way: how to wait.
            key: as the lock manager knows it.
        """
        manager = self._manager("wait for locks")
        if way.suspends:
            await manager.await_for_lock(key)
        else:
            manager.wait_for_lock(key)

    def _ask(self, holder: str | None, timeout: float | None) -> tuple[str, float | None]:
        return holder or self.generate_default_holder(), timeout

    def _manager(self, what: str) -> Any:
        if self.lock_manager is None:
            raise ConfigurationError(
                f"Unable to {what}: this result store has no lock manager. Pass it one: ResultStore(lock_manager=…)."
            )
        return self.lock_manager
