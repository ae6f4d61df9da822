"""Running flows in virtual time: an hour's delay takes microseconds, and every time stamp is exact."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import partial, wraps
from typing import Any, Generic, ParamSpec, TypeVar, cast

import anyio

from callsheet._clock import SYSTEM_CLOCK, virtual_clock
from callsheet._engine import ambient
from callsheet._kernel.driver import drive
from callsheet._kernel.host import current_host
from callsheet._kernel.virtual import VirtualClock
from callsheet._kernel.virtual_loops import loop_options, virtual_time
from callsheet._model.states import State
from callsheet.context import current_run
from callsheet.exceptions import VirtualTimeError
from callsheet.flows import Flow
from callsheet.tasks import Task
from callsheet.testing.timeline import Happened, OrderedStore, StoredEngine

__all__ = ["VirtualRun", "VirtualTime", "run_virtual"]

P = ParamSpec("P")
R = TypeVar("R")


class VirtualRun(Generic[R]):
    """What a run in virtual time gave.

    Attributes:
        state: The final state of the flow or task; `None` where a plain function was run.
        elapsed: How long it took, in virtual seconds, exact to the microsecond.
        history: Every state that a run entered, in the order in which they were committed.
    """

    def __init__(self, value: Any, state: State[R] | None, elapsed: float, history: list[Happened]) -> None:
        self._value = value
        self.state = state
        self.elapsed = elapsed
        self.history = history

    @property
    def result(self) -> R:
        """What the run returned.

        Raises:
            BaseException: What the run raised, if it did not complete.
        """
        if self.state is not None and not self.state.is_completed() and isinstance(self._value, BaseException):
            raise self._value
        return self._value

    def __repr__(self) -> str:
        """Show how it ended, and when."""
        ended = "" if self.state is None else f" {self.state.name}"
        return f"<VirtualRun{ended} after {self.elapsed} s>"


def run_virtual(flow: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> VirtualRun[Any]:
    """Run a flow in virtual time, on an event loop and with a history of its own.

    Where nothing is left to do, time jumps to the next moment for which anything waits: retry delays, pauses, sleeps,
    timeouts and `anyio.sleep` take no time, and every time stamp is exact. While anything runs on a thread (tasks of
    plain functions, `asyncio.to_thread`, anyio's and trio's worker threads, executors) or in a subprocess, time stands
    still, and so it does while plain code runs on the event loop.

    What the system tells (`time.time`, `datetime.now`) stays as it is: `runtime` and time stamps of states tell virtual
    time. Threads that your program starts by itself are not known, and other processes live in real time. Sockets raise.

    Args:
        flow: The flow; also a task, or a plain asynchronous function that calls some.
        *args: Its arguments.
        **kwargs: Its arguments, and ``backend``: the event loop, ``asyncio`` (the default) or ``trio``.

    Returns:
        How it ended. A flow that failed is no error here: `.result` raises what it raised.

    Raises:
        VirtualTimeError: An event loop or a run lives here already; or the backend is none that can jump, such as uvloop. A run
            that opens a socket fails with it.
        TypeError: It cannot be run: a plain function that is neither a flow nor a task, or a generator.

    Example:
        >>> from callsheet import flow
        >>> @flow(retries=5, retry_delay_seconds=3600)
        ... def unlucky():
        ...     raise ConnectionError("nobody there")
        >>> run = run_virtual(unlucky)
        >>> run.elapsed, run.state.name
        (18000.0, 'Failed')
        >>> print(run.history[-1])
        18000.0 s  unlucky  Failed: Flow run encountered an exception: ConnectionError: nobody there
    """
    backend = cast("str", kwargs.pop("backend", "asyncio"))
    if current_host() is not None:
        raise VirtualTimeError(
            "`run_virtual` begins an event loop of its own, and one runs here already. Call it in a plain function, or "
            "use the fixture `virtual_clock`."
        )
    if current_run.get() is not None or virtual_clock() is not None:
        raise VirtualTimeError(
            "`run_virtual` was called by a flow or task, or in virtual time. Call it outside of them: what they call lives in "
            "the time that is theirs."
        )
    clock = VirtualClock(SYSTEM_CLOCK.micros())
    name, options = loop_options(backend, clock)
    return anyio.run(partial(_run, clock, flow, args, kwargs), backend=name, backend_options=options)


class VirtualTime:
    """The time of one test; the pytest fixture `virtual_clock`.

    An asynchronous test that asks for it lives in virtual time from its first line to its last, with anyio's plugin,
    pytest-asyncio and pytest-trio. (Asynchronous fixtures do not.) In a plain test it runs flows in virtual time.
    """

    def __init__(self) -> None:
        self._clock = VirtualClock(SYSTEM_CLOCK.micros())
        self._began = self._clock.micros()
        self.clock: VirtualClock | None = None  # where the test itself lives in it

    @property
    def now(self) -> datetime:
        """The time of day, in UTC."""
        return self._clock.now()

    @property
    def elapsed(self) -> float:
        """Seconds since the test began."""
        return (self._clock.micros() - self._began) / 1e6

    def run(self, flow: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> VirtualRun[Any]:
        """Run a flow as `run_virtual` does; for plain tests.

        Args:
            flow: The flow.
            *args: As for `run_virtual`.
            **kwargs: As for `run_virtual`.

        Returns:
            How it ended.

        Raises:
            VirtualTimeError: An event loop runs here: in an asynchronous test, await the flow.
        """
        return run_virtual(flow, *args, **kwargs)

    def around(self, test: Callable[..., Any]) -> Callable[..., Any]:
        """Give an asynchronous test that lives in this time, with an engine in memory where none is open.

        Args:
            test: The function of the test.

        Returns:
            Another one of the same signature.
        """
        self.clock = clock = self._clock

        @wraps(test)
        async def virtual(*args: Any, **kwargs: Any) -> Any:
            with virtual_time(clock):
                if ambient.is_explicit():  # the fixture's; one of other times says so when it is used
                    return await drive(test(*args, **kwargs))
                async with StoredEngine(OrderedStore()):
                    return await drive(test(*args, **kwargs))

        return virtual


async def _run(clock: VirtualClock, flow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> VirtualRun[Any]:
    store = OrderedStore()
    with virtual_time(clock):
        began = clock.micros()
        async with StoredEngine(store):
            value, state = await drive(_call(flow, args, kwargs))
            elapsed = (clock.micros() - began) / 1e6
        return VirtualRun(value, state, elapsed, store.happened(began))


async def _call(flow: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, State[Any] | None]:
    if not isinstance(flow, (Flow, Task)):
        if not inspect.iscoroutinefunction(flow):
            raise TypeError(f"`run_virtual` runs flows, tasks and asynchronous functions, and not {flow!r}.")
        return await flow(*args, **kwargs), None
    definition = cast("Any", flow)
    if definition.isgenerator:
        raise TypeError(f"{flow!r} is a generator. Run an asynchronous function that iterates over it.")
    state = definition(*args, return_state=True, **kwargs)
    if inspect.isawaitable(state):
        state = await state
    return await state.aresult(raise_on_failure=False), state
