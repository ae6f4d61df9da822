"""SQL that writes, for any number of rows at once. The texts are cached, so SQLite keeps them compiled.

Every call into SQLite may wait for the interpreter's lock (5 ms when another thread computes), so any number of
rows up to 256 is one call. (512 were no faster, and the compiled statements took 10 MB more.) Its text has room for
up to a quarter more; the room is filled by repeating the last row, which changes nothing, as every statement here
may be repeated.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple, cast

from callsheet._model.kinds import SUSPENDED
from callsheet._store.codes import PAUSED, TERMINALS

_MOST = 256
_EXACT = 8
_BITS = 32  # of a number that says where bytes are: their length; above it their place, from 1
NOTHING = -0.5
"""Stands for NULL where a column often is nothing: no column of ours holds fractions."""


class Table(NamedTuple):
    """How rows of one shape are written: SQL around a list of `(?, …)`, and the number of columns.

    Python's `sqlite3` looks for an adapter for each value that is bytes or `None`, at fifteen times the price of a
    number and with the interpreter's lock in its hand: half of what a batch cost. So where rows are many, the bytes of
    a statement (`blobs`, by column from 0) are one value, in which numbers say where each column's are, and a number
    stands for `None` there (0) and in the columns that often are nothing (`nullable`).

    What is `shared` is bound once where it is the same in all rows, as with the runs of one task in one flow run: all of
    these columns or none, so that there are two texts and not one for every mixture.
    """

    before: str
    width: int
    after: str = ""
    blobs: tuple[int, ...] = ()
    nullable: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()


RUN = Table(
    "INSERT INTO run (id, seq, state_type, state_name, state_at, started, attempt, usual, completed, kind,"
    " definition_id, parent_id, flow_run_id, root_id, parent_task_run_id, name, created, due_at, extra, owner) ",
    20,
    " WHERE true ON CONFLICT DO NOTHING",
    blobs=(0, 11, 12, 13, 14, 18, 19),
    nullable=(2, 3, 4, 5, 8, 17),
    shared=(1, 2, 3, 6, 7, 9, 10, 11, 12, 13, 14, 17, 19),
)
# A run that exists moves on, whatever order batches come in: the newest state counts, and the first start.
# Materialized, because SQLite else melts the new rows into the join and walks over all runs there are, for every batch.
MOVE = Table(
    "WITH new (id, seq, type, name, at, started, attempt, usual, completed) AS MATERIALIZED (",
    9,
    # The limit keeps SQLite from merging the rows with what follows: it would go through all runs for each of them.
    " LIMIT -1) UPDATE run SET seq = max(run.seq, new.seq),"
    " state_type = iif(new.seq > run.seq, new.type, run.state_type),"
    " state_name = iif(new.seq > run.seq, new.name, run.state_name),"
    " state_at = iif(new.seq > run.seq, new.at, run.state_at),"
    " attempt = iif(new.seq > run.seq, new.attempt, run.attempt),"
    f" owner = iif(new.seq > run.seq AND (new.type IN ({TERMINALS})"
    f" OR (new.type = {PAUSED} AND new.name = '{SUSPENDED}')), NULL, run.owner),"
    " started = CASE WHEN new.usual & 2 THEN new.started WHEN run.usual & 2 THEN run.started"
    " ELSE coalesce(min(run.started, new.started), run.started, new.started) END,"
    " usual = run.usual | new.usual, completed = coalesce(run.completed, new.completed)"
    " FROM new WHERE run.id = new.id AND (new.seq > run.seq OR new.usual & ~run.usual"
    " OR (new.completed IS NOT NULL AND run.completed IS NULL)"
    " OR (new.started IS NOT NULL AND (run.started IS NULL OR new.started < run.started)))",
    blobs=(0,),
    nullable=(2, 3, 4, 5, 8),
    shared=(1, 2, 3, 6, 7),
)
# Of runs that change hands.
OWN = Table(
    "WITH new (id, owner, fence, recoveries) AS (",
    4,
    ") UPDATE run SET owner = new.owner, fence = new.fence, recoveries = new.recoveries FROM new WHERE run.id = new.id",
)
RENAME = Table("WITH new (id, name) AS (", 2, ") UPDATE run SET name = new.name FROM new WHERE run.id = new.id")
STATE = Table("INSERT INTO state ", 8, " ON CONFLICT DO NOTHING")
OUTCOME = Table(
    "INSERT OR REPLACE INTO outcome (flow_run_id, run_id, identity, status, recorded, inputs_digest, codec, size,"
    " digest, uri, inline) ",
    11,
    blobs=(0, 1, 2, 5, 8, 10),
    nullable=(6, 7, 9),
    shared=(0, 3, 4, 6, 8, 9),
)
DEFINITION = Table("INSERT INTO definition (id, kind, key, name, code) ", 5, " ON CONFLICT DO NOTHING")
TAG = Table("INSERT INTO run_tag ", 2, " ON CONFLICT DO NOTHING")
INPUT = Table("INSERT INTO input ", 3, " ON CONFLICT DO NOTHING")
PARAMETERS = Table("INSERT OR REPLACE INTO parameters ", 2)
FLAG = Table("INSERT INTO meta ", 2, " ON CONFLICT DO NOTHING")
KEY = Table("INSERT OR REPLACE INTO run_key (definition, key, run_id, expires) ", 4)
LOG = Table("INSERT INTO log (scope_id, at, n, task_run_id, level, logger, message) ", 7, " ON CONFLICT DO NOTHING")
HANDED = Table("INSERT INTO run_input (run_id, key, id, at, value, sender) ", 6)
DUE = "UPDATE run SET due_at = ? WHERE id = ?"
DROP_INPUT = "DELETE FROM run_input WHERE run_id = ? AND key = ?"

WRITER_FORBIDDEN = "SELECT value FROM meta WHERE key = 'min_writer' AND value > ?"
# Changes nothing, and counts 1 where we must not write: a newer program forbade it, or others took this engine for
# dead. Cheaper than a SELECT and its rows.
REFUSED = (
    "UPDATE meta SET value = value WHERE key = 'min_writer' AND (value > ?"
    " OR (? IS NOT NULL AND NOT EXISTS (SELECT 1 FROM engine WHERE id = ? AND NOT lost)))"
)
TOUCH = "INSERT OR REPLACE INTO meta VALUES ('synced', ?)"


@lru_cache(maxsize=256)
def text(table: Table, rows: int, shared: tuple[int, ...] = ()) -> str:
    """Give a statement, with these columns bound once."""
    one = "(" + ",".join("?" * (table.width - len(shared))) + ")"
    values = "VALUES " + ",".join([one] * rows)
    if table.blobs:
        # In front all bytes, then what is bound once. (Numbered parameters are for mappings only, from Python 3.14 on.)
        own = itertools.count(1)
        columns = [
            f"once{index}" if index in shared else _column(table, index, next(own)) for index in range(table.width)
        ]
        once = ",".join(("? AS bytes", *(f"? AS once{index}" for index in shared)))
        values = f"SELECT {','.join(columns)} FROM (SELECT {once}) CROSS JOIN ({values})"
    return table.before + values + table.after


def _column(table: Table, index: int, number: int) -> str:
    name = f"column{number}"
    if index in table.blobs:
        return f"iif({name}, substr(bytes, {name} >> {_BITS}, {name} & {(1 << _BITS) - 1}), NULL)"
    return f"nullif({name}, {NOTHING})" if index in table.nullable else name


def _packed(table: Table, rows: int, params: list[Any]) -> tuple[str, list[Any]]:
    """Give a statement and its parameters: one value for all bytes, what is bound once, and then the rows."""
    columns = [params[index :: table.width] for index in range(table.width)]
    shared = table.shared
    for index in shared:
        column = columns[index]
        if column[-1] != column[0] or column.count(column[0]) < rows:
            shared = ()
            break
    bound: list[Any] = [None] * (rows * (table.width - len(shared)))
    parts: list[bytes] = []
    start, width, place = 1, table.width - len(shared), 0
    for index, column in enumerate(columns):
        if index in shared:
            continue
        if index not in table.blobs:
            bound[place::width] = column
        elif column[-1] is column[0] and column.count(column[0]) == rows:  # often: nothing in any row
            places, start = _places(column[:1], parts, start)
            bound[place::width] = places * rows
        else:
            bound[place::width], start = _places(column, parts, start)
        place += 1
    once = [None if (one := columns[index][0]) is NOTHING else one for index in shared]
    return text(table, rows, shared), [b"".join(parts), *once, *bound]


def _places(column: list[bytes | None], parts: list[bytes], start: int) -> tuple[list[int], int]:
    """Add bytes to what there is, and give where they are and where the next begin."""
    try:
        lengths = [*map(len, cast("list[bytes]", column))]
    except TypeError:  # not all are bytes
        pass
    else:
        length = lengths[0]
        if length and lengths.count(length) == len(lengths):  # as ids are
            parts += cast("list[bytes]", column)
            end = start + length * len(lengths)
            return [*range(start << _BITS | length, end << _BITS, length << _BITS)], end
    places: list[int] = []
    for part in column:
        if part is None:
            places.append(0)
        else:
            parts.append(part)
            places.append(start << _BITS | len(part))
            start += len(part)
    return places, start


def pieces(table: Table, params: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Give statements and parameters that write all rows of a flat list, nearly always one."""
    width = table.width
    rows = len(params) // width
    start = 0
    while rows - start > _MOST:
        yield _statement(table, _MOST, params[start * width : (start + _MOST) * width])
        start += _MOST
    if rows > start:
        rest = params[start * width :] if start else params
        size = padded(rows - start)
        if size > rows - start:
            rest = rest + rest[-width:] * (size - rows + start)
        yield _statement(table, size, rest)


def _statement(table: Table, rows: int, params: list[Any]) -> tuple[str, list[Any]]:
    return _packed(table, rows, params) if table.blobs else (text(table, rows), params)


def padded(rows: int) -> int:
    """Give the next number of rows for which there is a text: all up to 8, then four in every doubling."""
    if rows <= _EXACT:
        return rows
    step = 1 << (rows.bit_length() - 3)
    return -(-rows // step) * step
