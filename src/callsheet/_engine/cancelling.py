"""Cancelling runs: those that are alive are told to leave, and what nobody runs is ended where it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._engine import decode
from callsheet._engine.history import records_of, the_run
from callsheet._engine.places import Place
from callsheet._engine.run_inputs import place_here
from callsheet._ids import new_id
from callsheet._kernel.messages import NOT_ALIVE, SetState
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import RunFilter, RunRecord, SeqIs, StateEntered
from callsheet._model.states import State, StateDetails
from callsheet._store.protocol import Reader
from callsheet.exceptions import ObjectNotFound

_MESSAGE: Final = "The run was cancelled."
_PAGE: Final = 500


async def cancel_here(kind: Kind, run_id: UUID, message: str | None) -> State[Any]:
    """Cancel a run and everything below it; the history is the one that is current where this is called.

    Raises:
        ObjectNotFound: There is no such run.
        StoreError: The history cannot be written.
    """
    place = place_here()
    try:
        return await cancel(place, kind, run_id, message)
    finally:
        await place.reader.aclose()


async def cancel(place: Place, kind: Kind, run_id: UUID, message: str | None) -> State[Any]:
    """Cancel a run and everything below it, and give the state that it is in then.

    Raises:
        ObjectNotFound: There is no such run.
        StoreError: The history cannot be written.
    """
    order = SetState(run_id=run_id, kind=kind, type=StateType.CANCELLING, name="Cancelling", message=message)
    while True:
        answer = place.core.ask(order)
        await place.catch_up()
        try:
            record = await the_run(place.reader, kind, run_id)
        except ObjectNotFound:
            if answer is NOT_ALIVE:
                raise
            return State(type=StateType.CANCELLING, message=message, state_details=_details(kind, run_id))
        if answer is not NOT_ALIVE or _has_ended(record):
            return _shown(record)
        await _end_stored(place, record, message)


async def cancel_all(place: Place, where: RunFilter, message: str | None) -> list[State[Any]]:
    """Cancel every flow run that a filter lets through and that has not ended."""
    if where.has_ended:
        return []
    found = await _unfinished(place.reader, msgspec.structs.replace(where, has_ended=False))
    return [await cancel(place, Kind.FLOW, record.id, message) for record in found]


def _shown(record: RunRecord) -> State[Any]:
    details = decode.state_details(record)
    if record.state is None:
        raise AssertionError("a run that is cancelled has a state")
    return decode.state(record.state, details)


def _details(kind: Kind, run_id: UUID) -> StateDetails:
    return StateDetails(flow_run_id=run_id) if kind is Kind.FLOW else StateDetails(task_run_id=run_id)


def _has_ended(record: RunRecord) -> bool:
    return record.state is not None and record.state.type in TERMINAL_STATES


# ------------------------------------------------------------------------------------ what nobody runs


async def _end_stored(place: Place, record: RunRecord, message: str | None) -> None:
    """End a run that no process runs, and what is below it, children first; nothing, if somebody moved it meanwhile."""
    below = await _below(place.reader, record)
    now = place.core.clock.micros()
    own = _guard(record)
    entries = [_ended(one, now, "The run around this one was cancelled.", own) for one in below]
    entries.append(_ended(record, now, message or _MESSAGE))
    await place.apart(lambda: place.core.commit_guarded(*entries))


def _guard(record: RunRecord) -> SeqIs:
    return SeqIs(record.id, -1 if record.state is None else record.state.seq)


def _ended(record: RunRecord, now: int, message: str, *guards: SeqIs) -> StateEntered:
    current = record.state
    return StateEntered(
        run_id=record.id,
        seq=1 if current is None else current.seq + 1,
        type=StateType.CANCELLED,
        name="Cancelled",
        at=now if current is None else max(now, current.at),
        state_id=new_id(),  # never a derived one: two who commit the same number must not be taken for one
        message=message,
        attempt=record.attempt,
        guards=(*guards, _guard(record)),
    )


async def _below(reader: Reader, record: RunRecord) -> list[RunRecord]:
    """Give the unfinished runs below a run, children before their parents."""
    flows = [record.id] if record.kind is Kind.FLOW else [] if record.flow_run_id is None else [record.flow_run_id]
    found: dict[UUID, RunRecord] = {}
    while flows:
        inside = await _unfinished(reader, RunFilter(flow_run_ids=tuple(flows), has_ended=False))
        found.update((one.id, one) for one in inside)
        flows = [one.id for one in inside if one.kind is Kind.FLOW]
    if record.kind is Kind.TASK:
        found = _descendants(record.id, found.values())
    return [found[run_id] for run_id in sorted(found, reverse=True)]  # whoever is younger is not a parent


def _descendants(root: UUID, candidates: Iterable[RunRecord]) -> dict[UUID, RunRecord]:
    below: dict[UUID, RunRecord] = {}
    for one in sorted(candidates, key=lambda one: one.id):
        if one.parent_id == root or one.parent_id in below:
            below[one.id] = one
    return below


async def _unfinished(reader: Reader, where: RunFilter) -> Sequence[RunRecord]:
    found: list[RunRecord] = []
    cursor: bytes | None = None
    while True:
        page = await reader.read_runs(where, limit=_PAGE, cursor=cursor)
        found += records_of(page.items)
        cursor = page.cursor
        if cursor is None:
            return found
