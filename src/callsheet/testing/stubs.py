"""Putting something else in the place of a task's or flow's body, for the time of a test."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, cast

from callsheet.flows import Flow
from callsheet.tasks import Task

__all__ = ["Stub", "override"]

_LEFT_OUT: Final[Any] = object()


class Stub:
    """What was called in the place of a body.

    Attributes:
        calls: The arguments of each call so far, positional and named.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __repr__(self) -> str:
        """Show how often it was called."""
        return f"<Stub called {len(self.calls)} times>"


@contextmanager
def override(
    definition: Any,
    *,
    returns: Any = _LEFT_OUT,
    raises: BaseException | type[BaseException] | None = None,
    calls: Callable[..., Any] | None = None,
) -> Generator[Stub, None, None]:
    """Have a task, or a flow, do something else inside the block. Everything around its body stays: runs, states, retries.

    Copies that were made of it before (`with_options`) are not meant; those that are made inside the block are. A result that is
    taken from a cache is no call.

    Args:
        definition: The task or flow.
        returns: What it returns.
        raises: What it raises, an exception or a type of one.
        calls: What is called instead, with the same arguments; for a task of an asynchronous function it may be
            asynchronous, too.

    Yields:
        What was called, and how often.

    Raises:
        TypeError: Not exactly one of the three is given; or the definition is a generator, or none at all; or `calls` is
            asynchronous and the definition is not.

    Example:
        >>> from callsheet import flow, task
        >>> @task(retries=2)
        ... def fetch(url: str) -> str:
        ...     raise ConnectionError(url)
        >>> @flow
        ... def size(url: str) -> int:
        ...     return len(fetch(url))
        >>> with override(fetch, returns="page") as stub:
        ...     size("https://example.org")
        4
        >>> stub.calls
        [(('https://example.org',), {})]
    """
    if not isinstance(definition, (Task, Flow)) or definition.isgenerator:
        raise TypeError(f"`override` takes a task or a flow that is no generator, and not {definition!r}.")
    if (returns is not _LEFT_OUT) + (raises is not None) + (calls is not None) != 1:
        raise TypeError("`override` takes exactly one of `returns`, `raises` and `calls`.")
    if calls is not None and inspect.iscoroutinefunction(calls) and not definition.isasync:
        raise TypeError(f"{definition!r} is called without `await`: what is called instead cannot be asynchronous.")
    target = cast("Any", definition)
    stub, replaced = Stub(), target.fn

    def act(*args: Any, **kwargs: Any) -> Any:
        stub.calls.append((args, kwargs))
        if raises is not None:
            raise raises
        return returns if calls is None else calls(*args, **kwargs)

    async def act_later(*args: Any, **kwargs: Any) -> Any:
        value = act(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    # Called by the body's signature: parameters are bound, checked and named as ever.
    instead: Any = functools.wraps(replaced)(act_later if definition.isasync else act)
    instead.stub = stub
    target.fn = instead
    try:
        yield stub
    finally:
        target.fn = replaced


def is_overridden(definition: Any) -> bool:
    """Tell whether something is in the place of a body."""
    return isinstance(getattr(definition.fn, "stub", None), Stub)
