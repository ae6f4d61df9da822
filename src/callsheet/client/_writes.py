"""What a client changes: states of runs, and runs that are made without being started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast
from uuid import UUID

from callsheet._clock import from_micros
from callsheet._engine import decode
from callsheet._engine.by_hand import ByHand
from callsheet._engine.decode import encode_details
from callsheet._engine.history import the_run
from callsheet._engine.set_state import Outcome, set_state
from callsheet._ids import state_id as derived_state_id
from callsheet._kernel.messages import SetState
from callsheet._model.kinds import Kind
from callsheet._model.outcomes import Pending
from callsheet._model.runs import TaskRun
from callsheet._model.states import State, StateCreate, StateDetails
from callsheet._rules.verdicts import Abort, Reject, Wait
from callsheet._store.protocol import Reader
from callsheet.client import _narrow
from callsheet.client._reads import Reads
from callsheet.client.schemas.responses import (
    OrchestrationResult,
    SetStateStatus,
    StateAbortDetails,
    StateAcceptDetails,
    StateRejectDetails,
    StateWaitDetails,
)
from callsheet.exceptions import ObjectNotFound


class Writes(Reads):
    """Changes to the history."""

    async def set_flow_run_state(
        self, flow_run_id: UUID | str, state: State[Any] | StateCreate, force: bool = False
    ) -> OrchestrationResult:
        """Propose a state of a flow run.

        A run that is alive in this process can be set to Cancelling or to a final state: its children and its body
        are cancelled, and who waits for it gets the state and the data given here. The time of the state is that
        of its acceptance.

        Args:
            flow_run_id: Id of the flow run.
            state: The state that it shall enter.
            force: Do not ask the rules of what may follow the state that it is in.

        Returns:
            The verdict, and the state that the run entered.

        Raises:
            ObjectNotFound: There is no such flow run.
            StoreError: The history cannot be written.

        Example:
            >>> from callsheet import flow, get_client
            >>> from callsheet.states import Cancelled
            >>> @flow
            ... def census() -> None: ...
            >>> state = census(return_state=True)
            >>> with get_client(sync_client=True) as client:
            ...     client.set_flow_run_state(state.state_details.flow_run_id, Cancelled()).details.reason
            'The run has ended as Completed.'
        """
        return await self._set_state(Kind.FLOW, flow_run_id, state, force)

    async def set_task_run_state(
        self, task_run_id: UUID | str, state: State[Any] | StateCreate, force: bool = False
    ) -> OrchestrationResult:
        """Propose a state of a task run, as `set_flow_run_state` does for a flow run.

        Args:
            task_run_id: Id of the task run.
            state: The state that it shall enter.
            force: Do not ask the rules of what may follow the state that it is in.

        Returns:
            The verdict, and the state that the run entered.

        Raises:
            ObjectNotFound: There is no such task run.
            StoreError: The history cannot be written.
        """
        return await self._set_state(Kind.TASK, task_run_id, state, force)

    async def _set_state(
        self, kind: Kind, run_id: UUID | str, state: State[Any] | StateCreate, force: bool
    ) -> OrchestrationResult:
        proposed = _as_state(state)
        order = SetState(
            run_id=_narrow.as_id(run_id),
            kind=kind,
            type=proposed.type,
            name=proposed.name,
            message=proposed.message,
            details=encode_details(proposed.state_details, proposed.data),
            data=proposed.data,
            force=force,
        )
        outcome = await set_state(self._session.place, order)
        return _result(outcome, proposed, await _details(self._session.place.reader, order), order.run_id)

    async def create_task_run(
        self,
        task: Any,
        flow_run_id: UUID | str | None,
        dynamic_key: str,
        id: UUID | None = None,
        name: str | None = None,
        extra_tags: Iterable[str] | None = None,
        state: State[Any] | StateCreate | None = None,
        task_inputs: Mapping[str, Iterable[Any]] | None = None,
    ) -> TaskRun:
        """Store a run of a task without running it.

        Args:
            task: The task.
            flow_run_id: The flow run that it belongs to, if any.
            dynamic_key: What tells it apart from other runs of the task in this flow run.
            id: Its id. Default: a new one.
            name: Its name. Default: the task's, in a flow run with the dynamic key.
            extra_tags: Tags besides the task's.
            state: Its first state. Default: Pending.
            task_inputs: The runs behind its parameters, as `TaskRunResult`.

        Returns:
            The task run.

        Raises:
            ObjectNotFound: There is no such flow run.
            ObjectAlreadyExists: A run has this id.
            ValueError: A run cannot begin in this state, or an input is no `TaskRunResult`.
        """
        by_hand = ByHand(
            task,
            first=Pending() if state is None else _as_state(state),
            dynamic_key=str(dynamic_key),
            flow_run_id=None if flow_run_id is None else _narrow.as_id(flow_run_id),
            id=id,
            name=name,
            extra_tags=tuple(extra_tags or ()),
            inputs={} if task_inputs is None else task_inputs,
        )
        return await by_hand.store(self._session.place)


async def _details(reader: Reader, order: SetState) -> StateDetails:
    """Give the details of a live run's states, also where its history is not kept."""
    try:
        return decode.state_details(await the_run(reader, order.kind, order.run_id))
    except ObjectNotFound:
        of_flow = order.kind is Kind.FLOW
        return StateDetails(flow_run_id=order.run_id) if of_flow else StateDetails(task_run_id=order.run_id)


def _result(outcome: Outcome, proposed: State[Any], own: StateDetails, run_id: UUID) -> OrchestrationResult:
    """Put a verdict into the words of the client."""
    verdict = outcome.verdict
    match verdict:
        case Abort():
            status, details = SetStateStatus.ABORT, StateAbortDetails(reason=verdict.reason)
            return OrchestrationResult(state=None, status=status, details=details)
        case Wait():
            seconds = 0 if verdict.until is None else max(0, round(verdict.until - outcome.at / 1e6))
            reason = "The run is paused." if verdict.gate else "The run is not due yet."
            waiting = StateWaitDetails(delay_seconds=seconds, reason=reason)
            return OrchestrationResult(state=None, status=SetStateStatus.WAIT, details=waiting)
        case Reject():
            status, details = SetStateStatus.REJECT, StateRejectDetails(reason=verdict.message)
            entered = State[Any](type=verdict.type, name=verdict.name, message=verdict.message)
        case _:
            status, details = SetStateStatus.ACCEPT, StateAcceptDetails()
            entered = proposed.model_copy()
    entered.id = outcome.state_id or derived_state_id(run_id, outcome.seq)
    entered.timestamp = entered.created = entered.updated = from_micros(outcome.at)
    entered.state_details.flow_run_id = own.flow_run_id
    entered.state_details.task_run_id = own.task_run_id
    return OrchestrationResult(state=entered, status=status, details=details)


def _as_state(state: State[Any] | StateCreate) -> State[Any]:
    if isinstance(state, State):
        return state
    if not isinstance(state, StateCreate):  # pyright: ignore[reportUnnecessaryIsInstance] - as users may pass anything
        raise TypeError(f"Expected a state, such as `Cancelled()`; got {state!r}.")
    return State(
        type=state.type,
        name=cast("str", state.name),  # without one, the type's own
        message=state.message,
        state_details=state.state_details,
        data=state.data,
    )
