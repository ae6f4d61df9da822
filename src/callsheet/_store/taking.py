"""Taking runs up, in one transaction: each changes hands, what it left running is ended, and it enters a state.

Each run is judged by itself, so any of them may be refused. Statements are for all of them at once: the transaction
of a hundred runs holds up others hardly longer than that of one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from callsheet._model.engines import Taken
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Entry, StateEntered
from callsheet._rules.facts import Facts
from callsheet._rules.taking import DIED, RECOVERED, TAKEN_UP, judge_taking
from callsheet._rules.verdicts import ACCEPT, Reject, Verdict
from callsheet._store.codes import TERMINALS, name_of, type_of
from callsheet._store.queries import MOST_VALUES
from callsheet._store.statements import OWN, pieces

Write = Callable[[Sequence[Entry]], None]
Row = Sequence[Any]

_RUNS: Final = (
    "SELECT id, kind, seq, state_type, state_name, state_at, attempt, due_at, owner, fence, recoveries,"
    " owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM engine WHERE id = run.owner AND NOT lost) FROM run WHERE id IN ({}) ORDER BY id"
)
_UNFINISHED: Final = f"coalesce(state_type, -1) NOT IN ({TERMINALS})"
# What flow runs have left unfinished.
_BELOW: Final = (
    "SELECT id, kind, seq, state_at, created, attempt, EXISTS (SELECT 1 FROM run AS child WHERE"
    f" child.parent_task_run_id = run.id AND coalesce(child.state_type, -1) NOT IN ({TERMINALS})), flow_run_id"
    f" FROM run WHERE flow_run_id IN ({{}}) AND {_UNFINISHED}"
)
# … and a task run outside of flows. Few runs are unfinished at any time, and an index knows them.
_BELOW_TASKS: Final = (
    "SELECT id, kind, seq, state_at, created, attempt, 0, root_id FROM run"
    " WHERE kind = 1 AND notable IN (0, 1, 2, 7, 8) AND root_id IN ({}) AND id <> root_id"
)


def take(
    connection: sqlite3.Connection,
    run_ids: Sequence[UUID],
    engine_id: UUID,
    *,
    at: int,
    known: bool,
    write: Write,
) -> tuple[Taken, ...]:
    """Take runs up, inside of a transaction; those that are not to be had are left out."""
    rows = _some(connection, _RUNS, [one.bytes for one in run_ids])
    claims = [claim for row in rows if (claim := _claim(row, at, known)) is not None]
    left = _left_by(connection, [claim for claim in claims if claim.died])
    entries: list[StateEntered] = []
    for claim in claims:
        entries += (_crashed(row, claim.taken.at) for row in left.get(claim.taken.run_id.bytes, ()))
        entries.append(entry(claim.taken, claim.attempt))
    if claims:
        write(entries)
    owned: list[Any] = []
    for taken, _, _, _, goes_on in claims:
        owned += (taken.run_id.bytes, engine_id.bytes if goes_on else None, taken.fence, taken.recoveries)
    for sql, params in pieces(OWN, owned):
        connection.execute(sql, params)
    return tuple(claim.taken for claim in claims)


class _Claim(NamedTuple):
    taken: Taken
    kind: Kind
    attempt: int
    died: bool
    goes_on: bool


def _claim(row: Row, at: int, known: bool) -> _Claim | None:
    id_, kind, seq, code, name, state_at, attempt, due, owner, fence, recoveries, died = row
    if owner is not None and not died:
        return None
    type_ = None if code is None else type_of(code)
    facts = Facts(now=at / 1e6, due_at=None if due is None else due / 1e6)
    said = None if code is None else name_of(code, name)
    verdict = judge_taking(Kind(kind), type_, facts, name=said, died=died, known=known, recoveries=recoveries)
    if verdict is not ACCEPT and not isinstance(verdict, Reject):
        return None
    taken = decided(
        verdict,
        UUID(bytes=id_),
        at=max(at, state_at or 0),
        seq=seq,
        fence=fence,
        recoveries=recoveries,
        died=bool(died),
    )
    return _Claim(taken, Kind(kind), attempt, bool(died), verdict is ACCEPT)


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
    run, _, seq, state_at, created, attempt, _, _ = row
    return crashed(UUID(bytes=run), seq, max(at, created if state_at is None else state_at), attempt)


def _left_by(connection: sqlite3.Connection, claims: Sequence[_Claim]) -> dict[bytes, list[Row]]:
    """Give what runs have left unfinished, by their ids, children before their parents.

    Where a run goes on, its unfinished subflows go on as the same runs, and so do the task runs that track them.
    """
    found: dict[bytes, list[Row]] = {claim.taken.run_id.bytes: [] for claim in claims}
    goes_on = {claim.taken.run_id.bytes: claim.goes_on for claim in claims}
    tasks = [claim.taken.run_id.bytes for claim in claims if claim.kind is Kind.TASK]
    for row in _some(connection, _BELOW_TASKS, tasks):
        found[row[7]].append(row)
    # By flow run, the one whose run was taken: first each itself, then the subflows in them, level by level.
    roots = {claim.taken.run_id.bytes: claim.taken.run_id.bytes for claim in claims if claim.kind is Kind.FLOW}
    while roots:
        below: dict[bytes, bytes] = {}
        for row in _some(connection, _BELOW, list(roots)):
            root = roots[row[7]]
            if row[1] == Kind.FLOW:
                below[row[0]] = root
            if not goes_on[root] or (row[1] == Kind.TASK and not row[6]):
                found[root].append(row)
        roots = below
    for rows in found.values():
        rows.sort(key=lambda row: row[0], reverse=True)  # children are made after their parents
    return found


def _some(connection: sqlite3.Connection, sql: str, ids: Sequence[bytes]) -> list[Row]:
    """Ask for any number of runs, as many at once as a statement has room for."""
    rows: list[Row] = []
    for start in range(0, len(ids), MOST_VALUES):
        some = ids[start : start + MOST_VALUES]
        rows += connection.execute(sql.format(",".join("?" * len(some))), some)
    return rows
