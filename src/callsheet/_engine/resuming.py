"""Resuming a paused flow run, of this process or of another one on the same history.

The store decides: the resumption is committed on the condition that nobody has moved the run meanwhile. A run that
lives in this process is then told, and goes on at once; one that lives elsewhere finds it on record.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._engine import decode
from callsheet._engine.history import the_run
from callsheet._engine.letters import news
from callsheet._engine.past import RESUMING
from callsheet._engine.places import Place
from callsheet._engine.run_inputs import from_json, stored, to_json
from callsheet._engine.suspending import has_owner, is_known, until_it_has_left
from callsheet._ids import new_id
from callsheet._kernel.messages import Resumed
from callsheet._model.engines import RunDue
from callsheet._model.kinds import SUSPENDED, SUSPENDING, Kind, StateType
from callsheet._model.records import InputFree, RunRecord, SeqIs, StateEntered
from callsheet._model.states import State, StateDetails
from callsheet._rules.facts import Facts
from callsheet._rules.schemas import misfit
from callsheet._rules.table import judge
from callsheet._rules.verdicts import ACCEPT, Abort, Reject, Verdict

NOT_PAUSED: Final = Abort("Cannot resume a flow run that is not paused.")
_NOBODY_WAITS: Final = "No body waits where this run was paused: it was set to Paused from outside."
_NOBODY_KNOWS: Final = (
    "No engine has it, and no living one knows its flow. Open one that goes on with it: `Engine(flows=[...])`."
)
_STILL_LEAVING: Final = "Task runs that had begun when it was suspended have not ended yet. Try again later."
_PATIENCE: Final = 30.0  # seconds for what had begun


class Resumption(msgspec.Struct, frozen=True):
    """What became of an attempt to resume, with the state that the run is in, or would have entered."""

    verdict: Verdict
    reason: str | None
    state: State[Any] | None


async def resume(place: Place, run_id: UUID, run_input: Mapping[str, Any] | None) -> Resumption:
    """Resume a paused flow run.

    Raises:
        ObjectNotFound: There is no such flow run.
        StoreError: The history cannot be written.
    """
    while True:
        await place.catch_up()
        record = await the_run(place.reader, Kind.FLOW, run_id)
        if record.state is None or record.state.type is not StateType.PAUSED:
            return Resumption(NOT_PAUSED, NOT_PAUSED.reason, None)
        if record.state.name == SUSPENDING and has_owner(place.core, record):
            if await until_it_has_left(place, record, _PATIENCE):
                continue
            return Resumption(Abort(_STILL_LEAVING), _STILL_LEAVING, None)
        now = place.core.clock.micros()
        details = decode.state(record.state, StateDetails()).state_details
        verdict = _judged(record, details, now)
        if isinstance(verdict, Reject):
            return Resumption(verdict, verdict.message, State(type=verdict.type, name=verdict.name))
        anew = record.state.name in (SUSPENDED, SUSPENDING) or not await _is_owned(place, record)
        text, reason = await _checked(place, run_id, details, run_input)
        if reason is None and anew and not await place.apart(partial(is_known, place.core, record.definition.key)):
            reason = _NOBODY_KNOWS
        if reason is not None:
            paused = decode.state(record.state, decode.state_details(record))
            return Resumption(Reject(type=StateType.PAUSED, name=paused.name, message=reason), reason, paused)
        entered = await _commit(place, record, details, now, text, anew=anew)
        if entered is not None:
            return Resumption(ACCEPT, None, entered)


async def _is_owned(place: Place, record: RunRecord) -> bool:
    """Tell whether a paused run is in any process. A subflow's run has no owner of its own: the run around it has."""
    if place.core.orchestrator.pauses.waiting.get(record.id) is not None:
        return True
    root = record
    if record.parent_id is not None and record.root_id is not None:
        root = await the_run(place.reader, Kind.FLOW, record.root_id)
    return await place.apart(lambda: has_owner(place.core, root))


def _judged(record: RunRecord, details: StateDetails, now: int) -> Verdict:
    state = record.state
    facts = Facts(
        now=now / 1e6,
        pause_until=None if details.pause_timeout is None else details.pause_timeout.timestamp(),
        restart=True,
        foreign=True,
        run_id=record.id,
        seq=0 if state is None else state.seq,
    )
    return judge(
        Kind.FLOW,
        StateType.PAUSED,
        StateType.RUNNING,
        facts,
        current_name=None if state is None else state.name,
        proposed_name="Running",
    )


async def _checked(
    place: Place, run_id: UUID, details: StateDetails, run_input: Mapping[str, Any] | None
) -> tuple[str | None, str | None]:
    """Give the answer as JSON, and why it is refused."""
    if details.pause_key is None:
        return None, _NOBODY_WAITS
    keys = details.run_input_keyset
    if keys is None:
        return None, "The flow run does not wait for input." if run_input else None
    try:
        text = to_json(run_input or {})
    except Exception as error:
        return None, f"Run input validation error: {error}"
    found = await place.reader.read_inputs(run_id, key=keys["schema"])
    if not found:
        return None, "Run input schema not found."
    reason = misfit(from_json(text), from_json(found[0].value))
    pause = place.core.orchestrator.pauses.waiting.get(run_id)
    if reason is None and pause is not None and pause.check is not None:
        try:
            pause.check(text)  # alive here: by the type itself
        except ValueError as error:
            reason = str(error)
    return text, None if reason is None else f"Run input validation error: {reason}"


async def _commit(
    place: Place, record: RunRecord, details: StateDetails, now: int, text: str | None, *, anew: bool
) -> State[Any] | None:
    """Put the resumption on record, and tell the run; `None` if somebody moved it meanwhile.

    A run that is in no process waits to be taken up by any engine that knows its flow.
    """
    core, current = place.core, record.state
    if current is None:
        return None
    pause = core.orchestrator.pauses.waiting.get(record.id)
    entered = StateEntered(
        run_id=record.id,
        seq=current.seq + 1,
        type=StateType.SCHEDULED if anew else StateType.RUNNING,
        name=RESUMING if anew else "Running",
        details=decode.encode_details(StateDetails(scheduled_time=decode.from_micros(now))) if anew else None,
        at=max(now, current.at),
        state_id=new_id(),
        attempt=record.attempt,
        guards=(SeqIs(record.id, current.seq),),
    )
    entries: list[Any] = [entered, RunDue(record.id, now)] if anew else [entered]
    if pause is None and (letter := await news(place.reader, record, entered, text, *entered.guards)) is not None:
        entries.insert(0, letter)  # in front of the state, on whose number it depends
    if text is not None and details.run_input_keyset is not None:
        answer = stored(record.id, details.run_input_keyset["response"], text, at=now)
        # Kept only along with its resumption: alone it would be taken for the answer to the next question.
        guards = (SeqIs(record.id, entered.seq), InputFree(record.id, answer.key, answer.id))
        entries.append(msgspec.structs.replace(answer, guards=guards))
    if await place.apart(lambda: core.commit_guarded(*entries)) is not None:
        return None
    if anew:
        core.nudge()
    elif pause is not None:
        core.ask(Resumed(pause=pause, seq=entered.seq, at=entered.at, answer=text))
    return State(
        type=entered.type,
        name=entered.name,
        id=entered.state_id or new_id(),
        timestamp=decode.from_micros(entered.at),
        state_details=decode.state_details(record),
    )
