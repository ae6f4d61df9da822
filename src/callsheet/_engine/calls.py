"""Calling and submitting: what flows and tasks share, with the types that programs see.

A signature cannot name keyword parameters beside a `ParamSpec`, so calls with `return_state` or `wait_for` are typed
by overloads of their own, which do not check the function's own arguments. `submit` has such overloads for all calls,
because futures may stand in the place of values.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from callsheet._engine.definitions import Definition, is_tracked, refuse_when_tracked, track

if TYPE_CHECKING:
    from callsheet.futures import TaskFuture
    from callsheet.states import State

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
P = ParamSpec("P")


@cache
def engine() -> Any:
    """Give the module that runs what is called. Imported by the first call: defining flows and tasks does not need it."""
    from callsheet._engine import invoke

    return invoke


class Calls(Definition[P, R_co]):
    """A definition that can be called and submitted."""

    @abstractmethod
    def _call(self, parameters: dict[str, Any], wait_for: Iterable[Any] | None, return_state: bool) -> Any:
        """Run with bound parameters."""

    @abstractmethod
    def _submit(self, parameters: dict[str, Any], wait_for: Iterable[Any] | None, return_state: bool) -> Any:
        """Start with bound parameters."""

    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self: Calls[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> Coroutine[Any, Any, State[T]]: ...
    @overload
    def __call__(
        self: Calls[..., T],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> State[T]: ...
    @overload
    def __call__(
        self, *args: Any, wait_for: Iterable[Any] | None, return_state: Literal[False] = False, **kwargs: Any
    ) -> R_co: ...
    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def __call__(
        self, *args: Any, return_state: bool = False, wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> Any:
        """Run it.

        Args:
            *args: Arguments of the function; futures and states among them are resolved first.
            return_state: Give the final state instead of the result, and raise nothing that the run raises.
            wait_for: Futures to wait for before the run starts.
            **kwargs: Keyword arguments of the function.

        Returns:
            The result, or the final state; for asynchronous functions a coroutine that gives it.

        Raises:
            ParameterBindError: The arguments do not fit the signature; no run exists then.
            ParameterTypeError: A flow's parameter does not fit its annotation; the run failed.
            Exception: What the function raised, the same object.

        Example:
            >>> from callsheet import flow, task
            >>> @task
            ... def add(x: int, y: int) -> int:
            ...     return x + y
            >>> @flow
            ... def my_flow(start: int) -> int:
            ...     return add(start, y=add(1, 2))
            >>> my_flow(4)
            7
        """
        parameters = self._binder.bind(self._bound + args, kwargs)
        if is_tracked():
            return track(self, parameters)
        return self._call(parameters, wait_for, return_state)

    @overload
    def submit(
        self: Calls[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> State[T]: ...
    @overload
    def submit(
        self: Calls[..., T],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> State[T]: ...
    @overload
    def submit(self: Calls[P, Coroutine[Any, Any, T]], *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]: ...
    @overload
    def submit(self: Calls[P, T], *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]: ...
    @overload
    def submit(
        self: Calls[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> TaskFuture[T]: ...
    @overload
    def submit(
        self: Calls[..., T],
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        **kwargs: Any,
    ) -> TaskFuture[T]: ...
    def submit(
        self, *args: Any, return_state: bool = False, wait_for: Iterable[Any] | None = None, **kwargs: Any
    ) -> Any:
        """Start a run as a child of the current flow run, and go on.

        A task runs on the flow's task runner, a flow as a child flow.

        Args:
            *args: Arguments of the function; futures and states among them are resolved first.
            return_state: Wait, and give the final state.
            wait_for: Futures to wait for before the run starts.
            **kwargs: Keyword arguments of the function.

        Returns:
            A future, or the final state. Never a coroutine, also for asynchronous functions.

        Raises:
            ParameterBindError: The arguments do not fit the signature; no run exists then.
            RuntimeError: No flow run is active.

        Example:
            >>> from callsheet import flow, task
            >>> @task
            ... def double(x: int) -> int:
            ...     return 2 * x
            >>> @flow
            ... def my_flow() -> int:
            ...     return double.submit(double.submit(1)).result()
            >>> my_flow()
            4
        """
        parameters = self._binder.bind(self._bound + args, kwargs)
        refuse_when_tracked(f"{type(self).__name__.lower()}.submit()")
        return self._submit(parameters, wait_for, return_state)
