"""The dual functions of the engine, some of which may have to wait for an event loop."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from callsheet import _dual

P = ParamSpec("P")
T = TypeVar("T")


def dual(async_fn: Callable[P, Coroutine[Any, Any, T]], *, waits: bool = False) -> Callable[P, Any]:
    """Make the dual function of an async one, which stays its twin.

    Args:
        async_fn: the twin; its name begins with ``a``.
        waits: it may have to wait for an event loop. Without this it must end without suspending when it
            is called in sync code, and costs no loop then.

    Returns:
        A function that gives the value or a coroutine, as `callsheet._dual` says. It takes `_sync` besides.
    """
    return _dual.dual(async_fn, run=_run) if waits else _dual.dual(async_fn)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    from callsheet._engine.invoke import run_blocking

    return run_blocking(coroutine)
