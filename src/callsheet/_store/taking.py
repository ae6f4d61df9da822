"""Taking a run up, in one transaction: it changes hands, what it left running is ended, and it enters a state."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

from callsheet._model.engines import Taken
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Entry, StateEntered
from callsheet._rules.facts import Facts
from callsheet._rules.taking import DIED, RECOVERED, TAKEN_UP, judge_taking
from callsheet._rules.verdicts import ACCEPT, Reject, Verdict
from callsheet._store.codes import TERMINALS, name_of, type_of

Write = Callable[[Sequence[Entry]], None]
Row = Sequence[Any]

_RUN: Final = (
    "SELECT kind, seq, state_type, state_name, state_at, attempt, due_at, owner, fence, recoveries,"
    " owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM engine WHERE id = run.owner AND NOT lost) FROM run WHERE id = ?"
)
_OWN: Final = "UPDATE run SET owner = ?, fence = ?, recoveries = ? WHERE id = ?"
_UNFINISHED: Final = f"coalesce(state_type, -1) NOT IN ({TERMINALS})"
# What a flow run has left unfinished, the latest first: children are made after their parents.
_BELOW: Final = (
    "SELECT id, kind, seq, state_at, created, attempt, EXISTS (SELECT 1 FROM run AS child WHERE"
    f" child.parent_task_run_id = run.id AND coalesce(child.state_type, -1) NOT IN ({TERMINALS})) FROM run WHERE flow_run_id = ? AND {_UNFINISHED}"
)
# … and a task run outside of flows. Few runs are unfinished at any time, and an index knows them.
_BELOW_TASK: Final = (
    "SELECT id, kind, seq, state_at, created, attempt, 0 FROM run"
    " WHERE kind = 1 AND notable IN (0, 1, 2, 7, 8) AND root_id = ? AND id <> ?"
)


def take(
    connection: sqlite3.Connection, run_id: UUID, engine_id: UUID, *, at: int, known: bool, write: Write
) -> Taken | None:
    """Take a run up, inside of a transaction; `None` where it is not to be had."""
    row: Row | None = connection.execute(_RUN, (run_id.bytes,)).fetchone()
    if row is None:
        return None
    kind, seq, code, name, state_at, attempt, due, owner, fence, recoveries, died = row
    if owner is not None and not died:
        return None
    type_ = None if code is None else type_of(code)
    facts = Facts(now=at / 1e6, due_at=None if due is None else due / 1e6)
    said = None if code is None else name_of(code, name)
    verdict = judge_taking(Kind(kind), type_, facts, name=said, died=died, known=known, recoveries=recoveries)
    if verdict is not ACCEPT and not isinstance(verdict, Reject):
        return None
    taken = decided(
        verdict, run_id, at=max(at, state_at or 0), seq=seq, fence=fence, recoveries=recoveries, died=bool(died)
    )
    unfinished = _below(connection, run_id, Kind(kind), whole=verdict is not ACCEPT) if died else []
    write([*(_crashed(one, taken.at) for one in unfinished), entry(taken, attempt)])
    owner = engine_id.bytes if verdict is ACCEPT else None
    connection.execute(_OWN, (owner, taken.fence, taken.recoveries, run_id.bytes))
    return taken


def decided(verdict: Verdict, run_id: UUID, *, at: int, seq: int, fence: int, recoveries: int, died: bool) -> Taken:
    """Give what becomes of a run that is to be had."""
    goes_on = not isinstance(verdict, Reject)
    return Taken(
        run_id=run_id,
        seq=max(seq, 0) + 1,
        type=StateType.PENDING if goes_on else verdict.type,
        name="Pending" if goes_on else verdict.name,
        message=(RECOVERED if died else TAKEN_UP) if goes_on else verdict.message,
        at=at,
        fence=fence + 1,
        recoveries=recoveries + (died and goes_on),
    )


def entry(taken: Taken, attempt: int) -> StateEntered:
    """Give the state that the run enters."""
    return StateEntered(
        run_id=taken.run_id,
        seq=taken.seq,
        type=taken.type,
        name=taken.name,
        at=taken.at,
        message=taken.message,
        attempt=attempt,
    )


def crashed(run_id: UUID, seq: int, at: int, attempt: int) -> StateEntered:
    """Give the end of a run that the dead owner left unfinished."""
    return StateEntered(
        run_id=run_id, seq=max(seq, 0) + 1, type=StateType.CRASHED, name="Crashed", at=at, message=DIED, attempt=attempt
    )


def _crashed(row: Row, at: int) -> StateEntered:
    run, _, seq, state_at, created, attempt, _ = row
    return crashed(UUID(bytes=run), seq, max(at, created if state_at is None else state_at), attempt)


def _below(connection: sqlite3.Connection, run_id: UUID, kind: Kind, *, whole: bool) -> list[Row]:
    """Give what a run has left unfinished, children before their parents.

    Where the run goes on, its unfinished subflows go on as the same runs, and so do the task runs that track them.
    """
    if kind is Kind.TASK:
        found = connection.execute(_BELOW_TASK, (run_id.bytes, run_id.bytes)).fetchall()
    else:
        found, flows = list[Row](), [run_id.bytes]
        while flows:
            rows = connection.execute(_BELOW, (flows.pop(),)).fetchall()
            flows += (row[0] for row in rows if row[1] == Kind.FLOW)
            found += rows if whole else (row for row in rows if row[1] == Kind.TASK and not row[6])
    return sorted(found, key=lambda row: row[0], reverse=True)
