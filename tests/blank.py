"""Empty histories: one is made as every program makes it, and tests that need no more than an empty one get copies.

Making one is the 40 statements of its schema, most of what a short test does. Those whose subject it is to make or to upgrade
files use the fixture `made_anew`, and processes that tests start make their own.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
from contextlib import suppress
from pathlib import Path

from callsheet._store import connecting

connect = connecting.connect
"""The function of the package."""

_numbers = itertools.count()
_template = Path()


def prepare(folder: Path) -> None:
    """Make the history that is copied, in this process and before any test has changed something."""
    global _template
    _template = folder / "blank.db"
    connect(_template, 1.0).close()
    connecting.connect = _connect


def _connect(path: Path, patience: float) -> sqlite3.Connection:
    # Where a file was removed, what it left beside it is not to be taken for a part of the copy.
    if not os.path.lexists(path) and not os.path.exists(f"{path}-wal"):
        copy = _template.with_name(f"blank-{os.getpid()}-{next(_numbers)}.db")
        shutil.copyfile(_template, copy)
        # Whole or not at all, and only if nobody else was quicker. Where it cannot be, the package says why.
        with suppress(OSError):
            os.link(copy, path)
        copy.unlink()
    return connect(path, patience)
