"""From filters to SQL and parameters. Pure: nothing here has a connection."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from callsheet._model.kinds import Kind, RunOrder
from callsheet._model.records import LogFilter, RunFilter
from callsheet._store import ordering
from callsheet._store.codes import CODES, COMPLETED, TERMINALS, TYPES, USUAL_NAMES

MOST_VALUES = 30_000
LEEWAY = 60_000
"""Milliseconds that the time in a run's id may differ from its `created`."""


class Query(NamedTuple):
    """A statement and what goes into it."""

    sql: str
    params: tuple[Any, ...]


class _Where:
    """Collects conditions, each with its parameters, in order."""

    def __init__(self) -> None:
        self.conditions: list[str] = []
        self.params: list[Any] = []

    def add(self, condition: str, *params: Any) -> None:
        self.conditions.append(condition)
        self.params += params

    def any_of(self, column: str, values: Sequence[Any] | None) -> None:
        if values is not None:
            self.add(f"{column} IN ({_marks(values)})", *values)

    def any_id(self, column: str, ids: Sequence[UUID] | None) -> None:
        if ids is not None:
            self.any_of(column, [one.bytes for one in ids])

    def between(self, column: str, after: int | None, before: int | None) -> None:
        if after is not None:
            self.add(f"{column} >= ?", after)
        if before is not None:
            self.add(f"{column} <= ?", before)

    def text(self) -> str:
        return " WHERE " + " AND ".join(self.conditions) if self.conditions else ""


def page_of_runs(
    where: RunFilter,
    limit: int,
    cursor: bytes | None,
    newest_first: bool,
    offset: int,
    order: RunOrder = RunOrder.CREATED,
) -> Query:
    """Give the statement for one page of runs, and one run more, which tells whether another page follows."""
    found = _runs(where)
    direction, sign = ("DESC", "<") if newest_first else ("ASC", ">")
    keys = "run.id" if (key := ordering.EXPRESSIONS.get(order)) is None else f"{key} {direction}, run.id"
    if cursor is not None:
        value, run_id = ordering.place_after(cursor, order)
        if key is None:
            found.add(f"run.id {sign} ?", run_id)
        else:
            found.add(f"({key}, run.id) {sign} (?, ?)", value, run_id)
    # The page is chosen first, so that what is sorted or skipped costs no look at the other tables.
    # LEFT JOIN, because it fixes the order of the tables: runs first.
    sql = (
        "SELECT run.id, run.kind, d.key, d.name, d.code, run.name, run.created, run.parent_id, run.flow_run_id,"
        " run.parent_task_run_id, run.root_id, run.due_at, run.started, run.attempt, run.fence, run.extra,"
        " run.owner, run.recoveries,"
        " run.seq, run.state_type, run.state_name, run.state_at, s.id, s.message, s.details, p.body"
        " FROM run LEFT JOIN definition AS d ON d.id = run.definition_id"
        " LEFT JOIN state AS s ON s.run_id = run.id AND s.seq = run.seq"
        " LEFT JOIN parameters AS p ON p.run_id = run.id WHERE run.id IN"
        f" (SELECT run.id FROM run{found.text()} ORDER BY {keys} {direction} LIMIT ? OFFSET ?) ORDER BY {keys} {direction}"
    )
    return Query(sql, (*found.params, limit + 1, offset))


def count_of_runs(where: RunFilter) -> Query:
    """Give the statement that counts matching runs."""
    found = _runs(where)
    return Query(f"SELECT count(*) FROM run{found.text()}", tuple(found.params))


def counts_by_state(where: RunFilter) -> Query:
    """Give the statement that counts matching runs by kind, state type and state name."""
    parts: list[Query] = []
    # What completed uneventfully is nearly everything: it is counted, the others are sorted.
    for kind in Kind if where.kind is None else (where.kind,):
        found = _runs(msgspec.structs.replace(where, kind=kind))
        found.add(f"run.state_type = {COMPLETED} AND run.state_name IS NULL")
        parts.append(
            Query(f"SELECT {int(kind)}, {COMPLETED}, NULL, count(*) FROM run{found.text()}", tuple(found.params))
        )
    found = _runs(where)
    found.add(f"run.state_type IS NOT NULL AND (run.state_type <> {COMPLETED} OR run.state_name IS NOT NULL)")
    parts.append(
        Query(
            f"SELECT run.kind, run.state_type, run.state_name, count(*) FROM run{found.text()} GROUP BY 1, 2, 3",
            tuple(found.params),
        )
    )
    return Query(
        " UNION ALL ".join(part.sql for part in parts),
        tuple(param for part in parts for param in part.params),
    )


def tags_of(ids: Sequence[bytes]) -> Query:
    """Give the statement for the tags of a whole page."""
    return Query(f"SELECT run_id, tag FROM run_tag WHERE run_id IN ({_marks(ids)}) ORDER BY run_id, tag", tuple(ids))


def inputs_of(ids: Sequence[bytes]) -> Query:
    """Give the statement for the inputs of a whole page."""
    return Query(
        f"SELECT run_id, parameter, source_id FROM input WHERE run_id IN ({_marks(ids)})"
        " ORDER BY run_id, parameter, source_id",
        tuple(ids),
    )


def states_of(run_id: UUID) -> Query:
    """Give the statement for every state of a run."""
    return Query(
        "SELECT seq, id, type, name, at, message, details FROM every_state WHERE run_id = ? ORDER BY seq",
        (run_id.bytes,),
    )


def states_of_many(run_ids: Sequence[UUID]) -> Query:
    """Give the statement for every state of several runs, each with its run's id in front."""
    return Query(
        "SELECT run_id, seq, id, type, name, at, message, details FROM every_state"
        f" WHERE run_id IN ({_marks(run_ids)}) ORDER BY run_id, seq",
        tuple(one.bytes for one in run_ids),
    )


def definitions(kind: int, where: RunFilter | None) -> Query:
    """Give the statement for definitions, and when the first run of each was created."""
    runs = _Where() if where is None else _runs(where)
    chosen = "" if where is None else f" AND id IN (SELECT run.definition_id FROM run{runs.text()})"
    return Query(
        "SELECT kind, key, name, code, (SELECT run.created FROM run"
        f" WHERE run.kind = {kind} AND run.definition_id = definition.id ORDER BY run.id LIMIT 1)"
        f" FROM definition WHERE kind = {kind}{chosen} ORDER BY name, id",
        tuple(runs.params),
    )


def handed_to(run_id: UUID, key: str | None, prefix: str, limit: int | None) -> Query:
    """Ask what a flow run was handed."""
    sql = "SELECT key, id, at, value, sender FROM run_input WHERE run_id = ?"
    params: list[Any] = [run_id.bytes]
    if key is not None:
        sql += " AND key = ?"
        params.append(key)
    if prefix:
        sql += " AND key >= ? AND key < ?"  # a range of the primary key
        params += (prefix, prefix + chr(sys.maxunicode))
    return Query(f"{sql} ORDER BY at, id LIMIT ?", (*params, -1 if limit is None else limit))


_OUTCOME = "identity, run_id, status, recorded, inputs_digest, codec, size, digest, uri, inline"


def outcomes_in(flow_run_id: UUID, run_id: UUID | None = None) -> Query:
    """Give the statement for the outcomes in a flow run, in the order of their runs, or for that of one run in it."""
    one = None if run_id is None else run_id.bytes
    return Query(
        f"SELECT {_OUTCOME} FROM outcome WHERE flow_run_id = ?{'' if one is None else ' AND run_id = ?'} ORDER BY run_id",
        (flow_run_id.bytes,) if one is None else (flow_run_id.bytes, one),
    )


def outcomes_of_many(flow_run_ids: Sequence[UUID]) -> Query:
    """Give the statement for the outcomes in several flow runs, each with its flow run's id in front."""
    return Query(
        f"SELECT flow_run_id, {_OUTCOME} FROM outcome WHERE flow_run_id IN ({_marks(flow_run_ids)})"
        " ORDER BY flow_run_id, run_id",
        tuple(one.bytes for one in flow_run_ids),
    )


def page_of_logs(where: LogFilter, limit: int, cursor: bytes | None, newest_first: bool, offset: int) -> Query:
    """Give the statement for one page of log records, and one more."""
    found = _Where()
    found.any_id("scope_id", where.flow_run_ids)
    if where.flow_run_ids is not None:
        found.add("scope_id IS NOT task_run_id")  # the log of a task outside of flows has its task as its scope
    found.any_id("task_run_id", where.task_run_ids)
    found.between("level", where.level_at_least, where.level_at_most)
    found.between("at", where.after, where.before)
    if cursor is not None:
        found.add(f"(at, n, scope_id) {'<' if newest_first else '>'} (?, ?, ?)", *split_log_cursor(cursor))
    order = "DESC" if newest_first else "ASC"
    sql = (
        f"SELECT scope_id, at, n, task_run_id, level, logger, message FROM log{found.text()}"
        f" ORDER BY at {order}, n {order}, scope_id {order} LIMIT ? OFFSET ?"
    )
    return Query(sql, (*found.params, limit + 1, offset))


def log_cursor(at: int, n: int, scope: bytes) -> bytes:
    """Give the cursor that continues after a log record."""
    return at.to_bytes(8, signed=True) + n.to_bytes(8, signed=True) + scope


def split_log_cursor(cursor: bytes) -> tuple[int, int, bytes]:
    """Give time, number and scope back from a cursor."""
    return int.from_bytes(cursor[:8], signed=True), int.from_bytes(cursor[8:16], signed=True), cursor[16:]


# ------------------------------------------------------------------------------------ the conditions of runs


def _runs(where: RunFilter) -> _Where:
    found = _Where()
    if where.kind is not None:
        found.add(f"run.kind = {int(where.kind)}")  # a literal, or the partial index of flow runs is not used
    found.any_id("run.id", where.ids)
    if where.not_ids is not None:
        found.add(f"run.id NOT IN ({_marks(where.not_ids)})", *(one.bytes for one in where.not_ids))
    found.any_of("run.name", where.names)
    if where.name_like is not None:
        found.add("run.name LIKE ? ESCAPE '\\'", f"%{_escaped(where.name_like)}%")
    if (names := where.definition_names) is not None:
        found.add(f"run.definition_id IN (SELECT id FROM definition WHERE name IN ({_marks(names)}))", *names)
    _states(where, found)
    _tags(where, found)
    found.any_id("run.parent_id", where.parent_ids)
    found.any_id("run.flow_run_id", where.flow_run_ids)
    found.any_id("run.parent_task_run_id", where.parent_task_run_ids)
    found.any_id("run.root_id", where.root_ids)
    if where.is_root is not None:
        found.add("run.parent_id IS NULL" if where.is_root else "run.parent_id IS NOT NULL")
    _around(where, found)
    _times(where, found)
    return found


def _around(where: RunFilter, found: _Where) -> None:
    """Add what is asked of other runs. Inside a subquery `run` is the other run."""
    if where.is_in_flow_run is not None:
        found.add(f"run.flow_run_id IS {'NOT ' if where.is_in_flow_run else ''}NULL")
    if where.tracks_subflow is not None:
        found.add(
            f"{'' if where.tracks_subflow else 'NOT '}EXISTS"
            " (SELECT 1 FROM run AS child WHERE child.parent_task_run_id = run.id)"
        )
    if where.flow_run is not None:
        flow_runs = _runs(where.flow_run)
        found.add(f"run.flow_run_id IN (SELECT run.id FROM run{flow_runs.text()})", *flow_runs.params)
    if where.any_task_run is not None:
        task_runs = _runs(where.any_task_run)
        found.add(f"run.id IN (SELECT run.flow_run_id FROM run{task_runs.text()})", *task_runs.params)


def _states(where: RunFilter, found: _Where) -> None:
    if (types := where.state_types) is not None:
        codes = sorted(CODES[one] for one in types)
        if COMPLETED not in codes:
            found.add(f"run.notable IN ({','.join(map(str, codes))})")
            if where.kind is None:
                found.add("run.kind IN (0, 1)")
        else:
            found.add(f"run.state_type IN ({','.join(map(str, codes))})")
    if (names := where.state_names) is not None:
        found.add(_named(names), *names)
    if (types := where.not_state_types) is not None:
        codes = sorted(CODES[one] for one in types)
        found.add(f"coalesce(run.state_type, -1) NOT IN ({','.join(map(str, codes))})")
    if (names := where.not_state_names) is not None:
        found.add(f"NOT {_named(names)}", *names)


def _named(names: Sequence[str]) -> str:
    usual = ",".join(str(CODES[one]) for one in TYPES if USUAL_NAMES[one] in names)
    return (
        f"CASE WHEN run.state_name IS NULL THEN coalesce(run.state_type IN ({usual}), 0)"
        f" ELSE run.state_name IN ({_marks(names)}) END"
    )


def _tags(where: RunFilter, found: _Where) -> None:
    for tag in where.tags_all or ():
        found.add("run.id IN (SELECT run_id FROM run_tag WHERE tag = ?)", tag)
    if (tags := where.tags_any) is not None:
        found.add(f"run.id IN (SELECT run_id FROM run_tag WHERE tag IN ({_marks(tags)}))", *tags)
    if where.is_tagged is not None:
        found.add(f"{'' if where.is_tagged else 'NOT '}EXISTS (SELECT 1 FROM run_tag WHERE run_id = run.id)")


def _times(where: RunFilter, found: _Where) -> None:
    for bound, sign, shift in ((where.created_after, ">=", -LEEWAY), (where.created_before, "<=", LEEWAY)):
        if bound is not None:
            # Ids carry the time of their creation, so this is a range of the key, unless the file has runs
            # whose clock was another one (then `skewed` is set and the range is everything).
            edge = b"\0" * 16 if sign == ">=" else b"\xff" * 16
            found.add(
                f"run.id {sign} coalesce((SELECT x'{edge.hex()}' FROM meta WHERE key = 'skewed'), ?)",
                _id_at(bound, shift),
            )
    found.between("run.created", where.created_after, where.created_before)
    found.between(ordering.EXPECTED, where.expected_after, where.expected_before)
    found.between("run.started", where.started_after, where.started_before)
    if where.has_started is not None:
        found.add(f"run.started IS {'NOT ' if where.has_started else ''}NULL")
    if where.has_ended is not None:
        found.add(f"coalesce(run.state_type, -1) {'' if where.has_ended else 'NOT '}IN ({TERMINALS})")
    if where.ended_after is not None or where.ended_before is not None:
        found.add(f"run.state_type IN ({TERMINALS})")
        found.between("run.state_at", where.ended_after, where.ended_before)


def _id_at(at: int, shift: int) -> bytes:
    millis = min(max(at // 1000 + shift, 0), (1 << 48) - 1)
    tail = b"\0" * 10 if shift < 0 else b"\xff" * 10
    return millis.to_bytes(6) + tail


def _marks(values: Iterable[Any]) -> str:
    count = len(tuple(values))
    if count > MOST_VALUES:
        raise ValueError(f"a filter can name at most {MOST_VALUES:,} values, not {count:,}; ask in several reads")
    return ",".join("?" * count)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
