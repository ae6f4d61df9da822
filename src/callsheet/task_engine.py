"""Running a task by a function instead of by calling it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

if TYPE_CHECKING:
    from callsheet.tasks import Task

__all__ = ["run_task", "run_task_async", "run_task_sync"]


def run_task(
    task: Task[..., Any],
    task_run_id: UUID | None = None,
    task_run: Any = None,
    parameters: dict[str, Any] | None = None,
    wait_for: Iterable[Any] | None = None,
    return_type: Literal["state", "result"] = "result",
    dependencies: dict[str, set[Any]] | None = None,
    context: dict[str, Any] | None = None,
) -> Any:
    """Run a task.

    Args:
        task: The task.
        task_run_id: Id of the run (not implemented yet).
        task_run: A run that was made before (not implemented yet).
        parameters: Values by name, defaults may be left out.
        wait_for: Futures to wait for before it starts.
        return_type: Whether to give the result or the final state.
        dependencies: Further inputs to record (not implemented yet).
        context: A context as `serialize_context` describes it, entered for the run.

    Returns:
        The result or the final state; for tasks of asynchronous functions a coroutine, for generators a generator.

    Raises:
        NotImplementedError: An argument is given that is not implemented yet; it is named.
        ValueError: `return_type` is something else.
        Exception: What the task raised.

    Example:
        >>> from callsheet import task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> run_task(double, parameters={"x": 2})
        4
    """
    if return_type not in ("state", "result"):
        raise ValueError(f"`return_type` must be 'state' or 'result', not {return_type!r}.")
    later = {"task_run_id": task_run_id, "task_run": task_run, "dependencies": dependencies}
    for name, given in later.items():
        if given is not None:
            raise NotImplementedError(f"`{name}` of run_task is not implemented yet")
    args, kwargs = task._binder.call_arguments(parameters or {})  # pyright: ignore[reportPrivateUsage]
    run: Any = task  # a task of any signature
    options: dict[str, Any] = {"wait_for": wait_for, "return_state": return_type == "state"}
    if context is None:
        return run(*args, **options, **kwargs)
    if task.isgenerator:
        raise NotImplementedError("`context` of run_task is not implemented yet for generators")
    if task.isasync:
        return _in_context(task, args, options, kwargs, context)
    from callsheet.context import hydrated_context

    with hydrated_context(context):
        return run(*args, **options, **kwargs)


async def _in_context(
    task: Any, args: tuple[Any, ...], options: dict[str, Any], kwargs: dict[str, Any], context: dict[str, Any]
) -> Any:
    from callsheet.context import hydrated_context

    with hydrated_context(context):
        return await task(*args, **options, **kwargs)


def run_task_sync(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a task of a plain function.

    Args:
        task: The task.
        *args: As for `run_task`.
        **kwargs: As for `run_task`.

    Returns:
        The result, or the final state.

    Raises:
        TypeError: The task is asynchronous.
    """
    if task.isasync:
        raise TypeError(f"{task!r} is asynchronous; use `await run_task_async(...)`.")
    return run_task(task, *args, **kwargs)


async def run_task_async(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a task of an asynchronous function.

    Args:
        task: The task.
        *args: As for `run_task`.
        **kwargs: As for `run_task`.

    Returns:
        The result, or the final state.

    Raises:
        TypeError: The task is not asynchronous.
    """
    if not task.isasync:
        raise TypeError(f"{task!r} is not asynchronous; use `run_task_sync(...)`.")
    return await run_task(task, *args, **kwargs)
