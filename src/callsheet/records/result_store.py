"""A result store, seen as a record store."""

from __future__ import annotations

from typing import Any

from callsheet._kernel.ports import step
from callsheet.records.base import RecordStore, TransactionRecord

__all__ = ["ResultRecordStore"]


class ResultRecordStore(RecordStore):
    """Keeps records as results of a result store.

    Args:
        result_store: The result store. Its lock manager gives the locks.
    """

    def __init__(self, result_store: Any) -> None:
        self.result_store = result_store
        self.lock_manager = getattr(result_store, "lock_manager", None)

    def read(self, key: str, holder: str | None = None) -> TransactionRecord | None:
        if not self.exists(key):
            return None
        return TransactionRecord(key=key, result=self.result_store.read(key, holder=holder))

    def write(self, key: str, result: Any, holder: str | None = None) -> None:
        from callsheet.results import ResultRecord

        if isinstance(result, ResultRecord):
            self.result_store.persist_result_record(result, holder=holder)
        else:
            self.result_store.write(result, key=key, holder=holder)

    def exists(self, key: str) -> bool:
        if not self.result_store.exists(key):
            return False
        from callsheet._results.core import Core
        from callsheet._results.ways import blocking

        return not isinstance(self.result_store, Core) or step(self.result_store.usable_by(blocking(), key))
