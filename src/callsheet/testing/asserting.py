"""Assertions about what happened, whose failures show all of it."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import ndiff
from typing import Any, Protocol

from callsheet._model.kinds import StateType
from callsheet.testing.timeline import Happened

__all__ = ["HasHistory", "assert_ran_once", "assert_states"]


class HasHistory(Protocol):
    """What tells what happened: an engine for tests, or a run in virtual time."""

    @property
    def history(self) -> list[Happened]:
        """Every state that a run entered, in order."""
        ...


def assert_states(source: HasHistory | list[Happened], run: str, expected: Sequence[str | tuple[str, float]]) -> None:
    """Assert that a run went through exactly these states.

    Args:
        source: What tells what happened: a `MemoryEngine`, what `run_virtual` gave, or its history.
        run: The run, by the name that it has in the history: ``fetch-0``, or the flow's name.
        expected: Names of its states in order, such as ``AwaitingRetry``; where the time matters, pairs of a name and
            the seconds since the beginning.

    Raises:
        AssertionError: It went through others. The message shows both, side by side.

    Example:
        >>> from callsheet import flow
        >>> from callsheet.testing import run_virtual
        >>> @flow(retries=1, retry_delay_seconds=60)
        ... def unlucky():
        ...     raise ConnectionError
        >>> run = run_virtual(unlucky)
        >>> assert_states(run, "unlucky", ["Pending", "Running", "AwaitingRetry", ("Retrying", 60.0), ("Failed", 60.0)])
        >>> assert_states(run, "unlucky", ["Pending", "Running", "Completed"])
        Traceback (most recent call last):
        AssertionError: 'unlucky' went through other states (- expected, + entered):
          Pending
          Running
        - Completed
        + AwaitingRetry
        + Retrying
        + Failed
    """
    history = _history(source)
    entered = [happened for happened in history if happened.run == run]
    if not entered:
        known = ", ".join(dict.fromkeys(happened.run for happened in history)) or "none at all"
        raise AssertionError(f"There is no run {run!r} in this history; there are: {known}.")
    wanted = [_line(one) for one in expected]
    timed = [isinstance(one, tuple) for one in expected]
    found = [
        _line((one.state, one.elapsed) if index < len(timed) and timed[index] else one.state)
        for index, one in enumerate(entered)
    ]
    if found == wanted:
        return
    lines = "\n".join(line.rstrip() for line in ndiff(wanted, found) if not line.startswith("?"))
    raise AssertionError(f"{run!r} went through other states (- expected, + entered):\n{lines}")


def assert_ran_once(source: HasHistory | list[Happened], *definitions: Any) -> None:
    """Assert that the body of a task or flow was started exactly once, over all its runs and attempts.

    Args:
        source: What tells what happened: a `MemoryEngine`, what `run_virtual` gave, or its history.
        *definitions: Tasks and flows, or their names. Left out: every task that has a run.

    Raises:
        AssertionError: One was started more often, or never. The message tells when.

    Example:
        >>> from callsheet import flow, task
        >>> from callsheet.testing import run_virtual
        >>> @task
        ... def charge(): ...
        >>> @flow
        ... def order():
        ...     charge()
        ...     charge()
        >>> assert_ran_once(run_virtual(order), charge)
        Traceback (most recent call last):
        AssertionError: 'charge' was started 2 times, not once:
          0.0 s  charge-0  Running
          0.0 s  charge-1  Running
    """
    history = _history(source)
    names = [getattr(one, "name", one) for one in definitions]
    names = names or list(dict.fromkeys(one.definition for one in history if one.kind == "task"))
    for name in names:
        starts = [one for one in history if one.definition == name and one.type is StateType.RUNNING]
        if len(starts) != 1:
            said = "never started" if not starts else f"started {len(starts)} times, not once"
            lines = "".join(f"\n  {one}" for one in starts)
            raise AssertionError(f"{name!r} was {said}{':' if lines else '.'}{lines}")


def _history(source: HasHistory | list[Happened]) -> list[Happened]:
    return source if isinstance(source, list) else source.history


def _line(state: str | tuple[str, float]) -> str:
    return state if isinstance(state, str) else f"{state[0]} at {state[1]} s"
