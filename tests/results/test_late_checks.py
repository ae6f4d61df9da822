"""A lock that changes hands while a result becomes bytes: what is not the holder's any more is not written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callsheet.filesystems import LocalFileSystem, MemoryStorage
from callsheet.locking.memory import MemoryLocks
from callsheet.results import ResultStore


class Slow:
    """A value that takes so long to pickle that its writer's lock is taken over meanwhile."""

    def __init__(self, locks: Any) -> None:
        self.locks = locks

    def __reduce__(self) -> Any:
        self.locks.release_lock("key", "writer")
        self.locks.acquire_lock("key", "somebody else")
        return str, ("slow",)


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_the_last_look_is_after_the_bytes_were_made(kind: str, tmp_path: Path) -> None:
    storage = MemoryStorage() if kind == "memory" else LocalFileSystem(tmp_path)
    locks = MemoryLocks()
    store = ResultStore(result_storage=storage, lock_manager=locks, cache_result_in_memory=False)
    assert store.acquire_lock("key", holder="writer")
    store.write("before", key="key", holder="writer")
    with pytest.raises(RuntimeError, match="Cannot write to result record with key key because it is locked"):
        store.write(Slow(locks), key="key", holder="writer")
    assert store.read("key", holder="somebody else").result == "before"
