"""How an attempt ended, and what is done to an exception on the way."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from callsheet._kernel.scopes import SIGNAL, Interrupted
from callsheet._model.kept import Kept
from callsheet._model.kinds import StateType
from callsheet._model.outcomes import state_of_value
from callsheet._model.states import State
from callsheet.exceptions import Pause

if TYPE_CHECKING:
    from callsheet._kernel.ports import Port
    from callsheet._kernel.signals import Once


_LONG = 2.0  # seconds after which somebody who waits wants to know for what


class Final(msgspec.Struct, frozen=True, eq=False):
    """How an attempt ended. `reraise` is set where the caller's surroundings must hear of it."""

    type: StateType
    name: str
    message: str | None = None
    data: Any = None
    made: State[Any] | None = None  # the state that the body returned, which stays the same object
    reraise: BaseException | None = None
    retriable: bool = True


Judged = Final | Awaitable[Final | None] | None
"""How a run ends after an attempt, `None` where another begins, or what gives either when it is awaited."""


def final_of_value(run: Any, value: Any) -> Final:
    """Give how an attempt ended whose body returned a value.

    Args:
        run: The run, which takes over a record that the body wrote by itself.
        value: What it returned; a record stands for its value.
    """
    state = state_of_value(value)
    data = state.data
    if isinstance(data, Kept):
        if not run.persists:  # else the run writes one of its own, where others look for it
            run.kept = data
        data = data.result
    return Final(state.type, state.name, state.message, data, state if state is value else None)


class NotRecoverable(Exception):
    """Raised where a run cannot be taken up again: what its body needs cannot be had back."""


def is_heard(error: BaseException | None) -> bool:
    """Tell whether what left a suspended flow run's body concerns others, and is not just the signal to leave."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(is_heard(one) for one in group.exceptions)
    return error is not None and not isinstance(error, (Exception, Pause, Interrupted))


def only_theirs(error: BaseException) -> BaseException:
    """Take the engine's own frames off the beginning of a traceback.

    Users see where their code failed. And the frames hold the run, which holds the error: with them every failed
    run would be a cycle for the garbage collector.
    """
    trace = caught = error.__traceback__
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(_OURS):
        if trace is not caught:  # there it is executing
            try:
                trace.tb_frame.clear()  # the user's frame leads back to it all the same
            except RuntimeError:
                pass
        trace = trace.tb_next
    error.__traceback__ = trace
    return error


def is_interruption(error: BaseException) -> bool:
    """Tell whether an error is our own signal to leave, from one branch of a body or from several; others may have failed."""
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, Exception):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(isinstance(one, Exception) or is_interruption(one) for one in group.exceptions)
    return isinstance(error, Interrupted)


_OURS = ("callsheet._engine.", "callsheet._kernel.")


def as_raised(error: Exception) -> Exception:
    """Give a sync body's `StopIteration` back: on its way through our coroutines Python has replaced it."""
    cause = error.__cause__
    if type(cause) is StopIteration and error.args == ("coroutine raised StopIteration",):
        return cause
    return error


def outer_is_ending(run: Any) -> bool:
    """Tell whether a cancellation came from a run further out; else it came from the user's own surroundings."""
    cell = run.cell.parent
    while cell is not None:
        if cell.delivered == "suspend":
            return True
        if cell.actor is not None and cell.actor.scope.is_ending:
            return True
        cell = cell.parent
    return False


def if_outer(run: Any, error: BaseException) -> BaseException | None:
    """Say whether an interruption concerns runs further out as well."""
    parent = run.cell.parent
    return error if parent is not None and parent.actor is not None and parent.actor.scope.reason is not None else None


async def wait_for_cancelled(run: Any, childless: Once, port: Port) -> None:
    """Wait until the cancelled children of a flow run have ended, for as long as is allowed; say so where it takes long.

    Whoever has pressed Ctrl-C sees else nothing of why the prompt does not come back.
    """
    grace: float = run.core.cancel_grace
    if await port.shielded_wait(childless, min(grace, _LONG)):
        return
    if grace > _LONG:
        run.logger().warning(
            "Waiting for cancelled child runs that cannot be interrupted where they are, for %g seconds at most. "
            "(After Ctrl-C, another one does not wait.)",
            grace,
        )
        if await port.shielded_wait(childless, grace - _LONG):
            return
    run.logger().warning("Child runs did not end within %s seconds.", grace)


def is_terminated(run: Any) -> bool:
    """Tell whether the process was asked to end: that reaches the outermost run."""
    cell = run.cell
    while cell.parent is not None:
        cell = cell.parent
    return cell.actor is not None and cell.actor.scope.reason == SIGNAL
