"""Locks in the database of the engine, for all processes that use it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from callsheet._store.locks import LockRow, LockTable
from callsheet._store.proofs import folder_beside
from callsheet.exceptions import ConfigurationError
from callsheet.locking.leased import LeasedLockManager
from callsheet.locking.tickets import LEASE, Ticket, decode, encode
from callsheet.settings import get_current_settings, refresh_settings

__all__ = ["DatabaseLockManager", "LockRows"]


class DatabaseLockManager(LeasedLockManager):
    """Locks as rows of the database that keeps the history.

    Args:
        database: The file; by default the one of the settings.
        lease: Seconds after which a holder that gives no sign of life counts as dead.

    Raises:
        ConfigurationError: The history is kept in memory, where other processes cannot see locks.

    Example:
        >>> import tempfile
        >>> locks = DatabaseLockManager(Path(tempfile.mkdtemp()) / "history.db")
        >>> locks.acquire_lock("report", holder="a"), locks.acquire_lock("report", holder="b", acquire_timeout=0.01)
        (True, False)
        >>> locks.release_lock("report", holder="a")
    """

    def __init__(self, database: str | os.PathLike[str] | None = None, *, lease: float = LEASE) -> None:
        if database is None:
            refresh_settings()
            database = get_current_settings().database
        if str(database) == ":memory:":
            raise ConfigurationError(
                "A history in memory has no locks for other processes. Use `MemoryLockManager()`, or name a database."
            )
        self.database = Path(database).expanduser().absolute()
        super().__init__(LockRows(self.database), lease)

    def __eq__(self, other: object) -> bool:
        return self.database == other.database if isinstance(other, DatabaseLockManager) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.database)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.database)!r})"


class LockRows:
    """Tickets as rows."""

    def __init__(self, database: Path) -> None:
        self._table = LockTable(database)
        self.name = f"database:{os.path.realpath(database)}"
        self.owners = folder_beside(database)

    def read(self, key: str) -> Ticket | None:
        """Give the ticket of a lock, or `None` where nobody holds it."""
        row = self._table.read(key)
        return None if row is None else decode(row.body)

    def stay_open(self) -> None:
        """Keep a connection."""
        self._table.stay_open()

    def close(self) -> None:
        """Keep none any more."""
        self._table.close()

    def swap(self, key: str, old: Ticket | None, new: Ticket | None, patience: float) -> bool:
        """Put a ticket in the place of another one, if that is still there.

        Args:
            key: The lock.
            old: What must be there.
            new: What is put there.
            patience: Seconds to wait for other writers.

        Returns:
            Whether it was done.
        """
        return self._table.swap(key, _row(old), _row(new), patience)


def _row(ticket: Ticket | None) -> Any:
    return None if ticket is None else LockRow(ticket.token, ticket.beat, encode(ticket))
