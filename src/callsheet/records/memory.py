"""Records in memory."""

from __future__ import annotations

from typing import Any

from callsheet.locking.memory import MemoryLocks
from callsheet.locking.protocol import LockManager
from callsheet.records.base import RecordStore, TransactionRecord

__all__ = ["MemoryRecordStore"]


class MemoryRecordStore(RecordStore):
    """Keeps records in memory, for the life of the store, with locks of its own.

    Args:
        lock_manager: Other locks than its own.

    Example:
        >>> from callsheet.transactions import transaction
        >>> store = MemoryRecordStore()
        >>> with transaction(key="greeting", store=store) as txn:
        ...     txn.stage("hello")
        >>> store.read("greeting").result
        'hello'
    """

    def __init__(self, lock_manager: LockManager | None = None) -> None:
        self.lock_manager = lock_manager or MemoryLocks()
        self._records: dict[str, TransactionRecord] = {}

    def read(self, key: str, holder: str | None = None) -> TransactionRecord | None:
        self.wait_to_read(key, holder)
        return self._records.get(key)

    def write(self, key: str, result: Any, holder: str | None = None) -> None:
        self.check_write(key, holder)
        self._records[key] = TransactionRecord(key=key, result=result)

    def exists(self, key: str) -> bool:
        return key in self._records
