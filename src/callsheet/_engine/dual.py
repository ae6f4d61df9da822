"""The one rule of the dual functions: the value in sync code, a coroutine of it in async code.

The run decides first: inside a task, whether the task is async; inside a flow, whether the flow is; outside of
both, whether a loop runs in this thread. `_sync=True` or `_sync=False` decides instead. A dual function that
another one calls gives its coroutine. Each has a twin with an ``a`` before its name that is always a coroutine.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from callsheet.context import FlowRunContext, TaskRunContext, current_run

P = ParamSpec("P")
T = TypeVar("T")

_NOT_INSIDE = object()
# The run in which a dual function is under way. A run that it starts is another one, and has its own rule.
_inside: ContextVar[object] = ContextVar("callsheet_inside_dual", default=_NOT_INSIDE)


def in_async_code() -> bool:
    """Tell whether the caller should be given coroutines."""
    task_run = TaskRunContext.get()
    if task_run is not None and (task := getattr(task_run, "task", None)) is not None:
        return bool(task.isasync)
    flow_run = FlowRunContext.get()
    if flow_run is not None and (flow := getattr(flow_run, "flow", None)) is not None:
        return bool(flow.isasync)
    from callsheet._kernel.host import current_host

    return current_host() is not None


def dual(async_fn: Callable[P, Coroutine[Any, Any, T]], *, waits: bool = False) -> Callable[P, Any]:
    """Make the dual function of an async one, which stays its twin.

    Args:
        async_fn: the twin; its name begins with ``a``.
        waits: it may have to wait for an event loop. Without this it must end without suspending when it
            is called in sync code, and costs no loop then.

    Returns:
        A function that gives the value or a coroutine, as this module says. It takes `_sync` besides.

    Example:
        >>> async def atwice(x: int) -> int:
        ...     return 2 * x
        >>> twice = dual(atwice)
        >>> twice(3)
        6
    """

    @wraps(async_fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        sync: Any = kwargs.pop("_sync", None)
        coroutine = _marked(async_fn(*args, **kwargs))
        if sync is None:
            sync = not (_is_inside() or in_async_code())
        if not sync:
            return coroutine
        if waits:
            from callsheet._engine.invoke import run_blocking

            return run_blocking(coroutine)
        from callsheet._kernel.ports import step

        return step(coroutine)

    call.__name__ = async_fn.__name__.removeprefix("a")
    call.__qualname__ = async_fn.__qualname__.removesuffix(async_fn.__name__) + call.__name__
    return call


def _is_inside() -> bool:
    inside = _inside.get()
    return inside is not _NOT_INSIDE and inside is current_run.get()


async def _marked(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine so that dual functions called by it know."""
    before = _inside.get()
    _inside.set(current_run.get())
    try:
        return await coroutine
    finally:
        # Not by a token: an abandoned coroutine is closed in whatever context the collector runs in.
        _inside.set(before)
