"""Running a flow by a function instead of by calling it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from callsheet.flows import Flow

__all__ = ["run_flow", "run_flow_async", "run_flow_sync"]


def run_flow(
    flow: Flow[..., Any],
    flow_run: Any = None,
    parameters: dict[str, Any] | None = None,
    wait_for: Iterable[Any] | None = None,
    return_type: Literal["state", "result"] = "result",
) -> Any:
    """Run a flow.

    Args:
        flow: The flow.
        flow_run: A run that was made before (not implemented yet).
        parameters: Values by name, defaults may be left out.
        wait_for: Futures to wait for before it starts.
        return_type: Whether to give the result or the final state.

    Returns:
        The result or the final state; for flows of asynchronous functions a coroutine, for generators a generator.

    Raises:
        NotImplementedError: `flow_run` is given.
        ValueError: `return_type` is something else.
        Exception: What the flow raised.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> run_flow(double, parameters={"x": 2})
        4
    """
    if return_type not in ("state", "result"):
        raise ValueError(f"`return_type` must be 'state' or 'result', not {return_type!r}.")
    if flow_run is not None:
        raise NotImplementedError("`flow_run`: running a flow run that was made before is not implemented yet")
    args, kwargs = flow._binder.call_arguments(parameters or {})  # pyright: ignore[reportPrivateUsage]
    return flow(*args, wait_for=wait_for, return_state=return_type == "state", **kwargs)  # pyright: ignore[reportCallIssue]


def run_flow_sync(flow: Flow[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a flow of a plain function.

    Args:
        flow: The flow.
        *args: As for `run_flow`.
        **kwargs: As for `run_flow`.

    Returns:
        The result, or the final state.

    Raises:
        TypeError: The flow is asynchronous.
    """
    if flow.isasync:
        raise TypeError(f"{flow!r} is asynchronous; use `await run_flow_async(...)`.")
    return run_flow(flow, *args, **kwargs)


async def run_flow_async(flow: Flow[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a flow of an asynchronous function.

    Args:
        flow: The flow.
        *args: As for `run_flow`.
        **kwargs: As for `run_flow`.

    Returns:
        The result, or the final state.

    Raises:
        TypeError: The flow is not asynchronous.
    """
    if not flow.isasync:
        raise TypeError(f"{flow!r} is not asynchronous; use `run_flow_sync(...)`.")
    return await run_flow(flow, *args, **kwargs)
