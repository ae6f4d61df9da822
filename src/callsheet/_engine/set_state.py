"""States that somebody who is not a run's owner wants it to enter: of runs that are alive here, and of stored ones."""

from __future__ import annotations

from uuid import UUID

import msgspec

from callsheet._engine import decode, letters
from callsheet._engine.cancelling import ends_below
from callsheet._engine.history import the_run
from callsheet._engine.places import Place
from callsheet._ids import new_id
from callsheet._kernel.messages import NOT_ALIVE, SetState
from callsheet._model.kinds import TERMINAL_STATES, StateType
from callsheet._model.records import RunRecord, SeqIs, StateEntered
from callsheet._model.states import StateDetails
from callsheet._rules.facts import Facts
from callsheet._rules.table import judge
from callsheet._rules.verdicts import AcceptIf, GoOn, Reject, Verdict


class Outcome(msgspec.Struct, frozen=True):
    """The verdict, and the state that the run entered because of it: its number, time (microseconds), and id."""

    verdict: Verdict
    seq: int
    at: int
    state_id: UUID | None = None  # `None`: derived from run and number


async def set_state(place: Place, order: SetState) -> Outcome:
    """Have a run enter a state, if the rules allow it.

    Raises:
        ObjectNotFound: There is no such run.
        StoreError: The history cannot be written.
    """
    while True:
        answer = place.core.ask(order)
        await place.catch_up()
        if answer is not NOT_ALIVE:
            return Outcome(answer.verdict, answer.seq, answer.at)
        record = await the_run(place.reader, order.kind, order.run_id)
        (ordered,) = await letters.order(place, [record], [order])
        if ordered is not None:
            return Outcome(ordered.verdict, ordered.seq, ordered.at)
        outcome = await _set_stored(place, record, order)
        if outcome is not None:
            return outcome


async def _set_stored(place: Place, record: RunRecord, order: SetState) -> Outcome | None:
    """Judge and commit a state of a run that is not alive; `None` if somebody moved it meanwhile."""
    core, current = place.core, record.state
    now = core.clock.micros()
    seq = 0 if current is None else current.seq
    verdict: Verdict = AcceptIf((SeqIs(record.id, seq),)) if order.force else _judge(record, order, now)
    if isinstance(verdict, GoOn) and current is not None:
        return Outcome(verdict, seq, current.at, current.id)
    if not isinstance(verdict, AcceptIf | Reject):
        return Outcome(verdict, seq, now)
    type, name, message = order.type, order.name, order.message
    if isinstance(verdict, Reject):
        type, name, message = verdict.type, verdict.name, verdict.message
    entry = StateEntered(
        run_id=record.id,
        seq=seq + 1,
        type=type,
        name=name,
        at=now if current is None else max(now, current.at),
        state_id=new_id(),  # never a derived one: two who commit the same number must not be taken for one
        message=message,
        details=order.details,
        attempt=record.attempt + (type is StateType.RUNNING),
        guards=(SeqIs(record.id, seq),),
    )
    entries = [entry] if type not in TERMINAL_STATES else [*await ends_below(place.reader, record, now), entry]
    if await place.apart(lambda: core.commit_guarded(*entries)) is not None:
        return None
    return Outcome(verdict, entry.seq, entry.at, entry.state_id)


def _judge(record: RunRecord, order: SetState, now: int) -> Verdict:
    current = record.state
    facts = Facts(
        now=now / 1e6,
        due_at=_due_at(record),
        attempts=record.attempt,
        foreign=True,
        run_id=record.id,
        seq=0 if current is None else current.seq,
    )
    return judge(
        record.kind,
        None if current is None else current.type,
        order.type,
        facts,
        current_name=None if current is None else current.name,
        proposed_name=order.name,
    )


def _due_at(record: RunRecord) -> float | None:
    """Give when a run that waits is due, in seconds since the epoch."""
    current = record.state
    if current is None or current.type is not StateType.SCHEDULED:
        return None
    scheduled = decode.state(current, StateDetails()).state_details.scheduled_time
    return None if scheduled is None else scheduled.timestamp()
