"""Cancelling runs: those that are alive are told to leave, and what nobody runs is ended where it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._engine import decode, letters
from callsheet._engine.history import records_of, the_run
from callsheet._engine.hooks import hooks_of
from callsheet._engine.hooks_apart import call_hooks, call_hooks_here
from callsheet._engine.known_flows import imported
from callsheet._engine.places import Place
from callsheet._engine.run_inputs import place_here
from callsheet._ids import new_id
from callsheet._kernel.host import current_host
from callsheet._kernel.messages import NOT_ALIVE, SetState
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import RunFilter, RunRecord, SeqIs, StateEntered
from callsheet._model.states import State, StateDetails
from callsheet._store.protocol import Reader

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
        return (await _cancel(place, kind, [run_id], message))[0]
    finally:
        await place.reader.aclose()


async def cancel_all(place: Place, where: RunFilter, message: str | None) -> list[State[Any]]:
    """Cancel every flow run that a filter lets through and that has not ended."""
    if where.has_ended:
        return []
    found = await _all(place.reader, msgspec.structs.replace(where, has_ended=False))
    return await _cancel(place, Kind.FLOW, [record.id for record in found], message)


async def _cancel(place: Place, kind: Kind, run_ids: Sequence[UUID], message: str | None) -> list[State[Any]]:
    """Cancel runs and everything below them, and give the states that they are in then."""
    orders = {
        run_id: SetState(run_id=run_id, kind=kind, type=StateType.CANCELLING, name="Cancelling", message=message)
        for run_id in run_ids
    }
    done: dict[UUID, State[Any]] = {}
    while len(done) < len(orders):
        left = [run_id for run_id in orders if run_id not in done]
        alive = {run_id for run_id in left if place.core.ask(orders[run_id]) is not NOT_ALIVE}
        await place.catch_up()
        stored = await _stored(place.reader, kind, left)
        elsewhere = [run for run in stored.values() if run.id not in alive and not _has_ended(run)]
        if elsewhere:
            await _cancel_elsewhere(place, elsewhere, orders, message)
            stored = await _stored(place.reader, kind, left)
        for run_id in left:
            run = stored.get(run_id)
            if run is not None:
                if run_id in alive or _is_cancelled(run):
                    done[run_id] = _shown(run)
            elif run_id in alive:  # of which nothing is kept
                done[run_id] = State(type=StateType.CANCELLING, message=message, state_details=_details(kind, run_id))
            else:
                await the_run(place.reader, kind, run_id)  # there is no such run
    return [done[run_id] for run_id in run_ids]


async def _cancel_elsewhere(
    place: Place, runs: Sequence[RunRecord], orders: Mapping[UUID, SetState], message: str | None
) -> None:
    """Have the owners of runs cancel them; what no living engine runs is ended where it is stored."""
    answers = await letters.order(place, runs, [orders[run.id] for run in runs])
    for run, answer in zip(runs, answers, strict=True):
        if answer is None:
            await _end_stored(place, run, message)
    await place.catch_up()


async def _stored(reader: Reader, kind: Kind, run_ids: Sequence[UUID]) -> dict[UUID, RunRecord]:
    found: dict[UUID, RunRecord] = {}
    for start in range(0, len(run_ids), _PAGE):
        where = RunFilter(kind=kind, ids=tuple(run_ids[start : start + _PAGE]))
        found.update((run.id, run) for run in await _all(reader, where))
    return found


def _shown(record: RunRecord) -> State[Any]:
    if record.state is None:
        raise AssertionError("a run that is cancelled has a state")
    return decode.state(record.state, decode.state_details(record))


def _details(kind: Kind, run_id: UUID) -> StateDetails:
    return StateDetails(flow_run_id=run_id) if kind is Kind.FLOW else StateDetails(task_run_id=run_id)


def _has_ended(record: RunRecord) -> bool:
    return record.state is not None and record.state.type in TERMINAL_STATES


def _is_cancelled(record: RunRecord) -> bool:
    return _has_ended(record) or (record.state is not None and record.state.type is StateType.CANCELLING)


# ------------------------------------------------------------------------------------ what nobody runs


async def _end_stored(place: Place, record: RunRecord, message: str | None) -> None:
    """End a run that no process runs, and what is below it, children first; nothing, if somebody moved it meanwhile."""
    runs = [*await _below(place.reader, record), record]
    now = place.core.clock.micros()
    entries = [_ended(one, now, "The run around this one was cancelled.", _guard(record)) for one in runs[:-1]]
    entries.append(_ended(record, now, message or _MESSAGE))
    await place.apart(lambda: place.core.commit_guarded(*entries))
    await _call_hooks(place, runs, entries)


async def ends_below(reader: Reader, record: RunRecord, now: int) -> list[StateEntered]:
    """Give the ends of what is below a run that somebody ends and that no process runs, children before their parents."""
    below = await _below(reader, record)
    return [_ended(one, now, "The run around this one was ended.", _guard(record)) for one in below]


async def _call_hooks(place: Place, runs: Sequence[RunRecord], entries: Sequence[StateEntered]) -> None:
    """Call the hooks of the flow runs among those that were ended by us, where this process knows the flow."""
    core = place.core
    for run, entry in zip(runs, entries, strict=True):
        flow = (core.flows.get(run.definition.key) or imported(run.definition.key)) if run.kind is Kind.FLOW else None
        if flow is None or not hooks_of(flow, entry.type):
            continue
        state = (await the_run(place.reader, Kind.FLOW, run.id)).state
        if state is not None and state.id == entry.state_id:
            if place.host is None and current_host() is not None:  # an async hook may need the loop that this blocks
                call_hooks(core, flow, run.id, entry.type)
            else:
                await place.apart(partial(call_hooks_here, core, flow, run.id, entry.type))


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
        inside = await _all(reader, RunFilter(flow_run_ids=tuple(flows), has_ended=False))
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


async def _all(reader: Reader, where: RunFilter) -> Sequence[RunRecord]:
    found: list[RunRecord] = []
    cursor: bytes | None = None
    while True:
        page = await reader.read_runs(where, limit=_PAGE, cursor=cursor)
        found += records_of(page.items)
        cursor = page.cursor
        if cursor is None:
            return found
