"""Reading what is new in a tree of runs: the states of a run and of the runs in it, and their logs.

There is no feed: states of runs are numbered, so what a reader was given is known exactly, run by run. While the
watched run lives, only runs that are new or unfinished are looked at. When it has ended, everything is compared once
more, so that what could not be seen at its time (a rollback of a task run that had ended, say) is given at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar
from uuid import UUID

from callsheet._clock import from_micros
from callsheet._engine.history import records_of
from callsheet._engine.seen import Seen
from callsheet._model.events import Event, LogEvent, StateEvent
from callsheet._model.kinds import TERMINAL_STATES, Kind
from callsheet._model.records import LogFilter, LogRecord, RunFilter, RunRecord, StateRecord
from callsheet._store.protocol import Reader
from callsheet.exceptions import ObjectNotFound

T = TypeVar("T")
Record = StateRecord | LogRecord

_MANY = 500
"""Runs or lines in one read: a millisecond or so."""
_LATE_RUNS = 500_000  # microseconds; runs made earlier are looked for at the end only


class Tree:
    """A run and the runs in it, as far as somebody who watches them knows them. A task run is watched by itself."""

    def __init__(self, run_id: UUID, seen: Seen) -> None:
        self.run_id = run_id
        self.seen = seen
        self.ended: int | None = None  # microseconds since the epoch
        self._flows: set[UUID] = set()
        self._open: set[UUID] = set()
        self._newest = 0  # when the youngest run that is known was created
        self._compared = False  # whether all runs were looked at

    async def read(self, reader: Reader) -> list[tuple[Record, Event]]:
        """Give what was not given yet, in order of time; of each run in the order of its states.

        An abandoned call changes nothing.

        Raises:
            ObjectNotFound: There is no such run.
        """
        top = await self._top(reader)
        over = top.state is not None and (top.state.type in TERMINAL_STATES or top.state.name == "NotReady")
        everything = over or not self._compared
        flows = {*self._flows, self.run_id} if top.kind is Kind.FLOW else set[UUID]()
        found = {top.id: top}
        await self._find_new(reader, found, flows, None if everything else self._newest - _LATE_RUNS)
        if not everything:
            await _find_by_id(reader, found, sorted(self._open - found.keys()))
        records: list[tuple[Record, Event]] = []
        for chunk in _chunks(list(found.values())):
            records += await self._states(reader, chunk)
        records += await self._lines(reader, flows)
        # From here on nothing waits.
        self._flows = flows
        self._compared = True
        self._newest = max(self._newest, *(run.created for run in found.values()))
        self._open = {*(self._open - found.keys()), *(run.id for run in found.values() if not _has_ended(run))}
        if over and top.state is not None:
            self.ended = top.state.at
        return _in_order(records)

    async def _top(self, reader: Reader) -> RunRecord:
        found = records_of((await reader.read_runs(RunFilter(ids=(self.run_id,)), limit=1)).items)
        if not found:
            raise ObjectNotFound(help_message=f"There is no run with the id {self.run_id} in this history.")
        return found[0]

    async def _find_new(
        self, reader: Reader, found: dict[UUID, RunRecord], flows: set[UUID], since: int | None
    ) -> None:
        """Look for runs, flow run by flow run; flow runs that are found among them are looked into as well."""
        within = flows if since is None else flows & {self.run_id, *self._open}
        while within:
            runs: list[RunRecord] = []
            for chunk in _chunks(sorted(within)):
                where = RunFilter(flow_run_ids=tuple(chunk), created_after=since)
                page = await reader.read_runs(where, limit=_MANY)
                runs += records_of(page.items)
                while page.cursor is not None:
                    page = await reader.read_runs(where, limit=_MANY, cursor=page.cursor)
                    runs += records_of(page.items)
            found.update((run.id, run) for run in runs)
            within = {run.id for run in runs if run.kind is Kind.FLOW} - flows
            flows |= within

    async def _states(self, reader: Reader, runs: Sequence[RunRecord]) -> list[tuple[Record, Event]]:
        behind = {run.id: run for run in runs if run.state is not None and run.state.seq > self.seen.number(run.id)}
        # Of most runs that move, the newest state is the one that is new, and is known already.
        jumped = [run.id for run in behind.values() if _seq(run) > self.seen.number(run.id) + 1]
        states = await reader.read_states_of(jumped) if jumped else {}
        given: list[tuple[Record, Event]] = []
        for run in behind.values():
            entered = states.get(run.id) or (() if run.state is None else (run.state,))
            # Not what came after the runs were read: the end of the watched run is to be the last that is seen.
            given += [
                (state, _as_event(run, state))
                for state in entered
                if state.seq <= _seq(run) and not self.seen.has_state(state)
            ]
        return given

    async def _lines(self, reader: Reader, flows: set[UUID]) -> list[tuple[Record, Event]]:
        since = self.seen.lines_from
        if not flows:
            return await self._lines_of(reader, LogFilter(task_run_ids=(self.run_id,), after=since))
        given: list[tuple[Record, Event]] = []
        for chunk in _chunks(sorted(flows)):
            given += await self._lines_of(reader, LogFilter(flow_run_ids=tuple(chunk), after=since))
        return given

    async def _lines_of(self, reader: Reader, where: LogFilter) -> list[tuple[Record, Event]]:
        page = await reader.read_logs(where, limit=_MANY)
        lines = [line for line in page.items if isinstance(line, LogRecord)]
        while page.cursor is not None:
            page = await reader.read_logs(where, limit=_MANY, cursor=page.cursor)
            lines += [line for line in page.items if isinstance(line, LogRecord)]
        return [(line, _as_line(line)) for line in lines if not self.seen.has_line(line)]


async def _find_by_id(reader: Reader, found: dict[UUID, RunRecord], ids: Sequence[UUID]) -> None:
    for chunk in _chunks(ids):
        page = await reader.read_runs(RunFilter(ids=tuple(chunk)), limit=len(chunk))
        found.update((run.id, run) for run in records_of(page.items))


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _MANY):
        yield items[start : start + _MANY]


def _seq(run: RunRecord) -> int:
    return 0 if run.state is None else run.state.seq


def _has_ended(run: RunRecord) -> bool:
    return run.state is not None and run.state.type in TERMINAL_STATES


def _in_order(records: list[tuple[Record, Event]]) -> list[tuple[Record, Event]]:
    """Put records in order of time, and keep those of one run in the order of their numbers, whatever clocks say."""
    newest: dict[UUID, int] = {}
    keyed: list[tuple[int, int, tuple[Record, Event]]] = []
    for place, pair in enumerate(records):
        record = pair[0]
        at = record.at
        if isinstance(record, StateRecord):
            at = newest[record.run_id] = max(at, newest.get(record.run_id, 0))
        keyed.append((at, place, pair))
    return [pair for _, _, pair in sorted(keyed, key=lambda one: one[:2])]


def _as_event(run: RunRecord, state: StateRecord) -> StateEvent:
    return StateEvent(
        run_id=run.id,
        kind=run.kind,
        run_name=run.name,
        flow_run_id=run.flow_run_id,
        number=state.seq,
        type=state.type,
        name=state.name,
        message=state.message,
        timestamp=from_micros(state.at),
    )


def _as_line(line: LogRecord) -> LogEvent:
    return LogEvent(
        flow_run_id=line.flow_run_id,
        task_run_id=line.task_run_id,
        level=line.level,
        logger=line.logger,
        message=line.message,
        timestamp=from_micros(line.at),
    )
