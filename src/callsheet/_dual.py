"""The one rule of the dual functions: the value in sync code, a coroutine of it in async code.

The run decides first: inside a task, whether the task is async; inside a flow, whether the flow is; outside of
both, whether a loop runs in this thread. `_sync=True` or `_sync=False` decides instead. A dual function that
another one calls gives its coroutine, and so it does in async hooks. Each has a twin with an ``a`` before its name that is always a coroutine.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from functools import wraps
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar

from callsheet._unstarted import Unstarted
from callsheet.context import FlowRunContext, TaskRunContext, current_run

P = ParamSpec("P")
T = TypeVar("T")

_NOT_INSIDE = object()
# The run in which a dual function is under way. A run that it starts is another one, and has its own rule.
_inside: ContextVar[object] = ContextVar("callsheet_inside_dual", default=_NOT_INSIDE)
# The same, where that function was called in sync code: then it must not suspend.
_stepped: ContextVar[object] = ContextVar("callsheet_dual_stepped", default=_NOT_INSIDE)


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


def dual(
    async_fn: Callable[P, Coroutine[Any, Any, T]], *, run: Callable[[Coroutine[Any, Any, T]], T] | None = None
) -> Callable[P, Any]:
    """Make the dual function of an async one, which stays its twin.

    Args:
        async_fn: the twin; its name begins with ``a``.
        run: how it is run in sync code. By default it must end without suspending there, and costs no loop.

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
        if sync is None:
            sync = not (_is_inside() or in_async_code())
        coroutine = _marked(Unstarted(async_fn(*args, **kwargs)), stepping=sync and run is None)
        if not sync:
            coroutine.__qualname__ = call.__qualname__  # which is what Python says was never awaited
            return coroutine
        if run is not None:
            return run(coroutine)
        from callsheet._kernel.ports import step

        return step(coroutine)

    call.__name__ = async_fn.__name__.removeprefix("a")
    call.__qualname__ = async_fn.__qualname__.removesuffix(async_fn.__name__) + call.__name__
    return call


def whose_body_decides(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function that runs call, such as a hook: where it is async, it is async code, whatever colour the run has.

    Args:
        fn: A plain function, or one that gives something to await.

    Returns:
        A function that gives the same. What dual functions give in it is awaited in any case.

    Example:
        >>> whose_body_decides(len)([1, 2])
        2
    """

    def call(*args: Any) -> Any:
        value = fn(*args)
        return _marked(Unstarted(value), stepping=False) if isawaitable(value) else value

    return call


def _is_inside() -> bool:
    inside = _inside.get()
    return inside is not _NOT_INSIDE and inside is current_run.get()


def is_stepped() -> bool:
    """Tell whether the dual function that is under way was called in sync code, and must not suspend."""
    entered = _stepped.get()
    return entered is not _NOT_INSIDE and entered is current_run.get()


def may_suspend() -> Token[object]:
    """Say that what is called next runs on a loop of its own; `undo` takes it back."""
    return _stepped.set(_NOT_INSIDE)


def undo(token: Token[object]) -> None:
    """Undo `may_suspend`."""
    _stepped.reset(token)


async def _marked(unstarted: Unstarted, *, stepping: bool) -> Any:
    """Run a coroutine so that dual functions called by it know."""
    before, stepped_before = _inside.get(), _stepped.get()
    run = current_run.get()
    _inside.set(run)
    if stepping:
        _stepped.set(run)
    try:
        return await unstarted.take()
    finally:
        # Not by a token: an abandoned coroutine is closed in whatever context the collector runs in.
        _inside.set(before)
        _stepped.set(stepped_before)
