"""Asking live flow runs how they are getting on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload
from uuid import UUID

from callsheet._engine import queries, run_inputs
from callsheet._engine.dual import dual

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["aquery_flow_run", "on_query", "query_flow_run"]


@overload
def on_query(name: str, handler: F) -> F: ...
@overload
def on_query(name: str) -> Callable[[F], F]: ...
def on_query(name: str, handler: Any = None) -> Any:
    """Let the current flow run answer a query, from here to its end.

    Called in a flow's body. A handler looks and answers; it does not change the run, and starts nothing in it. Where
    the body lives on an event loop, the handler is called on that loop, at a moment when the body waits; a body in a
    thread goes on meanwhile. Another handler of the same name replaces it.

    Args:
        name: Of the query.
        handler: What is called with the arguments of the query, sync or async. Left out: `on_query` is a decorator.

    Returns:
        The handler, or the decorator.

    Raises:
        RuntimeError: No flow's body is executing here.

    Example:
        >>> from callsheet import flow, query_flow_run
        >>> from callsheet.runtime import flow_run
        >>> @flow
        ... def census() -> str:
        ...     done = ["north", "south"]
        ...
        ...     @on_query("progress")
        ...     def progress(of: int) -> str:
        ...         return f"{len(done)} of {of}"
        ...
        ...     return query_flow_run(flow_run.id, "progress", 4)  # elsewhere, normally
        >>> census()
        '2 of 4'
    """
    if handler is not None:
        queries.register(name, handler)
        return handler

    def decorate(fn: F) -> F:
        queries.register(name, fn)
        return fn

    return decorate


async def aquery_flow_run(flow_run_id: UUID | str, name: str, *args: Any, timeout: float | None = 10.0) -> Any:
    """Ask a live flow run something that its body answers with `on_query`.

    Args:
        flow_run_id: The flow run, of this process or of another one on the same history.
        name: Of the query.
        *args: What the handler is called with. To another process go what JSON can hold, and pydantic models.
        timeout: Seconds to wait for the answer; `None`: for ever.

    Returns:
        What the handler gives; from another process, as JSON.

    Raises:
        ObjectNotFound: There is no such flow run.
        RunNotLive: It has ended, or no living process has it.
        UnknownQuery: It answers no query of this name, or does not yet.
        QueryTimeout: It did not answer in time; its loop computes, for instance.
        QueryFailed: The handler failed, in another process.
        Exception: What the handler raised, the same object, in this process.

    Example:
        >>> from callsheet import flow, on_query
        >>> from callsheet.runtime import flow_run
        >>> @flow
        ... def census() -> int:
        ...     on_query("answer", lambda: 42)
        ...     return query_flow_run(flow_run.id, "answer")
        >>> census()
        42
    """
    place = run_inputs.place_here()
    try:
        return await queries.query(place, run_inputs.port_here(), UUID(str(flow_run_id)), name, args, timeout)
    finally:
        await place.reader.aclose()


query_flow_run = dual(aquery_flow_run)
