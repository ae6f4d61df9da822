"""Futures: what `submit` hands back, and how to wait for it in every colour of code."""

from __future__ import annotations

import concurrent.futures
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast
from uuid import UUID

from callsheet._clock import monotonic
from callsheet._engine.history import state_of_task_run
from callsheet._engine.state_values import aget_state_result, value_here
from callsheet._engine.waiting import await_once, wait_for_run, wait_once
from callsheet._kernel.signals import Once
from callsheet._model.kinds import StateType
from callsheet._model.outcomes import Pending
from callsheet._model.states import State, StateDetails
from callsheet._model.values import value_of

if TYPE_CHECKING:
    from callsheet._engine import leaving
    from callsheet._engine.run import Run

_COMPLETED: Final = StateType.COMPLETED
R = TypeVar("R")
F = TypeVar("F")


class TaskFuture(ABC, Generic[R]):
    """The end of a run, to come.

    Waiting blocks the caller and gives plain values everywhere, also in async code, where other tasks go on
    meanwhile. `await future` is the async spelling.

    Example:
        >>> from callsheet import flow, task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow
        ... def my_flow() -> int:
        ...     future = double.submit(4)
        ...     future.wait()
        ...     return future.result()
        >>> my_flow()
        8
    """

    def __init__(self, task_run_id: UUID) -> None:
        self._task_run_id = task_run_id
        self._final_state: State[Any] | None = None

    @property
    def task_run_id(self) -> UUID:
        """Give the id of the run."""
        return self._task_run_id

    @property
    def state(self) -> State[Any]:
        """Give the state of the run: its final one, or Pending where nothing else is known here."""
        if self._final_state is not None:
            return self._final_state
        return Pending(state_details=StateDetails(task_run_id=self._task_run_id))

    @abstractmethod
    def wait(self, timeout: float | None = None) -> None:
        """Wait until the run has ended, at most `timeout` seconds. Never raises what the run raised."""

    @abstractmethod
    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Wait for the run and give its value.

        Args:
            timeout: Seconds to wait at most.
            raise_on_failure: Raise what a failed run raised, or hand the exception back.

        Returns:
            What the run returned.

        Raises:
            TimeoutError: The run did not end in time.
            BaseException: What the run raised.
        """

    @abstractmethod
    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """Have `fn(future)` called when the run has ended; at once if it has. What it raises is logged."""

    def when_done(self) -> Once:
        """Give a condition that is set when the run has ended."""
        once = Once()
        self.add_done_callback(lambda _: once.set())
        return once

    def __await__(self) -> Generator[Any, Any, R]:
        """Wait in async code, without blocking anybody."""
        yield from await_once(self.when_done()).__await__()
        return self.result(timeout=0)


class WrappedTaskFuture(TaskFuture[R], Generic[R, F]):
    """A future on top of one of another kind.

    Example:
        >>> from callsheet import flow, task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow
        ... async def my_flow() -> int:
        ...     import asyncio
        ...
        ...     return (await asyncio.wrap_future(double.submit(4).wrapped_future)).data
        >>> import asyncio
        >>> asyncio.run(my_flow())
        8
    """

    def __init__(self, task_run_id: UUID, wrapped_future: F) -> None:
        super().__init__(task_run_id)
        self._wrapped_future: F = wrapped_future

    @property
    def wrapped_future(self) -> F:
        """Give the future inside."""
        return self._wrapped_future


class ConcurrentTaskFuture(WrappedTaskFuture[R, "concurrent.futures.Future[Any]"]):
    """A run whose final state, or value, comes through a `concurrent.futures.Future`.

    Example:
        >>> import uuid
        >>> inside = concurrent.futures.Future()
        >>> inside.set_result(3)
        >>> ConcurrentTaskFuture(uuid.uuid4(), inside).result()
        3
    """

    def wait(self, timeout: float | None = None) -> None:
        if wait_once(self.when_done(), timeout):
            try:
                self._take()
            except Exception:  # what the future inside raises is raised by `result`
                pass

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        if self._final_state is None:
            if not wait_once(self.when_done(), timeout):
                raise TimeoutError(f"Task run {self._task_run_id} did not complete within {timeout} seconds")
            value = self._take()
            if self._final_state is None:
                return value
        return cast("R", value_of(self._final_state, raise_on_failure=raise_on_failure))

    def _take(self) -> Any:
        value: Any = self.wrapped_future.result(timeout=0)
        if isinstance(value, State):
            self._final_state = cast("State[Any]", value)
            return self._final_state
        return value

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        self.wrapped_future.add_done_callback(lambda _: fn(self))


class RunFuture(ConcurrentTaskFuture[R]):
    """The future of a run of this engine."""

    def __init__(self, run: Run, task_run_id: UUID | None = None) -> None:
        TaskFuture.__init__(self, task_run_id or run.cell.id)  # pyright: ignore[reportUnknownMemberType]
        self.run = run
        run.when_ended()

    @property
    def wrapped_future(self) -> concurrent.futures.Future[Any]:
        """Give a `concurrent.futures.Future` of the run's final state."""
        if "_wrapped_future" not in self.__dict__:
            mirror: concurrent.futures.Future[Any] = concurrent.futures.Future()
            mirror.set_running_or_notify_cancel()  # who gives up on it, as `asyncio.wait_for` does, cancels nothing
            self._wrapped_future = mirror
            self.when_done().subscribe(lambda: mirror.set_result(self.run.state))
        return self._wrapped_future

    @property
    def state(self) -> State[Any]:
        return self.run.state

    def when_done(self) -> Once:
        return self.run.when_ended()

    def wait(self, timeout: float | None = None) -> None:
        wait_for_run(self.run, timeout)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        if not wait_for_run(self.run, timeout):
            raise TimeoutError(f"Run {self.run.name or self._task_run_id} did not complete within {timeout} seconds")
        return self._value(raise_on_failure)

    def plain_end(self) -> leaving.Final | None:
        """Give how the run has completed, where its value can be had without its state: making that costs as much as a wait."""
        run = self.run
        final = run.final
        if final is None or final.type is not _COMPLETED or final.made is not None or final.name != run.state_name:
            return None
        return final

    def _value(self, raise_on_failure: bool) -> R:
        final = self.plain_end()
        if final is not None:
            return cast("R", final.data)
        return cast("R", value_of(self.run.state, raise_on_failure=raise_on_failure))

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        self.run.when_ended().subscribe(lambda: _call_back(fn, self))

    def __await__(self) -> Generator[Any, Any, R]:
        run = self.run
        yield from await_once(run.when_ended(), run).__await__()
        return self._value(raise_on_failure=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.run.name or self._task_run_id}: {self.run.state_name}>"

    def __del__(self) -> None:
        run = getattr(self, "run", None)
        if run is not None and run.final is None and not run.cell.ended:
            # Only a note: a finalizer may run in the middle of anything. The flow run says so at its end.
            flow = run.flow_actor
            if flow is not None:
                flow.lost_futures.append(run.name)


def _call_back(fn: Callable[[Any], object], future: RunFuture[Any]) -> None:
    """Tell of a run's end; what the callback raises is logged, because others are to be told after it."""
    try:
        fn(future)
    except Exception:  # it is the program's
        from callsheet.logging.loggers import engine_log

        engine_log("callsheet.futures").exception("A callback of %r failed", future)


class DistributedTaskFuture(TaskFuture[R]):
    """A run of another process, or one that is known by its id only: its state is read from the history.

    Example:
        >>> from callsheet import task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> state = double(4, return_state=True)
        >>> DistributedTaskFuture(state.state_details.task_run_id).state.name
        'Completed'
    """

    poll_seconds = 0.1

    @property
    def state(self) -> State[Any]:
        if self._final_state is None:
            return state_of_task_run(self._task_run_id) or super().state
        return self._final_state

    def wait(self, timeout: float | None = None) -> None:
        deadline = None if timeout is None else monotonic() + timeout
        while self._final_state is None:
            state = state_of_task_run(self._task_run_id)
            if state is not None and state.is_final():
                self._final_state = state
                return
            rest = self.poll_seconds if deadline is None else min(self.poll_seconds, deadline - monotonic())
            if rest <= 0:
                return
            wait_once(Once(), rest)

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        self.wait(timeout)
        if self._final_state is None:
            raise TimeoutError(f"Task run {self._task_run_id} did not complete within {timeout} seconds")
        return cast("R", value_here(self._final_state, raise_on_failure=raise_on_failure))

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        raise NotImplementedError("add_done_callback of a DistributedTaskFuture")

    def is_known(self) -> bool:
        """Look into the history once, without waiting.

        Returns:
            Whether the run has ended.
        """
        self.wait(0)
        return self._final_state is not None

    def __await__(self) -> Generator[Any, Any, R]:
        while not self.is_known():
            yield from await_once(Once(), timeout=self.poll_seconds).__await__()
        return cast("R", (yield from aget_state_result(self.state).__await__()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistributedTaskFuture) and other.task_run_id == self.task_run_id  # pyright: ignore[reportUnknownMemberType]

    def __hash__(self) -> int:
        return hash(self._task_run_id)


class TaskFutureList(list[TaskFuture[R]]):
    """Futures of a `map`, in the order of its arguments.

    Example:
        >>> from callsheet import flow, task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow
        ... def my_flow() -> list[int]:
        ...     return double.map([1, 2, 3]).result()
        >>> my_flow()
        [2, 4, 6]
    """

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all runs have ended, at most `timeout` seconds for all together."""
        deadline = None if timeout is None else monotonic() + timeout
        for future in self:
            future.wait(None if deadline is None else max(0.0, deadline - monotonic()))

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> list[R]:
        """Give every run's value, in order.

        Args:
            timeout: Seconds to wait at most, for all together.
            raise_on_failure: Raise what the first failed run raised, or hand exceptions back.

        Raises:
            TimeoutError: Not all runs ended in time.
            BaseException: What a run raised.
        """
        self.wait(timeout)
        if timeout is not None and not all(future.when_done().is_set for future in self):
            raise TimeoutError(f"Timed out waiting for all futures to complete within {timeout} seconds")
        return [future.result(raise_on_failure=raise_on_failure) for future in self]

    async def _gather(self) -> list[R]:
        return [await future for future in self]

    def __await__(self) -> Generator[Any, Any, list[R]]:
        """Wait for all in async code and give their values."""
        return self._gather().__await__()
