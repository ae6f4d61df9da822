"""A history of its own for a test, and comparing exceptions."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from callsheet._engine import ambient
from callsheet.settings import held_by_all, refresh_settings, temporary_settings

__all__ = ["exceptions_equal", "harness", "reset"]


@contextmanager
def harness(database: str | Path | None = None) -> Generator[str, None, None]:
    """Keep the history of what runs inside the block apart, on whatever thread of this process it runs.

    Args:
        database: File to use, or ``:memory:``. Default: a file in a temporary folder, which is removed afterwards.

    Yields:
        The path of the database.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def answer() -> int:
        ...     return 42
        >>> with harness(":memory:"):
        ...     answer()
        42
    """
    with tempfile.TemporaryDirectory(prefix="callsheet-") as folder:
        path = str(database) if database is not None else str(Path(folder) / "callsheet.db")
        held: dict[Any, Any] = {"database": path}
        held_by_all.append(held)
        try:
            # The context goes before what all hold: harnesses that are open side by side do not disturb each other.
            with temporary_settings(held):
                yield path
        finally:
            held_by_all[:] = [other for other in held_by_all if other is not held]
            refresh_settings()
            ambient.close_database(path)


def reset() -> None:
    """Empty the current history of the ambient engine: its runs, states and logs are gone.

    Raises:
        RuntimeError: Runs are alive in it.

    Example:
        >>> with harness(":memory:"):
        ...     reset()
    """
    ambient.empty_current()


def exceptions_equal(a: BaseException | None, b: BaseException | None) -> bool:
    """Tell whether two exceptions are of one type and carry equal arguments.

    Args:
        a: An exception, or `None`.
        b: Another.

    Example:
        >>> exceptions_equal(ValueError(1), ValueError(1)), exceptions_equal(ValueError(1), KeyError(1))
        (True, False)
    """
    if a is b:
        return True
    return type(a) is type(b) and getattr(a, "args", None) == getattr(b, "args", None)
