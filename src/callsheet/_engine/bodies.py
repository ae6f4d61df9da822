"""Calling the user's function: in the caller's own frame, under a deadline, or on a thread of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast

from callsheet._kernel import alarms
from callsheet._kernel.critical import critical
from callsheet._kernel.host import correct_library
from callsheet._kernel.scopes import DEADLINE, Interrupted, RunScope
from callsheet._kernel.signals import Once
from callsheet._kernel.spawning import threads

if TYPE_CHECKING:
    from callsheet._engine.run import Run
    from callsheet._kernel.ports import Port


def used_up(value: Any) -> Any:
    """Give the list of what a generator yields, and every other value as it is."""
    return list(cast("Iterator[Any]", value)) if type(value) is GeneratorType else value


async def call_sync(run: Run, port: Port, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a sync body under the run's deadline. A generator that it returns is used up into a list.

    Without a deadline it runs in the calling thread, whatever that is. With one, an alarm interrupts it in the
    main thread; elsewhere it runs on a thread of ours, so that the run ends at its deadline whatever the body does.

    Raises:
        Interrupted: The deadline passed, or the run was cancelled.
    """
    timeout: float | None = run.definition.timeout_seconds
    scope = run.scope
    if timeout is None:
        value = critical.lift(fn, *args, **kwargs)
        if type(value) is GeneratorType:
            value = critical.lift(used_up, value)
    elif alarms.usable():
        value = _under_alarm(scope, timeout, fn, args, kwargs)
    else:
        value = await _on_worker(run, port, timeout, fn, args, kwargs)
    if scope.reason is not None:
        raise Interrupted
    return value


def _under_alarm(
    scope: RunScope, timeout: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    def strike() -> BaseException:
        scope.cancel(DEADLINE)
        return Interrupted()

    with alarms.deadline_alarm(timeout, strike, may_raise=critical.may_raise) as alarm:
        value = critical.lift(lambda: used_up(fn(*args, **kwargs)))
    if alarm.expired:  # where nothing could be raised any more
        scope.cancel(DEADLINE)
    return value


async def _on_worker(
    run: Run, port: Port, timeout: float, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    scope, done, body = run.scope, Once(), threads.body()
    box: list[Any] = []
    context = copy_context()
    correct_library(context, None)
    call = partial(context.run, lambda: used_up(fn(*args, **kwargs)))

    def job() -> None:
        try:
            box[:] = [body.call(call), None]
        except BaseException as error:
            box[:] = [None, error]
        done.set()
        if body.interrupted:
            run.logger().warning("A body that had to leave ended only now; what it returned is discarded.")
            box.clear()

    run.core.workers.run(job)
    try:
        if not await port.wait(done, timeout, scope):
            scope.cancel(DEADLINE)
            raise Interrupted
    except BaseException:
        body.interrupt(Interrupted)
        raise
    value, error = box
    if error is not None:
        try:
            raise error
        finally:
            del error, box
    return value
