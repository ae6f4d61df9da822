"""Engines of a history in memory: the same answers as in a file, where several may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec

from callsheet._clock import machine
from callsheet._model.engines import EngineRecord, Taken, WaitingRun
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import RunRecord, StateEntered
from callsheet._rules.facts import Facts
from callsheet._rules.taking import judge_taking
from callsheet._rules.verdicts import ACCEPT, Reject
from callsheet._store import mishaps, taking

if TYPE_CHECKING:
    from callsheet._store.memory import MemoryStore


class MemoryEngines:
    """The engines of a memory store. Called under the store's lock, or by one thread."""

    def __init__(self, store: MemoryStore, rows: dict[UUID, EngineRecord] | None = None) -> None:
        self._store = store
        self._rows: dict[UUID, EngineRecord] = {} if rows is None else rows  # of all engines of one history
        self._me: EngineRecord | None = None
        self._is_due = False
        self._told: Callable[[float], None] | None = None
        self._is_listed = False

    # --------------------------------------------------------------------------------------- our own

    @property
    def is_entered(self) -> bool:
        """Tell whether this engine's row is there, or is to be written."""
        return self._me is not None

    def enter(self, me: EngineRecord) -> None:
        """Have this engine listed with the next commit."""
        self._me = me
        self._is_due = True

    def touch(self) -> None:
        """Have this engine's beat renewed with the next commit."""
        self._is_due = self._me is not None

    def check(self) -> None:
        """List or renew this engine where that is due; called with every commit.

        Raises:
            LostOwnership: It was found dead.
        """
        me = self._me
        if me is None:
            return
        row = self._rows.get(me.id)
        if self._is_listed and (row is None or row.lost):
            raise mishaps.lost(self._store.location)
        if self._is_due:
            beat = 0 if row is None else row.beat
            self._rows[me.id] = msgspec.structs.replace(me, beat=beat + 1)
            self._is_listed = True
            self._is_due = False
            if self._told is not None:
                self._told(machine.monotonic())

    def when_renewed(self, callback: Callable[[float], None]) -> None:
        """Have somebody told of every beat."""
        self._told = callback

    def on_news(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002
        """Tell that there will be none to miss: nobody else commits here."""
        return True

    def renew(self) -> bool:
        """Renew the beat."""
        self.touch()
        return self._store.try_commit(()) is not None

    def leave(self) -> None:
        """Remove the row, unless runs are left to this engine."""
        me, self._me = self._me, None
        self._is_listed = self._is_due = False
        if me is not None and me.id not in self._owners():
            self._rows.pop(me.id, None)

    def inherit(self, engines: MemoryEngines) -> None:
        """List the engines that another store on the same history lists, and that one's will."""
        self._rows = engines._rows

    def forget(self) -> None:
        """Let go of what belongs to another process."""
        self._me = None
        self._is_listed = self._is_due = False

    # --------------------------------------------------------------------------------------- the others

    def _owners(self) -> set[UUID]:
        return {run.owner for run in self._store.records() if run.owner is not None}

    def _is_dead(self, owner: UUID) -> bool:
        row = self._rows.get(owner)
        return row is None or row.lost

    def read(self) -> tuple[EngineRecord, ...]:
        """Give every listed engine."""
        owners = self._owners()
        return tuple(msgspec.structs.replace(row, owns=row.id in owners) for row in self._rows.values())

    def fence(self, engine_id: UUID, beat: int | None = None) -> bool:
        """Find an engine dead."""
        self.check()
        row = self._rows.get(engine_id)
        if row is None or row.lost or beat not in (None, row.beat):
            return False
        self._rows[engine_id] = msgspec.structs.replace(row, lost=True)
        return True

    def left(self, limit: int, after: UUID | None = None) -> tuple[WaitingRun, ...]:
        """Give root runs of dead engines, in order of id."""
        return self._some(lambda run: run.owner is not None and self._is_dead(run.owner), limit, after)

    def unowned(self, at: int, limit: int, after: UUID | None = None) -> tuple[WaitingRun, ...]:
        """Give root runs of nobody that are due, in order of id."""
        return self._some(lambda run: _waits(run, at), limit, after)

    def _some(self, wanted: Callable[[RunRecord], bool], limit: int, after: UUID | None) -> tuple[WaitingRun, ...]:
        found = [run for run in self._store.records() if (after is None or run.id > after) and wanted(run)]
        return tuple(
            WaitingRun(run.id, run.kind, run.definition.key, run.owner, run.definition.code, run.recoveries)
            for run in found[:limit]
        )

    def take(self, run_ids: Sequence[UUID], *, at: int, known: bool = True) -> tuple[Taken, ...]:
        """Take runs up."""
        self.check()
        me = self._me
        if me is None:
            raise RuntimeError("An engine is listed before it takes up runs.")
        runs = {run.id: run for run in self._store.records()}
        found = (self._take(me.id, runs, run_id, at, known) for run_id in run_ids)
        return tuple(taken for taken in found if taken is not None)

    def _take(self, me: UUID, runs: dict[UUID, RunRecord], run_id: UUID, at: int, known: bool) -> Taken | None:
        run = runs.get(run_id)
        if run is None or (run.owner is not None and not self._is_dead(run.owner)):
            return None
        died, state = run.owner is not None, run.state
        facts = Facts(now=at / 1e6, due_at=None if run.due_at is None else run.due_at / 1e6)
        verdict = judge_taking(
            run.kind,
            None if state is None else state.type,
            facts,
            name=None if state is None else state.name,
            died=died,
            known=known,
            recoveries=run.recoveries,
        )
        if verdict is not ACCEPT and not isinstance(verdict, Reject):
            return None
        taken = taking.decided(
            verdict,
            run_id,
            at=at if state is None else max(at, state.at),
            seq=0 if state is None else state.seq,
            fence=run.fence,
            recoveries=run.recoveries,
            died=died,
        )
        ended = _ended_below(runs, run, taken.at, whole=verdict is not ACCEPT) if died else []
        self._store.commit([*ended, taking.entry(taken, run.attempt)])
        self._store.hand_over(taken, me if verdict is ACCEPT else None)
        return taken

    def sweep(self) -> None:
        """Remove rows of dead engines that own nothing any more."""
        owners = self._owners()
        for gone in [id_ for id_, row in self._rows.items() if row.lost and id_ not in owners]:
            del self._rows[gone]


def _waits(run: RunRecord, at: int) -> bool:
    state, due = run.state, run.due_at
    if state is None or run.owner is not None or run.kind is not Kind.FLOW or run.parent_id is not None:
        return False
    if state.type is StateType.PAUSED:
        return due is not None and due <= at
    return state.type is StateType.SCHEDULED and (due or 0) <= at


def _is_unfinished(run: RunRecord) -> bool:
    return run.state is None or run.state.type not in TERMINAL_STATES


def _ended_below(runs: dict[UUID, RunRecord], root: RunRecord, at: int, *, whole: bool) -> list[StateEntered]:
    """Give the ends of what a run has left unfinished, children before their parents."""
    unfinished = [
        run for run in runs.values() if run.id != root.id and _is_below(runs, run, root) and _is_unfinished(run)
    ]
    tracked = {run.parent_task_run_id for run in unfinished}
    return [
        taking.crashed(
            run.id,
            0 if run.state is None else run.state.seq,
            max(at, run.created if run.state is None else run.state.at),
            run.attempt,
        )
        for run in sorted(unfinished, key=lambda run: run.id, reverse=True)
        if whole or (run.kind is Kind.TASK and run.id not in tracked)
    ]


def _is_below(runs: dict[UUID, RunRecord], run: RunRecord, root: RunRecord) -> bool:
    if root.kind is Kind.TASK:
        return run.root_id == root.id
    around = run.flow_run_id
    while around is not None and around != root.id:
        around = runs[around].flow_run_id if around in runs else None
    return around is not None
