"""Futures of submitted runs, and waiting for several of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple, TypeVar

from callsheet._clock import monotonic
from callsheet._engine.futures import (
    ConcurrentTaskFuture,
    DistributedTaskFuture,
    TaskFuture,
    TaskFutureList,
    WrappedTaskFuture,
)
from callsheet._engine.waiting import wait_once
from callsheet._kernel.signals import Once
from callsheet.utilities.collections import replace

__all__ = [
    "ConcurrentTaskFuture",
    "DistributedTaskFuture",
    "DoneAndNotDoneFutures",
    "TaskFuture",
    "TaskFutureList",
    "WrappedTaskFuture",
    "as_completed",
    "resolve_futures_to_states",
    "wait",
]

R = TypeVar("R")


class DoneAndNotDoneFutures(NamedTuple):
    """What `wait` gives: the futures whose runs have ended, and the others."""

    done: set[TaskFuture[Any]]
    not_done: set[TaskFuture[Any]]


def wait(futures: Iterable[TaskFuture[Any]], timeout: float | None = None) -> DoneAndNotDoneFutures:
    """Wait until all runs have ended, or the time is over.

    Args:
        futures: Futures.
        timeout: Seconds to wait at most, for all together.

    Returns:
        Two sets: `done` and `not_done`.

    Raises:
        TypeError: Something is no future.

    Example:
        >>> from callsheet import flow, task
        >>> @task
        ... def one() -> int:
        ...     return 1
        >>> @flow
        ... def count() -> int:
        ...     return len(wait([one.submit(), one.submit()]).done)
        >>> count()
        2
    """
    waiting = _only_futures(futures)
    deadline = None if timeout is None else monotonic() + timeout
    done: set[TaskFuture[Any]] = set()
    for future in list(waiting):
        once = future.when_done()
        if wait_once(once, None if deadline is None else max(0.0, deadline - monotonic())):
            future.wait(0)
            done.add(future)
    return DoneAndNotDoneFutures(done, waiting - done)


def as_completed(
    futures: Iterable[TaskFuture[R]], timeout: float | None = None
) -> Generator[TaskFuture[R], None, None]:
    """Give futures in the order in which their runs end.

    Args:
        futures: Futures; each is given once.
        timeout: Seconds to wait at most, for all together.

    Yields:
        Futures whose runs have ended.

    Raises:
        TimeoutError: Some run had not ended in time; the message counts them.
        TypeError: Something is no future.

    Example:
        >>> from callsheet import flow, task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow
        ... def my_flow() -> list[int]:
        ...     return sorted(future.result() for future in as_completed(double.map([1, 2, 3])))
        >>> my_flow()
        [2, 4, 6]
    """
    all_of_them = _only_futures(futures)
    deadline = None if timeout is None else monotonic() + timeout
    arrived: deque[TaskFuture[R]] = deque()
    lock = threading.Lock()
    bell = [Once()]

    def note(future: TaskFuture[R]) -> None:
        with lock:
            arrived.append(future)
            ring = bell[0]
        ring.set()

    for future in all_of_them:
        future.add_done_callback(note)
    for left in range(len(all_of_them), 0, -1):
        with lock:
            if not arrived:
                bell[0] = Once()
            ring = bell[0]
        if not arrived and not wait_once(ring, None if deadline is None else max(0.0, deadline - monotonic())):
            raise TimeoutError(f"{left} (of {len(all_of_them)}) futures unfinished")
        future = arrived.popleft()
        future.wait(0)
        yield future


def _only_futures(given: Iterable[TaskFuture[R]]) -> set[TaskFuture[R]]:
    futures = set(given)
    for future in futures:
        if not isinstance(future, TaskFuture):  # pyright: ignore[reportUnnecessaryIsInstance] - as users may pass anything
            raise TypeError(
                f"Expected futures, as `submit` and `map` give them; got {type(future).__name__} among them."
            )
    return futures


def resolve_futures_to_states(expr: Any) -> Any:
    """Give a value with the final states of futures in their place, waiting for each.

    Args:
        expr: A future, or a nest of lists, tuples, sets, dicts and dataclasses; keys of dicts count too.

    Returns:
        The value, rebuilt where it holds futures. What is inside of `quote` stays as it is.

    Example:
        >>> from callsheet import flow, task
        >>> @task
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> @flow
        ... def my_flow() -> str:
        ...     return resolve_futures_to_states({"first": double.submit(1)})["first"].name
        >>> my_flow()
        'Completed'
    """

    def final_state(future: TaskFuture[Any]) -> Any:
        future.wait()
        return future.state

    return replace(expr, (TaskFuture,), final_state)
