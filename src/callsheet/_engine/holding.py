"""Pausing a flow run from outside: the order goes to the engine that runs it, which closes the gate for its tasks."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from callsheet._engine import decode, letters
from callsheet._engine.decode import encode_details
from callsheet._engine.history import the_run
from callsheet._engine.places import Place
from callsheet._engine.resuming import Resumption
from callsheet._ids import new_id, state_id
from callsheet._kernel.messages import NOT_ALIVE, Hold
from callsheet._model.kinds import Kind, StateType
from callsheet._model.states import State, StateDetails
from callsheet._rules.verdicts import Abort

_NOBODY_RUNS_IT: Final = "No process runs this flow run now."


async def hold(place: Place, run_id: UUID, message: str | None) -> Resumption:
    """Pause a flow run that runs, here or elsewhere.

    Raises:
        ObjectNotFound: There is no such flow run.
        StoreError: The history cannot be read or written.
    """
    key = f"order-{new_id().hex}"  # no body pauses under it
    order = Hold(run_id=run_id, key=key, message=message, details=encode_details(StateDetails(pause_key=key)))
    answer = place.core.ask(order)
    await place.catch_up()
    record = await the_run(place.reader, Kind.FLOW, run_id)
    if answer is NOT_ALIVE:
        ordered = await letters.order_one(place, record, order)
        if ordered is None:
            return Resumption(Abort(_NOBODY_RUNS_IT), _NOBODY_RUNS_IT, None)
        answer = ordered
    if isinstance(answer.verdict, Abort):
        return Resumption(answer.verdict, answer.verdict.reason, None)
    details = decode.state_details(record)
    details.pause_key = key
    entered = State[object](
        type=StateType.PAUSED,
        name="Paused",
        id=state_id(run_id, answer.seq),
        message=message,
        timestamp=decode.from_micros(answer.at),
        state_details=details,
    )
    return Resumption(answer.verdict, None, entered)
