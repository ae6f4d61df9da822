"""Writing what a run computed; a value that cannot be written does not fail its run."""

from __future__ import annotations

from typing import Any, Final

from callsheet._results.records import ResultRecord
from callsheet._results.store import ResultStore
from callsheet._results.ways import Way
from callsheet.exceptions import CallsheetError, SerializationError
from callsheet.logging.loggers import engine_log

_LOG: Final = engine_log("callsheet.results")


async def keep(
    way: Way, store: ResultStore, record: ResultRecord[Any], *, holder: str | None = None, log: Any = _LOG
) -> bool:
    """Write a record; say in a warning if that is not possible.

    Args:
        way: how to wait.
        store: to write it to.
        record: the record.
        holder: who writes.
        log: for the warning.

    Returns:
        Whether it was written.

    Raises:
        RuntimeError: somebody else has locked its key.
    """
    try:
        await store.persist_by(way, record, holder)
    except SerializationError as error:
        log.warning(
            "Encountered an error while serializing result: %s Execution will continue, but the result has not been "
            "persisted.",
            error,
        )
    except CallsheetError as error:
        log.warning(
            "Encountered an error while persisting result: %s Execution will continue, but the result has not been "
            "persisted.",
            error,
        )
    else:
        return True
    return False
