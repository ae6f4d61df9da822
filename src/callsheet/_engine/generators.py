"""Runs of generators, driven step by step.

Scope, context and driver are entered and left within each step: none may be held across a `yield`, where the
caller's own scopes and contexts lie. So a deadline is a point in time that each step is given the rest of.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from callsheet._clock import monotonic
from callsheet._engine.leaving import Final, only_theirs
from callsheet._engine.run import Run
from callsheet._kernel import alarms
from callsheet._kernel.critical import critical
from callsheet._kernel.driver import driven
from callsheet._kernel.host import here
from callsheet._kernel.messages import Orphan
from callsheet._kernel.ports import LoopPort, step, sync_port
from callsheet._kernel.scopes import DEADLINE, Interrupted
from callsheet.context import current_run, current_transaction
from callsheet.logging.prints import patch_print

if TYPE_CHECKING:
    from callsheet._kernel.ports import Port

Make = Callable[[], Run]
_OUTER = object()


class _Stepping:
    """One generator run between its first step and its last."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.deadline: float | None = None
        self._transaction: Any = _OUTER  # the active one between two steps
        self._flow: Any = None if run.cell.flow is None else run.cell.flow.actor

    async def begin(self, port: Port) -> Final | None:
        token = current_run.set(self.run)
        try:
            beginning = self.run.begin(port)
            return None if beginning is None else await beginning
        finally:
            current_run.reset(token)

    async def start(self, port: Port) -> Any:
        """Call the generator function for an attempt, in a transaction where a task has one."""
        run = self.run
        with self.surroundings():
            await run.open_between_steps(port)
        definition = run.definition
        timeout = definition.timeout_seconds
        self.deadline = None if timeout is None else monotonic() + timeout
        args, kwargs = definition._binder.call_arguments(run.parameters)
        run.begin_calls()
        return definition.fn(*args, **kwargs)

    def rest(self) -> float | None:
        """Give the seconds that are left for a step.

        Raises:
            Interrupted: There are none, or the run must leave.
        """
        self.run.scope.check()
        if self.deadline is None:
            return None
        rest = self.deadline - monotonic()
        if rest <= 0:
            self.run.scope.cancel(DEADLINE)
            raise Interrupted
        return rest

    def surroundings(self) -> ExitStack:
        """Enter what is current inside of a step, and only there."""
        stack = ExitStack()
        stack.callback(current_run.reset, current_run.set(self.run))
        stack.callback(self._change_transaction, current_transaction.get())
        if self._transaction is not _OUTER:
            current_transaction.set(self._transaction)
        if self.run.log_prints:
            stack.enter_context(patch_print())
        return stack

    def _change_transaction(self, outer: Any) -> None:
        """Remember the transaction that the body has left active, and make the caller's active again."""
        self._transaction = current_transaction.get()
        current_transaction.set(outer)

    def gave(self, item: Any) -> Any:
        """Remember where an item came from."""
        if self._flow is not None:
            self._flow.known.remember(item, self.run.cell.id)
        return item

    async def over(self, port: Port, value: Any, error: BaseException | None) -> Final | None:
        """Judge an attempt that is over; give the run's end, or `None` where another attempt begins."""
        token = current_run.set(self.run)
        try:
            await self.run.close_between_steps(port, value, error)
            judged = self.run.judge_attempt(port, value, error)
            return judged if judged is None or isinstance(judged, Final) else await judged
        finally:
            current_run.reset(token)

    async def end(self, port: Port, final: Final) -> Final:
        token = current_run.set(self.run)
        try:
            if (rest := self.run.end(port, final)) is not None:
                await rest
            return self.run.outcome()
        finally:
            current_run.reset(token)
            self.run.finish()

    async def undo(self, port: Port) -> None:
        """Roll back what an attempt that nobody will go on with has done in transactions."""
        await self.run.close_between_steps(port, None, GeneratorExit())

    def abandon(self) -> None:
        """Say that nobody will go on. Only a note: this may be the collector's call, in the middle of anything."""
        self.run.core.orchestrator.mailbox.leave(Orphan(self.run.cell))


def call(make: Make, definition: Any, return_state: bool) -> Any:
    """Give the generator that a call of a generator flow or task gives. Its run begins with the first step."""
    if definition.isasync:
        return _async(make, definition, return_state)
    return _sync(make, definition, return_state)


def _refuse_state(definition: Any, return_state: bool) -> None:
    if return_state:
        kind = "task" if hasattr(definition, "task_key") else "flow"
        raise ValueError(f"The return_type for a generator {kind} must be 'result'")


def _sync(make: Make, definition: Any, return_state: bool) -> Generator[Any, Any, Any]:
    _refuse_state(definition, return_state)
    port = sync_port()
    stepping = _Stepping(make())
    final = step(stepping.begin(port))
    value: Any = None
    while final is None:
        try:
            value = yield from _sync_attempt(stepping, step(stepping.start(port)))
        except GeneratorExit:
            stepping.abandon()
            step(stepping.undo(port))
            raise
        except BaseException as error:
            final = step(stepping.over(port, None, only_theirs(error)))
        else:
            final = step(stepping.over(port, value, None))
    return _result(stepping, step(stepping.end(port, final)))


def _sync_attempt(stepping: _Stepping, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    call, argument = generator.send, None
    while True:
        try:
            item = _sync_step(stepping, call, argument)
        except StopIteration as stop:
            return stop.value
        try:
            call, argument = generator.send, (yield stepping.gave(item))
        except GeneratorExit:
            generator.close()
            raise
        except BaseException as thrown:
            call, argument = generator.throw, thrown


def _sync_step(stepping: _Stepping, call: Callable[[Any], Any], argument: Any) -> Any:
    rest = stepping.rest()
    with stepping.surroundings():
        if rest is None or not alarms.usable():
            return call(argument)

        def strike() -> BaseException:
            stepping.run.scope.cancel(DEADLINE)
            return Interrupted()

        with alarms.deadline_alarm(rest, strike), critical:
            return critical.lift(call, argument)


async def _async(make: Make, definition: Any, return_state: bool) -> AsyncGenerator[Any, Any]:
    _refuse_state(definition, return_state)
    port = LoopPort(here())
    stepping = _Stepping(make())
    final = await driven(stepping.begin(port))
    while final is None:
        try:
            generator = await driven(stepping.start(port))
        except BaseException as error:
            final = await driven(stepping.over(port, None, only_theirs(error)))
            continue
        call, argument = generator.asend, None
        while True:
            try:
                item = await driven(_async_step(stepping, port, call, argument))
            except StopAsyncIteration:
                final = await driven(stepping.over(port, None, None))
                break
            except BaseException as error:
                final = await driven(stepping.over(port, None, only_theirs(error)))
                break
            try:
                call, argument = generator.asend, (yield stepping.gave(item))
            except GeneratorExit:
                stepping.abandon()
                await driven(_async_close(stepping, generator))
                await driven(stepping.undo(port))
                raise
            except BaseException as thrown:
                call, argument = generator.athrow, thrown
    _result(stepping, await driven(stepping.end(port, final)))


async def _async_step(stepping: _Stepping, port: LoopPort, call: Callable[[Any], Any], argument: Any) -> Any:
    rest = stepping.rest()
    with stepping.surroundings():
        return await port.call_async(call, (argument,), {}, stepping.run.scope, rest)


async def _async_close(stepping: _Stepping, generator: AsyncGenerator[Any, Any]) -> None:
    with stepping.surroundings():
        await generator.aclose()


def _result(stepping: _Stepping, final: Final) -> Any:
    from callsheet._engine.invoke import outcome

    run = stepping.run
    if final.reraise is not None:
        raise final.reraise
    try:
        return outcome(run, return_state=False)
    finally:
        del run, stepping
