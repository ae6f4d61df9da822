"""Task runners: where the runs that a flow submits are executed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Self, TypeVar

from callsheet.context import current_run
from callsheet.settings import get_current_settings as _current_settings
from callsheet.settings import refresh_settings as _refresh_settings

if TYPE_CHECKING:
    from callsheet._engine.waiting import Places
    from callsheet.futures import TaskFuture, TaskFutureList
    from callsheet.tasks import Task

__all__ = [
    "BackgroundTaskRunner",
    "ConcurrentTaskRunner",
    "DaskTaskRunner",
    "ProcessPoolTaskRunner",
    "RayTaskRunner",
    "TaskRunner",
    "ThreadPoolTaskRunner",
]

F = TypeVar("F", bound="TaskFuture[Any]")


class TaskRunner(ABC, Generic[F]):
    """Executes what a flow submits. A flow run uses a duplicate of its own, entered while its body runs.

    Example:
        >>> from callsheet import flow, task
        >>> class Talkative(ThreadPoolTaskRunner):
        ...     def submit(self, task, parameters, **rest):
        ...         print(task.name, parameters)
        ...         return super().submit(task, parameters, **rest)
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow(task_runner=Talkative())
        ... def my_flow() -> int:
        ...     return double.submit(4).result()
        >>> my_flow()
        double {'x': 4}
        8
    """

    @property
    def name(self) -> str:
        """Give the runner's name, for people."""
        return type(self).__name__.lower().replace("taskrunner", "")

    @abstractmethod
    def duplicate(self) -> Self:
        """Give a runner with the same options that has not been entered."""

    @abstractmethod
    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[TaskFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> F:
        """Start a run of a task.

        Args:
            task: The task.
            parameters: Values by name, as the task's signature binds them.
            wait_for: Futures to wait for before the run starts.
            dependencies: Further inputs to be recorded, by name.

        Returns:
            The run's future.
        """

    def map(
        self, task: Task[..., Any], parameters: dict[str, Any], wait_for: Iterable[TaskFuture[Any]] | None = None
    ) -> TaskFutureList[Any]:
        """Start a run for each element of the parameters that can be iterated.

        Args:
            task: The task.
            parameters: Values by name; those that can be iterated are mapped over.
            wait_for: Futures to wait for before each run starts.

        Returns:
            Their futures, in order.

        Raises:
            MappingMissingIterable: There is nothing to iterate over.
            MappingLengthMismatch: The iterables differ in length.
        """
        from callsheet._engine.mapping import pair
        from callsheet.futures import TaskFutureList

        return TaskFutureList(self.submit(task, bound, wait_for=wait_for) for bound in pair(task, parameters))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class ThreadPoolTaskRunner(TaskRunner[Any]):
    """Runs async tasks on the flow's event loop and sync tasks on threads, concurrently.

    Args:
        max_workers: How many runs of one flow run may execute at once. Default: the setting
            `CALLSHEET_TASK_RUNNER_MAX_WORKERS`, without which there is no limit. A run that waits for another
            does not count, so runs that submit and wait cannot block each other.

    Example:
        >>> from callsheet import flow, task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
        ... def doubles() -> list[int]:
        ...     return double.map([1, 2, 3]).result()
        >>> doubles()
        [2, 4, 6]

        Outside of flow runs it is entered by hand, and waits for what it has begun:

        >>> with ThreadPoolTaskRunner() as runner:
        ...     future = runner.submit(double, {"x": 4})
        >>> future.result()
        8
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is None:
            max_workers = _refresh_settings().task_runner_max_workers
        if max_workers is not None and max_workers < 1:
            raise ValueError("`max_workers` must be at least 1.")
        self._max_workers = max_workers
        self._places: Places | None = None
        self._outside: list[TaskFuture[Any]] | None = (
            None  # what was started outside of flow runs, while entered by hand
        )

    @property
    def max_workers(self) -> int | None:
        """How many runs of one flow run may execute at once; `None`: any number."""
        return self._max_workers

    def duplicate(self) -> Self:
        workers = self._max_workers
        if type(self).__init__ is not ThreadPoolTaskRunner.__init__:
            return type(self)(max_workers=workers)
        made = type(self).__new__(type(self))  # `__init__` would read the environment for each flow run
        made._max_workers = _current_settings().task_runner_max_workers if workers is None else workers
        made._places = made._outside = None
        return made

    def submit(
        self,
        task: Task[..., Any],
        parameters: dict[str, Any],
        wait_for: Iterable[TaskFuture[Any]] | None = None,
        dependencies: dict[str, set[Any]] | None = None,
    ) -> TaskFuture[Any]:
        from callsheet._engine.invoke import start_task

        if self._outside is None or current_run.get() is not None:
            return start_task(task, parameters, wait_for, self._places, dependencies)
        future = start_task(task, parameters, wait_for, self._places, dependencies, outside=True)
        self._outside.append(future)
        return future

    def map(
        self, task: Task[..., Any], parameters: dict[str, Any], wait_for: Iterable[TaskFuture[Any]] | None = None
    ) -> TaskFutureList[Any]:
        from callsheet._engine.invoke import start_tasks

        if self._outside is not None and current_run.get() is None:
            return super().map(task, parameters, wait_for)
        return start_tasks(task, parameters, wait_for, self._places)

    def __enter__(self) -> Self:
        if current_run.get() is None:  # by hand, not for a flow run
            self._outside = []
        if self._max_workers is not None:
            from callsheet._engine.waiting import Places

            self._places = Places(self._max_workers)
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for the runs that were started outside of flow runs: nobody else does."""
        begun, self._outside = self._outside, None
        for future in begun or ():
            future.wait()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._max_workers == self._max_workers  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]


class ConcurrentTaskRunner(ThreadPoolTaskRunner):
    """The same under its older name.

    Example:
        >>> ConcurrentTaskRunner(max_workers=2).max_workers
        2
    """


def _later(name: str) -> NoReturn:
    raise NotImplementedError(f"{name} is not implemented yet. Use ThreadPoolTaskRunner.")


class ProcessPoolTaskRunner(ThreadPoolTaskRunner):
    """Will run tasks in processes of their own (not implemented yet).

    Example:
        >>> ProcessPoolTaskRunner()
        Traceback (most recent call last):
        NotImplementedError: ProcessPoolTaskRunner is not implemented yet. Use ThreadPoolTaskRunner.
    """

    def __init__(self, max_workers: int | None = None) -> None:  # noqa: ARG002 - refused as a whole
        _later("ProcessPoolTaskRunner")


class DaskTaskRunner(ThreadPoolTaskRunner):
    """Will run tasks on Dask (not implemented yet).

    Example:
        >>> DaskTaskRunner()
        Traceback (most recent call last):
        NotImplementedError: DaskTaskRunner is not implemented yet. Use ThreadPoolTaskRunner.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        _later("DaskTaskRunner")


class RayTaskRunner(ThreadPoolTaskRunner):
    """Will run tasks on Ray (not implemented yet).

    Example:
        >>> RayTaskRunner()
        Traceback (most recent call last):
        NotImplementedError: RayTaskRunner is not implemented yet. Use ThreadPoolTaskRunner.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        _later("RayTaskRunner")


class BackgroundTaskRunner(ThreadPoolTaskRunner):
    """Will hand tasks to a task worker (not implemented yet).

    Example:
        >>> BackgroundTaskRunner()
        Traceback (most recent call last):
        NotImplementedError: BackgroundTaskRunner is not implemented yet. Use ThreadPoolTaskRunner.
    """

    def __init__(self, *_: Any, **__: Any) -> None:
        _later("BackgroundTaskRunner")
