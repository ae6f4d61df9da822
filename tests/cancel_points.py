"""Cancelling a flow at each step of its event loop, one after the other, until it ends before the cancellation comes.

A step is one turn of any task, or one callback, of the loop: every moment at which a cancellation can arrive. Those
of trio are counted by an instrument, those of asyncio by a loop that counts what it calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import anyio
import trio

from callsheet.flow_runs import cancel_flow_run

PATIENCE = 30.0  # seconds until a flow counts as hung


class Steps:
    """Counts the steps of a loop, and does something after the one that is wanted."""

    def __init__(self) -> None:
        self._left = 0
        self._act: Callable[[], object] = lambda: None
        self.acted = False

    def arm(self, number: int, act: Callable[[], object]) -> None:
        """Do something after so many steps from now."""
        self._left, self._act, self.acted = number, act, False

    def disarm(self) -> None:
        self._left = 0

    def tick(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                self.acted = True
                self._act()


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop of asyncio that counts what it calls."""

    steps: Steps

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon(self._counted, callback, args, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon_threadsafe(self._counted, callback, args, context=context)

    def _counted(self, callback: Any, args: Any) -> None:
        try:
            callback(*args)
        finally:
            self.steps.tick()


class CountingInstrument(trio.abc.Instrument):
    """Counts the steps of all tasks of a trio run."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self._steps.tick()


def run_counted(backend: str, main: Callable[[Steps], Awaitable[None]]) -> None:
    """Run an async function on a loop whose steps are counted."""
    steps = Steps()

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = CountingLoop()
        loop.steps = steps
        return loop

    options = {"loop_factory": new_loop} if backend == "asyncio" else {"instruments": [CountingInstrument(steps)]}
    anyio.run(main, steps, backend=backend, backend_options=options)


class Caller:
    """Calls a flow in a task of its own that can be cancelled in several ways.

    Args:
        flow: without parameters.
        way: ``scope``: the scope around the call. ``task``: its task, by asyncio. ``order``: `cancel_flow_run`.

    Attributes:
        given: what the flow gave: nothing, or a state.
        left: whether the call was left because it was cancelled.
    """

    def __init__(self, flow: Any, way: str) -> None:
        self._flow = flow
        self._way = way
        self._scope = anyio.CancelScope()
        self._task: asyncio.Task[None] | None = None
        self._ordered = anyio.Event()
        self.given: list[Any] = []
        self.left = False

    def cancel(self) -> None:
        """Cancel the call."""
        if self._way == "order":
            self._ordered.set()
        elif self._task is not None:
            self._task.cancel()
        else:
            self._scope.cancel()

    async def call(self) -> None:
        """Call the flow, and wait until that is over."""
        if self._way == "task":
            await self._in_task()
        elif self._way == "scope":
            await self._in_scope()
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(self._order)
                await self._in_scope()
                self._ordered.set()

    async def _in_scope(self) -> None:
        with self._scope:
            self.given.append(await self._flow(return_state=True))
        self.left = self._scope.cancelled_caught

    async def _in_task(self) -> None:
        async def call() -> None:
            self.given.append(await self._flow(return_state=True))

        self._task = asyncio.create_task(call())
        await asyncio.wait([self._task])
        self.left = self._task.cancelled()
        if not self.left:
            self._task.result()

    async def _order(self) -> None:
        await self._ordered.wait()
        if ids:
            await cancel_flow_run(ids[0])


ids: list[str] = []
"""The run that can be cancelled by order: its flow notes its id here."""


async def cancelled_after(steps: Steps, number: int, flow: Any, way: str) -> tuple[bool, dict[UUID, str]]:
    """Call a flow, and cancel the call after so many steps.

    Args:
        steps: of the running loop.
        number: how many.
        flow: without parameters, ending as Completed.
        way: of cancelling.

    Returns:
        Whether the cancellation came before the end, and what the caller was told: the id of its run and its state.
    """
    before = _tasks()
    ids.clear()
    caller = Caller(flow, way)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            steps.arm(number, caller.cancel)
            group.start_soon(caller.call)
        steps.disarm()
        while _tasks() - before:
            await anyio.sleep(0.0001)
    here = f"{flow.fn.__name__}, step {number}: the flow gave {caller.given}, the call was left: {caller.left}"
    assert caller.left is not bool(caller.given), here
    told = {state.state_details.flow_run_id: state.type.value for state in caller.given}
    assert set(told.values()) <= ({"COMPLETED", "CANCELLED"} if way == "order" else {"COMPLETED"}), here
    return steps.acted, told


def _tasks() -> set[int]:
    return {info.id for info in anyio.get_running_tasks()}
