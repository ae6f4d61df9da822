"""The results in the run journal: records like those in storages, inside their row or in a file beside the history.

A result that is persisted is in the storage that keeps it; the journal has its metadata. One function, `recall`,
reads what the journal has, whichever of these it is.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from pydantic_core import ValidationError

from callsheet._model.records import ResultBlob
from callsheet._results import access
from callsheet._results.current import about, load_by
from callsheet._results.local import LocalFileSystem
from callsheet._results.records import ResultRecord, ResultRecordMetadata, parse_head
from callsheet._results.storage import NullFileSystem
from callsheet._results.ways import Way
from callsheet._results.wires import METADATA, RECORD
from callsheet.exceptions import MissingResult, ResultDamaged, SerializationError, StorageError


async def recall(
    way: Way, blob: ResultBlob | None, folder: Path | None, *, run_id: UUID, run: str
) -> ResultRecord[Any]:
    """Give the result that an entry of the run journal is about.

    Args:
        way: how to wait.
        blob: the entry's; `None` stands for the result `None`, of which nothing is kept.
        folder: with the files of this history; `None` for a history in memory.
        run_id: of the run whose result it is.
        run: how errors call that run.

    Returns:
        The record. Its key is the run's id where only the journal has it.

    Raises:
        MissingResult: it is gone, or cannot be used; one of its kinds says what is wrong.
        StorageError: it cannot be read now.
        SerializationError: its serializer is not known here, or cannot read it.
    """
    if blob is not None and blob.codec == METADATA:
        return await load_by(way, ResultRecordMetadata.load_bytes(blob.inline or b""), run=run)
    try:
        record = _nothing() if blob is None else await _read(way, blob, folder, str(run_id))
    except (MissingResult, StorageError, SerializationError) as error:
        raise about(run, error) from error
    record.metadata.storage_key = str(run_id)
    return record


async def _read(way: Way, blob: ResultBlob, folder: Path | None, key: str) -> ResultRecord[Any]:
    load = partial(_load, codec=blob.codec, digest=blob.digest)
    if blob.inline is not None:
        with access.naming(key, _ROWS):
            return load(blob.inline)
    storage = NullFileSystem() if folder is None else LocalFileSystem(folder)
    with access.naming(key, storage):
        return await access.fetch(way, storage, blob.uri or key, load)


def _load(content: bytes, codec: str, digest: bytes | None) -> ResultRecord[Any]:
    if codec != RECORD:
        raise ResultDamaged(f"A result has the form {codec!r}, which this version of callsheet does not know.")
    try:
        if digest is not None and parse_head(content)[0].digest != digest.hex():
            raise ResultDamaged("It is another result than the one that the run journal remembers.")
        return ResultRecord[Any].deserialize(content)
    except ValidationError as error:
        raise ResultDamaged("This is no result of callsheet: it has no metadata.") from error


def _nothing() -> ResultRecord[None]:
    return ResultRecord(None, ResultRecordMetadata())


class _Rows:
    def __repr__(self) -> str:
        return "the run journal"


_ROWS: Final = _Rows()
