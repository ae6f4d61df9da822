"""Results: stores that keep what runs computed, and the records in them.

Reading a result unpickles it, or imports the classes that it names: read only from storage to which nobody writes
whom you would not let run code.
"""

from __future__ import annotations

import os
from typing import Any, TypeAlias

from callsheet._results.current import get_result_store, should_persist_result
from callsheet._results.keys import DEFAULT_STORAGE_KEY_FN
from callsheet._results.places import aget_default_result_storage, get_default_result_storage
from callsheet._results.records import ResultRecord, ResultRecordMetadata
from callsheet._results.serializing import Serializer
from callsheet._results.storage import WritableFileSystem
from callsheet._results.store import ResultStore

ResultStorage: TypeAlias = WritableFileSystem | str | os.PathLike[str]
ResultSerializer: TypeAlias = Serializer[Any] | str

__all__ = [
    "DEFAULT_STORAGE_KEY_FN",
    "ResultRecord",
    "ResultRecordMetadata",
    "ResultSerializer",
    "ResultStorage",
    "ResultStore",
    "aget_default_result_storage",
    "get_default_result_storage",
    "get_result_store",
    "should_persist_result",
]
