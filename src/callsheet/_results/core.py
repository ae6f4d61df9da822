"""Reading and writing records by a way: what the methods of both colours of a result store have in common."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, NoReturn

from callsheet._results import access, keys
from callsheet._results.locks import Locks
from callsheet._results.lru import LRUCache
from callsheet._results.parts import Parts
from callsheet._results.places import address_of, default_storage
from callsheet._results.records import ResultRecord, ResultRecordMetadata
from callsheet._results.serializing import Serializer
from callsheet._results.storage import NullFileSystem, Storage
from callsheet._results.ways import Way
from callsheet.exceptions import CallsheetError, MissingResult, ResultDamaged, SerializationError, StorageError
from callsheet.logging.loggers import engine_log

_LOG: Final = engine_log("callsheet.results")
_LARGEST_IN_MEMORY: Final = 16 << 20  # bytes of a payload; larger results are read again


class Core(Locks):
    """What a store keeps, and how it gets there. Each method takes how to wait."""

    result_storage: Any
    metadata_storage: Any
    cache_result_in_memory: bool
    serializer: Serializer[Any]
    storage_key_fn: Callable[[], str]
    cache: LRUCache

    async def exists_by(self, way: Way, key: str) -> bool:
        """Tell what `exists` tells.

        Args:
            way: how to wait.
            key: of the record.
        """
        storage = self.storage()
        kept_apart = self.metadata_storage is not None
        place = self.metadata_storage if kept_apart else storage
        wire = await keys.read_head(way, place, self._located(key, place), whole=kept_apart)
        if wire is None or keys.is_over(wire):
            return False
        cached = self.cache.get(self._located(key, storage))
        if cached is not None and cached[1] not in (None, wire.digest):
            self.cache.pop(self._located(key, storage))  # another process has written it anew
        return True

    def remembered(self, key: str) -> ResultRecord[Any] | None:
        """Give the record of a key that is in memory, or `None`; nobody is asked whether it has changed since.

        Args:
            key: of the record.
        """
        cached = self.cache.get(self._located(key, self.storage()))
        return None if cached is None else cached[0]

    async def read_by(self, way: Way, key: str, holder: str | None = None) -> ResultRecord[Any]:
        """Give what `read` gives, and raise what it raises.

        Args:
            way: how to wait.
            key: of the record.
            holder: who reads.
        """
        if self.lock_manager is not None and not self.is_lock_holder(key, holder):
            await self.unlocked(way, self._plain(key))
        return await self._read(way, key)

    async def usable_by(self, way: Way, key: str) -> bool:
        """Tell whether what `exists` can be read; if not, it counts as missing, which is logged. Waits for no lock.

        Args:
            way: how to wait.
            key: of the record.
        """
        try:
            await self._read(way, key)
        except (MissingResult, SerializationError, StorageError) as error:
            _LOG.warning("The result under the key '%s' cannot be used, and counts as missing: %s", key, error)
            return False
        return True

    async def _read(self, way: Way, key: str) -> ResultRecord[Any]:
        storage = self.storage()
        located = self._located(key, storage)
        cached = self.cache.get(located)
        if cached is not None:
            return cached[0]
        with access.naming(key, storage):
            if self.metadata_storage is None:
                record, size, digest = await access.fetch(way, storage, located, self._load)
            else:
                place = self.metadata_storage
                metadata = await access.fetch(way, place, self._located(key, place), bytes)
                where = ResultRecordMetadata.load_bytes(metadata).storage_key or located
                try:
                    record, size, digest = await access.fetch(way, storage, where, partial(self._load_apart, metadata))
                except ValueError as error:
                    if isinstance(error, CallsheetError):
                        raise
                    raise ResultDamaged(f"Its metadata names a place that cannot be: {error}") from error
        if self.cache_result_in_memory and size <= _LARGEST_IN_MEMORY:
            self.cache[located] = (record, digest)
        return record

    async def persist_by(self, way: Way, result_record: ResultRecord[Any], holder: str | None = None) -> None:
        """Do what `persist_result_record` does, and raise what it raises.

        Args:
            way: how to wait.
            result_record: the record.
            holder: who writes.
        """
        storage = self.storage()
        key = result_record.metadata.storage_key or self.new_metadata(None, None).storage_key or ""
        plain = self._plain(key)
        if self.lock_manager is not None:
            holder = holder or self.generate_default_holder()
            self._refuse_others(plain, holder)
        written: list[Any] = [0, None]

        def dump() -> Parts:
            parts = result_record.seal_parts() if apart else result_record.serialize_parts()
            digest = _digest_of(result_record) if apart else keys.digest_in(parts[0])
            written[:] = sum(memoryview(part).nbytes for part in parts), digest
            if self.lock_manager is not None:  # once more, as late as can be: making the bytes may have taken long
                self._refuse_others(plain, holder)
            return parts

        apart = self.metadata_storage is not None
        located = self._located(key, storage)
        self.cache.pop(located)
        with access.naming(key, storage):
            await access.store(way, storage, located, dump)
        if apart:
            place = self.metadata_storage
            with access.naming(key, place):
                await access.store(
                    way, place, self._located(plain, place), lambda: [result_record.serialize_metadata()]
                )
        if self.cache_result_in_memory and written[0] <= _LARGEST_IN_MEMORY and not isinstance(storage, NullFileSystem):
            self.cache[located] = (result_record, written[1])

    def store_parameters(self, *_: Any, **__: Any) -> NoReturn:
        """Keep the parameters of a run that a task worker is to take. Not implemented yet."""
        raise NotImplementedError("ResultStore.store_parameters is not implemented yet")

    def read_parameters(self, *_: Any, **__: Any) -> NoReturn:
        """Give parameters that were kept for a task worker. Not implemented yet."""
        raise NotImplementedError("ResultStore.read_parameters is not implemented yet")

    # --------------------------------------------------------------------------------------- inside

    def _refuse_others(self, key: str, holder: str | None) -> None:
        if self.is_locked(key) and not self.is_lock_holder(key, holder):
            raise RuntimeError(f"Cannot write to result record with key {key} because it is locked by another holder.")

    def new_metadata(self, key: str | None, expiration: datetime | None) -> ResultRecordMetadata:
        """Give the metadata of a record that is made here.

        Args:
            key: to keep it under; by default a new one.
            expiration: when it must no longer be used.
        """
        storage = self.storage()
        key = key or self.storage_key_fn()
        return ResultRecordMetadata(
            storage_key=self._located(key, storage),
            expiration=expiration,
            serializer=self.serializer,
            storage=address_of(storage, apart=self.metadata_storage is not None),
        )

    def storage(self) -> Any:
        """Give the storage of the results; the default one from the first use on, where none was named."""
        if self.result_storage is None:
            self.result_storage = default_storage()
        return self.result_storage

    def _located(self, key: str, storage: Any) -> str:
        return storage.locate(key) if isinstance(storage, Storage) else key

    def _plain(self, key: str) -> str:
        storage = self.storage()
        return storage.plain_key(key) if isinstance(storage, Storage) else key

    def _load(self, content: bytes) -> tuple[ResultRecord[Any], int, str | None]:
        record, digest = keys.load_record(content, self.serializer)
        return record, len(content), digest

    def _load_apart(self, metadata: bytes, content: bytes) -> tuple[ResultRecord[Any], int, str | None]:
        made = ResultRecord[Any].deserialize_from_result_and_metadata(content, metadata, self.serializer)
        keys.check_encryption(made, self.serializer)
        return made, len(content), _digest_of(made)


def _digest_of(record: ResultRecord[Any]) -> str | None:
    return None if record.metadata.seal is None else record.metadata.seal[1]
