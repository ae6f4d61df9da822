"""The last records that were used, in memory."""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from typing import Any


class LRUCache:
    """The last things that were used, by key. From any thread.

    Args:
        maxsize: how many; the one that was not used for longest goes first.

    Example:
        >>> cache = LRUCache(maxsize=1)
        >>> cache["a"] = 1
        >>> cache["b"] = 2
        >>> "a" in cache, cache["b"]
        (False, 2)
    """

    def __init__(self, maxsize: int = 1000) -> None:
        self.maxsize = maxsize
        self._kept: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str, default: Any = None) -> Any:
        """Give what is kept under a key.

        Args:
            key: of the thing.
            default: to give where there is none.
        """
        with self._lock:
            found = self._kept.get(key, default)
            if found is not default:
                self._kept.move_to_end(key)
            return found

    def pop(self, key: str, default: Any = None) -> Any:
        """Forget a key, and give what was kept under it.

        Args:
            key: of the thing.
            default: to give where there was none.
        """
        with self._lock:
            return self._kept.pop(key, default)

    def __deepcopy__(self, memo: dict[int, Any]) -> LRUCache:
        """Give one that keeps copies of the same things, and comes and goes apart."""
        made = LRUCache(self.maxsize)
        with self._lock:
            kept = dict(self._kept)
        made._kept.update(copy.deepcopy(kept, memo))
        return made

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()

    def __getitem__(self, key: str) -> Any:
        with self._lock:
            self._kept.move_to_end(key)
            return self._kept[key]

    def __setitem__(self, key: str, value: Any) -> None:
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self.maxsize:
                self._kept.popitem(last=False)

    def __contains__(self, key: object) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)
