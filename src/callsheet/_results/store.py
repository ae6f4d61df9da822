"""Where results are written to and read from: a storage, a serializer, locks, and the last records in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Self

from callsheet._dual import dual
from callsheet._kernel.ports import step
from callsheet._results import keys
from callsheet._results.core import Core
from callsheet._results.lru import LRUCache
from callsheet._results.places import default_storage, resolve
from callsheet._results.records import ResultRecord
from callsheet._results.serializing import Serializer, resolve_serializer
from callsheet._results.storage import NullFileSystem
from callsheet._results.ways import blocking, suspending
from callsheet._unset import NotSet
from callsheet.settings import get_current_settings

_FIELDS = (
    "result_storage",
    "metadata_storage",
    "lock_manager",
    "cache_result_in_memory",
    "serializer",
    "storage_key_fn",
)


class ResultStore(Core):
    """Writes and reads results by key. Every method that waits has an async twin, with an ``a`` before its name.

    Args:
        result_storage: where they are kept: a storage object, a path or a URL; by default what
            `get_default_result_storage` gives.
        metadata_storage: where the metadata is kept, apart from the results; by default with them.
        lock_manager: of keys, for those who want to be the only one.
        cache_result_in_memory: whether the last records stay in memory. They are handed out as they are, so what
            changes a result that it was given changes it for others in this process too.
        serializer: what turns results into bytes: a serializer or its type; by default the setting's.
        storage_key_fn: makes the keys of results that are written without one.
        cache: the last records, for stores that share them.

    Raises:
        ValidationError: no serializer has this type.
        TypeError: a storage is something that cannot read and write.

    Example:
        >>> from callsheet.filesystems import MemoryStorage
        >>> store = ResultStore(result_storage=MemoryStorage(), serializer="json")
        >>> store.write({"sum": 3}, key="sums")
        >>> store.exists("sums"), store.read("sums").result
        (True, {'sum': 3})
    """

    def __init__(
        self,
        result_storage: Any = None,
        metadata_storage: Any = None,
        lock_manager: Any = None,
        cache_result_in_memory: bool = True,
        serializer: Serializer[Any] | str | None = None,
        storage_key_fn: Callable[[], str] = keys.DEFAULT_STORAGE_KEY_FN,
        cache: LRUCache | None = None,
    ) -> None:
        self.result_storage = None if result_storage is None else resolve(result_storage)
        self.metadata_storage = None if metadata_storage is None else resolve(metadata_storage)
        self.lock_manager = lock_manager
        self.cache_result_in_memory = cache_result_in_memory
        kind = get_current_settings().results_default_serializer if serializer is None else serializer
        self.serializer = resolve_serializer(kind)
        self.storage_key_fn = storage_key_fn
        self.cache = LRUCache() if cache is None else cache

    def model_copy(self, *, update: dict[str, Any] | None = None, deep: bool = False) -> Self:
        """Give a copy with other fields, on the same storages and locks.

        Args:
            update: the fields.
            deep: whether the copy has copies of the records in memory, instead of sharing them.

        Raises:
            TypeError: a store has no such field.
        """
        if update and not update.keys() <= self.__dict__.keys():
            unknown = ", ".join(sorted(update.keys() - self.__dict__.keys()))
            raise TypeError(f"ResultStore has no field {unknown}; it has {', '.join(_FIELDS)} and cache.")
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        if deep:
            made.cache = copy.deepcopy(self.cache)
        made.__dict__.update(update or {})
        return made

    async def aupdate_for_flow(self, flow: Any) -> Self:
        """Give the store of a flow's runs: this one, with what the flow says of its own.

        Args:
            flow: the flow.

        Returns:
            A new store.

        Raises:
            ObjectNotFound: the flow names a storage that was saved, and nothing is saved under it.
            TypeError: the flow names something that is no storage.

        Example:
            >>> from callsheet import flow
            >>> @flow(result_serializer="json")
            ... def report(): ...
            >>> ResultStore().update_for_flow(report).serializer.type
            'json'
        """
        update = _options_of(flow)
        if self.result_storage is None and "result_storage" not in update:
            update["result_storage"] = default_storage()
        update["metadata_storage"] = NullFileSystem()
        return self.model_copy(update=update)

    async def aupdate_for_task(self, task: Any) -> Self:
        """Give the store of a task's runs: this one, with what the task and its cache policy say of their own.

        Args:
            task: the task.

        Returns:
            A new store.

        Raises:
            ObjectNotFound: the task names a storage that was saved, and nothing is saved under it.
            TypeError: the task names something that is no storage.

        Example:
            >>> from callsheet import task
            >>> @task(result_storage_key="{parameters[day]}.pickle")
            ... def load(day): ...
            >>> ResultStore().update_for_task(load).result_storage is not None
            True
        """
        update = _options_of(task)
        if task.result_storage_key is not None:
            update["storage_key_fn"] = partial(keys.format_storage_key, task.result_storage_key)
        around = keys.lock_manager_of_transaction()
        if around is not None:
            update["lock_manager"] = around
        policy = task.cache_policy
        if policy is not None and policy is not NotSet:
            key_storage = getattr(policy, "key_storage", None)
            if key_storage is not None:
                update["metadata_storage"] = resolve(key_storage)
            if getattr(policy, "lock_manager", None) is not None:
                update["lock_manager"] = policy.lock_manager
        if self.result_storage is None and "result_storage" not in update:
            update["result_storage"] = default_storage()
        if isinstance(self.metadata_storage, NullFileSystem) and "metadata_storage" not in update:
            update["metadata_storage"] = None  # that was the flow's, which keeps no keys
        return self.model_copy(update=update)

    update_for_flow = dual(aupdate_for_flow)
    update_for_task = dual(aupdate_for_task)

    # ------------------------------------------------------------------------------------- records

    def exists(self, key: str) -> bool:
        """Tell whether a record is kept under a key that is whole and has not expired.

        A storage that cannot be read has none; that is logged as a warning.

        Args:
            key: of the record.
        """
        return step(self.exists_by(blocking(), key))

    async def aexists(self, key: str) -> bool:
        """Tell what `exists` tells.

        Args:
            key: of the record.
        """
        return await self.exists_by(suspending(), key)

    def read(self, key: str, holder: str | None = None) -> ResultRecord[Any]:
        """Give the record under a key. Where somebody else has locked it, wait until it is free.

        Args:
            key: of the record.
            holder: who reads; by default this thread or task.

        Returns:
            The record.

        Raises:
            ResultNotFound: there is none (it is a `ValueError` too).
            ResultDamaged: it is torn, was changed, or is something else.
            StorageError: the storage cannot be read.
            SerializationError: the serializer cannot read it.
        """
        return step(self.read_by(blocking(), key, holder))

    async def aread(self, key: str, holder: str | None = None) -> ResultRecord[Any]:
        """Give the record under a key, as `read` does.

        Args:
            key: of the record.
            holder: who reads; by default this thread or task.

        Returns:
            The record.

        Raises:
            ResultNotFound: there is none (it is a `ValueError` too).
            ResultDamaged: it is torn, was changed, or is something else.
            StorageError: the storage cannot be read.
            SerializationError: the serializer cannot read it.
        """
        return await self.read_by(suspending(), key, holder)

    def create_result_record(
        self, obj: Any, key: str | None = None, expiration: datetime | None = None
    ) -> ResultRecord[Any]:
        """Make a record that is not written yet.

        Args:
            obj: the result.
            key: to keep it under; by default a new one.
            expiration: when it must no longer be used.

        Returns:
            The record.

        Raises:
            ValueError: the key leads out of the storage.
        """
        return ResultRecord(obj, self.new_metadata(key, expiration))

    def write(
        self, obj: Any, key: str | None = None, expiration: datetime | None = None, holder: str | None = None
    ) -> None:
        """Write a result.

        Args:
            obj: the result.
            key: to keep it under; by default a new one.
            expiration: when it must no longer be used.
            holder: who writes; by default this thread or task.

        Raises:
            RuntimeError: somebody else has locked the key.
            SerializationError: the serializer refuses the result.
            StorageError: the storage cannot be written; what was there before still is.
        """
        self.persist_result_record(self.create_result_record(obj, key, expiration), holder)

    async def awrite(
        self, obj: Any, key: str | None = None, expiration: datetime | None = None, holder: str | None = None
    ) -> None:
        """Write a result, as `write` does, without blocking the loop.

        Args:
            obj: the result. It must not change before this has returned.
            key: to keep it under; by default a new one.
            expiration: when it must no longer be used.
            holder: who writes; by default this thread or task.

        Raises:
            RuntimeError: somebody else has locked the key.
            SerializationError: the serializer refuses the result.
            StorageError: the storage cannot be written; what was there before still is.
        """
        await self.apersist_result_record(self.create_result_record(obj, key, expiration), holder)

    def persist_result_record(self, result_record: ResultRecord[Any], holder: str | None = None) -> None:
        """Write a record.

        Args:
            result_record: the record.
            holder: who writes; by default this thread or task.

        Raises:
            RuntimeError: somebody else has locked its key.
            SerializationError: its serializer refuses the result.
            StorageError: the storage cannot be written; what was there before still is.
        """
        step(self.persist_by(blocking(), result_record, holder))

    async def apersist_result_record(self, result_record: ResultRecord[Any], holder: str | None = None) -> None:
        """Write a record, as `persist_result_record` does, without blocking the loop.

        Args:
            result_record: the record.
            holder: who writes; by default this thread or task.

        Raises:
            RuntimeError: somebody else has locked its key.
            SerializationError: its serializer refuses the result.
            StorageError: the storage cannot be written; what was there before still is.
        """
        await self.persist_by(suspending(), result_record, holder)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResultStore):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"ResultStore({', '.join(f'{name}={getattr(self, name)!r}' for name in _FIELDS)})"


def _options_of(definition: Any) -> dict[str, Any]:
    """Give what a flow or task says of its results."""
    update: dict[str, Any] = {"cache_result_in_memory": definition.cache_result_in_memory}
    if definition.result_storage is not None:
        update["result_storage"] = resolve(definition.result_storage)
    if definition.result_serializer is not None:
        update["serializer"] = resolve_serializer(definition.result_serializer)
    return update
