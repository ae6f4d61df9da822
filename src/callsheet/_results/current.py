"""What holds here: the store of the current run, whether results are kept, and loading one by its metadata."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from callsheet._results import access
from callsheet._results.places import from_address
from callsheet._results.records import ResultRecord, ResultRecordMetadata
from callsheet._results.store import ResultStore
from callsheet._results.ways import Way
from callsheet._results.wires import APART
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import (
    MissingResult,
    SerializationError,
    StorageError,
    StorageTimeout,
    StorageUnavailable,
)
from callsheet.settings import get_current_settings

_PAUSES: Final = (0.1, 0.4)  # seconds between attempts to read what a storage does not have yet


def get_result_store() -> ResultStore:
    """Give the result store of the current run, or one with the defaults outside of runs.

    Returns:
        The store.

    Example:
        >>> get_result_store().cache_result_in_memory
        True
    """
    context = TaskRunContext.get() or FlowRunContext.get()
    store = None if context is None else context.result_store
    return ResultStore() if store is None else store


def should_persist_result() -> bool:
    """Tell whether the current run keeps its result: as its task says, else its flow, else the setting.

    Example:
        >>> should_persist_result()
        False
    """
    task_run = TaskRunContext.get()
    if task_run is not None:
        return bool(task_run.persist_result)
    flow_run = FlowRunContext.get()
    if flow_run is not None:
        return bool(flow_run.persist_result)
    return get_current_settings().results_persist_by_default


async def load_by(way: Way, metadata: ResultRecordMetadata, *, retry: bool = True, run: str = "") -> ResultRecord[Any]:
    """Give the record that metadata is of.

    Args:
        way: how to wait.
        metadata: of the record.
        retry: try again where the storage has nothing, or does not answer.
        run: whose result it is, for errors.

    Raises:
        MissingResult: it is gone, or cannot be used; one of its kinds says what is wrong.
        StorageError: the storage cannot be read.
        SerializationError: the serializer cannot read it.
    """
    key = metadata.storage_key or ""
    pauses = list(_PAUSES if retry else ())
    while True:
        try:
            storage = from_address(metadata.storage)
            store = ResultStore(result_storage=storage, serializer=metadata.serializer, cache_result_in_memory=False)
            if (metadata.storage or "").startswith(APART):
                load = partial(ResultRecord[Any].deserialize_from_result_and_metadata, metadata=metadata.dump_bytes())
                with access.naming(key, storage):
                    return await access.fetch(way, storage, key, load)
            return await store.read_by(way, key)
        except (MissingResult, StorageUnavailable) as error:
            if not pauses or isinstance(error, StorageTimeout):
                raise about(run, error) from error
        except (StorageError, SerializationError) as error:
            raise about(run, error) from error
        await way.sleep(pauses.pop(0))


def about(run: str, error: Exception) -> Exception:
    """Give an error that says of which run's result it speaks, and what to do.

    Args:
        run: how the run is called; empty for none.
        error: what went wrong.
    """
    if not run:
        return error
    hint = " Run it again to make it anew." if isinstance(error, MissingResult) else ""
    return type(error)(f"The result of {run} cannot be read. {error}{hint}")
