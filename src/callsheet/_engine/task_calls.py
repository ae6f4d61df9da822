"""What can be done with a task besides defining it: run, map, make runs."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from callsheet._engine.calls import Calls, engine
from callsheet._engine.definitions import refuse_when_tracked
from callsheet._engine.later import not_yet

if TYPE_CHECKING:
    from uuid import UUID

    from callsheet.client.schemas.objects import TaskRun
    from callsheet.context import FlowRunContext, TaskRunContext
    from callsheet.futures import TaskFutureList
    from callsheet.states import State

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
P = ParamSpec("P")


class TaskCalls(Calls[P, R_co]):
    """A task without its options."""

    def _call(self, parameters: dict[str, Any], wait_for: Iterable[Any] | None, return_state: bool) -> Any:
        return engine().call_task(self, parameters, wait_for=wait_for, return_state=return_state)

    def _submit(self, parameters: dict[str, Any], wait_for: Iterable[Any] | None, return_state: bool) -> Any:
        return engine().submit_task(self, parameters, wait_for=wait_for, return_state=return_state)

    @overload
    def map(
        self: TaskCalls[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> list[State[T]]: ...
    @overload
    def map(
        self: TaskCalls[..., T],
        *args: Any,
        return_state: Literal[True],
        wait_for: Iterable[Any] | None = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> list[State[T]]: ...
    @overload
    def map(
        self: TaskCalls[..., Coroutine[Any, Any, T]],
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> TaskFutureList[T]: ...
    @overload
    def map(
        self: TaskCalls[..., T],
        *args: Any,
        return_state: Literal[False] = False,
        wait_for: Iterable[Any] | None = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> TaskFutureList[T]: ...
    def map(
        self,
        *args: Any,
        return_state: bool = False,
        wait_for: Iterable[Any] | None = None,
        deferred: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Start the task once for each item of its iterable arguments, and go on.

        Arguments that are not iterable, texts, `unmapped` values and defaults go to every run as they are.

        Args:
            *args: Arguments of the function; at least one iterable, and all iterables of one length.
            return_state: Wait, and give the final states.
            wait_for: Futures to wait for before the runs start.
            deferred: Leave the runs to a task worker (not implemented yet).
            **kwargs: Keyword arguments of the function.

        Returns:
            A list of futures, or of final states.

        Raises:
            ParameterBindError: The arguments do not fit the signature; no run exists then.
            MappingMissingIterable: There is nothing to iterate over.
            MappingLengthMismatch: The iterables are of different lengths.
            RuntimeError: No flow run is active.

        Example:
            >>> from callsheet import flow, task
            >>> @task
            ... def add(x: int, y: int) -> int:
            ...     return x + y
            >>> @flow
            ... def my_flow() -> list[int]:
            ...     return add.map([1, 2, 3], 10).result()
            >>> my_flow()
            [11, 12, 13]
        """
        parameters = self._binder.bind_partial_defaults_off(self._bound + args, kwargs)
        refuse_when_tracked("task.map()")
        if deferred:
            not_yet("Task.map(deferred=True)")
        return engine().map_task(self, parameters, wait_for=wait_for, return_state=return_state)

    # ----------------------------------------------------------------------------------------------- runs

    async def create_run(
        self,
        client: Any = None,
        id: UUID | None = None,
        parameters: dict[str, Any] | None = None,
        flow_run_context: FlowRunContext | None = None,
        parent_task_run_context: TaskRunContext | None = None,
        wait_for: Iterable[Any] | None = None,
        extra_task_inputs: Mapping[str, Any] | None = None,
        deferred: bool = False,
    ) -> TaskRun:
        """Make and store a run of this task without running it.

        Args:
            client: An open client, on whose history it is stored. Default: the history of the place of the call.
            id: The run's id. Default: a new one.
            parameters: Its parameters, in which upstream runs are looked for.
            flow_run_context: The flow run it belongs to. Default: the current one.
            parent_task_run_context: The task run it belongs to. Default: the current one.
            wait_for: Futures that it waits for.
            extra_task_inputs: Upstream runs by name, besides those found.
            deferred: Leave it to a task worker.

        Returns:
            The task run.

        Raises:
            NotImplementedError: It is `deferred`, with parameters or `wait_for`.
            ObjectAlreadyExists: A run has this id.
            ObjectNotFound: The flow run is not in the history of `client`.
            TypeError: What is given as `client` is none.
        """
        given = dict(locals())
        del given["self"]
        from callsheet._engine.by_hand import create_task_run

        return await create_task_run(self, **given)

    async def create_local_run(
        self,
        client: Any = None,
        id: UUID | None = None,
        parameters: dict[str, Any] | None = None,
        flow_run_context: FlowRunContext | None = None,
        parent_task_run_context: TaskRunContext | None = None,
        wait_for: Iterable[Any] | None = None,
        extra_task_inputs: Mapping[str, Any] | None = None,
        deferred: bool = False,
    ) -> TaskRun:
        """Make a run of this task without storing or running it; arguments as for `create_run`.

        A `client` is checked and has nothing to do: there is nothing to store.

        Returns:
            The task run.

        Raises:
            TypeError: What is given as `client` is none.
        """
        given = dict(locals())
        del given["self"]
        from callsheet._engine.by_hand import create_local_task_run

        return await create_local_task_run(self, **given)

    # ------------------------------------------------------------------------------------- later releases

    def apply_async(
        self,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        wait_for: Iterable[Any] | None = None,
        dependencies: Mapping[str, Any] | None = None,
    ) -> NoReturn:
        """Leave a run to a task worker. Not implemented yet."""
        del wait_for, dependencies
        self._binder.bind(self._bound + (args or ()), kwargs or {})
        refuse_when_tracked("task.apply_async()")
        not_yet("Task.apply_async")

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> NoReturn:
        """Leave a run to a task worker. Not implemented yet."""
        self._binder.bind(self._bound + args, kwargs)
        refuse_when_tracked("task.apply_async()")
        not_yet("Task.delay")

    def serve(self) -> NoReturn:
        """Run what was left to task workers. Not implemented yet."""
        not_yet("Task.serve")
