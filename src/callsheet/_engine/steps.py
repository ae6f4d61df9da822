"""STAND-IN until the run journal's steps land: nothing is known."""

from __future__ import annotations

from typing import Any


class Step:
    __slots__ = ("_run", "known", "value")

    def __init__(self, run: Any, key: str, parameters: dict[str, Any] | None = None) -> None:
        self._run = run
        self.known = False
        self.value: Any = None
        del key, parameters

    def record(self, value: Any, *entries: Any) -> None:
        self.value, self.known = value, True
        if entries and self._run.core.journal.keeps:
            self._run.core.journal.put(*entries)
