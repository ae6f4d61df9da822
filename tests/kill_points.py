"""Named moments at which a process of the kill loop ends itself: by SIGKILL, before and after each step of a write.

The moments are made by wrapping methods in the process that is to die; nothing in the package knows of them.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

from callsheet._engine.core import Core
from callsheet._kernel.journal import Journal
from callsheet._store import sqlite, taking
from callsheet._store.engines import SqliteEngines
from callsheet._store.logfile import LogFile

STEPS = {
    "accept": 20,
    "append": 6,
    "log": 12,
    "commit": 1,
    "settle": 1,
    "apply": 2,
    "acknowledge": 7,
    "told": 7,
    "did": 7,
}
"""The steps, and how often, about, the process of one flow comes by."""
OWNING = {"claim": 2, "claiming": 2, "fence": 1, "beat": 3, "renew": 2, "leave": 1}
"""Those of a process that takes up what others have left; two of them are inside of a transaction."""


def _moments(steps: dict[str, int]) -> dict[str, int]:
    return {f"{when} {step}": often for step, often in steps.items() for when in ("before", "after")}


POINTS = _moments(STEPS)
POINTS_OF_TAKERS = _moments(OWNING)


class Points:
    """Counts the moments that a process comes by, and kills it at the one that is wanted.

    Args:
        wanted: name of the moment; `None` counts only.
        count: at the how-manieth time.
    """

    def __init__(self, wanted: str | None = None, count: int = 1) -> None:
        self.wanted = wanted
        self.left = count
        self.seen: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Come by a moment."""
        self.seen[name] += 1
        if name == self.wanted:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def arm(self) -> None:
        """Wrap what writes, for the rest of this process."""
        self._wrap(Journal, "put", lambda _: "accept")
        self._wrap(sqlite.SqliteStore, "append", lambda _: "append")
        self._tear()
        self._wrap(sqlite.SqliteStore, "_commit", lambda args: "settle" if len(args) > 3 and args[3] else "commit")
        self._wrap(sqlite, "apply", lambda _: "apply")  # between BEGIN and COMMIT
        self._wrap(SqliteEngines, "take", lambda _: "claim")
        self._wrap(taking, "take", lambda _: "claiming")  # between BEGIN and COMMIT
        self._wrap(SqliteEngines, "fence", lambda _: "fence")
        self._wrap(SqliteEngines, "write", lambda _: "beat")  # between BEGIN and COMMIT
        self._wrap(SqliteEngines, "renew", lambda _: "renew")
        self._wrap(SqliteEngines, "leave", lambda _: "leave")
        acknowledge = Core.acknowledge

        async def acknowledged(*args: Any) -> bool:
            self.reach("before acknowledge")
            committed = acknowledge(*args)
            if committed is not None:
                await committed
            self.reach("after acknowledge")
            return None

        Core.acknowledge = acknowledged

    def _tear(self) -> None:
        """Have what is written to a log be there in part: the moment before that and the one in the middle."""
        write = LogFile._write_mapped

        def torn(file: LogFile, at: int, content: bytes) -> None:
            half = len(content) // 2
            self.reach("before log")
            write(file, at, content[:half])
            self.reach("after log")
            write(file, at + half, content[half:])

        LogFile._write_mapped = torn  # type: ignore[method-assign]

    def _wrap(self, owner: Any, name: str, step: Callable[[tuple[Any, ...]], str]) -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            here = step(args)
            self.reach(f"before {here}")
            done = original(*args, **kwargs)
            self.reach(f"after {here}")
            return done

        setattr(owner, name, wrapped)
