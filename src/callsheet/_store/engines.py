"""Which engines share a file, which of them are gone, and the runs that they left.

An engine that owns runs has a row here. It is written in the transaction of its first root run, renewed while runs are
alive, and asked for in every transaction of the engine: where it is lost, or gone, nothing is written any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import msgspec

from callsheet._clock import machine
from callsheet._model.engines import EngineRecord, Taken, WaitingRun
from callsheet._model.kinds import Kind
from callsheet._model.records import Entry, Refusal
from callsheet._store import taking
from callsheet._store.taking import Write

T = TypeVar("T")
_SHORT: Final = 1.0  # seconds of patience for what others make up for
Row = Sequence[Any]

_ENTER: Final = (
    "INSERT INTO engine (id, beat, lease_us, machine, file, pid, host, started, flows) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET beat = beat + 1, flows = excluded.flows WHERE NOT lost"
)
_RENEW: Final = "UPDATE engine SET beat = beat + 1, flows = ? WHERE id = ? AND NOT lost"
_LEAVE: Final = "DELETE FROM engine WHERE id = ? AND NOT EXISTS (SELECT 1 FROM run WHERE owner = engine.id)"
_FENCE: Final = "UPDATE engine SET lost = 1 WHERE id = ? AND NOT lost AND (? IS NULL OR beat = ?)"
_SWEEP: Final = "DELETE FROM engine WHERE lost AND NOT EXISTS (SELECT 1 FROM run WHERE owner = engine.id)"
_ALL: Final = (
    "SELECT id, beat, lease_us, machine, file, pid, host, started, lost, flows,"
    " EXISTS (SELECT 1 FROM run WHERE owner = engine.id) FROM engine"
)
# From one owner to the next in the index: as many steps as there are owners, not as there are runs.
_DEAD: Final = (
    "(WITH RECURSIVE owners (id) AS (SELECT (SELECT owner FROM run WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)"
    " UNION ALL SELECT (SELECT owner FROM run WHERE owner > owners.id ORDER BY owner LIMIT 1) FROM owners"
    " WHERE owners.id IS NOT NULL)"
    " SELECT id FROM owners WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM engine WHERE NOT lost))"
)
_LEFT: Final = (
    "SELECT run.id, run.kind, d.key, run.owner, d.code, run.recoveries"
    " FROM run LEFT JOIN definition AS d ON d.id = run.definition_id"
    f" WHERE run.owner IN {_DEAD} AND run.id > ? ORDER BY run.id LIMIT ?"
)
_UNOWNED: Final = (
    "SELECT run.id, run.kind, d.key, NULL, d.code, run.recoveries"
    " FROM run LEFT JOIN definition AS d ON d.id = run.definition_id"
    " WHERE run.kind = 0 AND run.notable = 0 AND run.owner IS NULL AND run.parent_id IS NULL"
    " AND coalesce(run.due_at, 0) <= ? AND run.id > ? ORDER BY run.id LIMIT ?"
)
# Suspended ones whose time has come. By name: the planner walks over all flow runs instead (10 ms at 10,000 of them).
_TO_WAKE: Final = (
    "SELECT run.id, run.kind, d.key, NULL, d.code, run.recoveries"
    " FROM run INDEXED BY run_to_wake LEFT JOIN definition AS d ON d.id = run.definition_id"
    " WHERE run.state_type = 7 AND run.due_at IS NOT NULL AND run.due_at <= ?"
    " AND run.kind = 0 AND run.owner IS NULL AND run.parent_id IS NULL AND run.id > ? ORDER BY run.id LIMIT ?"
)


class Place(Protocol):
    """What is needed of the store."""

    def transact(self, work: Callable[[sqlite3.Connection], T], patience: float | None = None) -> T: ...

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T: ...

    def try_commit(self, entries: Sequence[Entry]) -> list[Refusal] | None: ...

    def adopt_in(self, connection: sqlite3.Connection) -> None: ...

    def write_in(self, connection: sqlite3.Connection) -> Write: ...


class SqliteEngines:
    """The engines of a file."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._me: EngineRecord | None = None
        self._is_listed = False
        self.is_due = False  # the row is to be written, or renewed, in the next transaction
        self.guard: bytes | None = None  # the id of the row that has to be there
        self._written_at = 0.0
        self._told: Callable[[float], None] = _nobody

    # --------------------------------------------------------------------------------------- our own

    @property
    def is_entered(self) -> bool:
        """Tell whether this engine's row is there, or is to be written."""
        return self._me is not None

    def enter(self, me: EngineRecord) -> None:
        """Have this engine's row written in the next transaction."""
        self._me = me
        self.is_due = True

    def touch(self) -> None:
        """Have this engine's beat renewed in the next transaction."""
        self.is_due = self._me is not None

    def write(self, connection: sqlite3.Connection) -> bool:
        """Write or renew the row, inside a transaction; tell whether the engine may write at all."""
        me = self._me
        if me is None:
            return True
        self._written_at = machine.monotonic()
        flows = _to_json(me.flows)
        if self._is_listed:
            return connection.execute(_RENEW, (flows, me.id.bytes)).rowcount == 1
        lease = int(me.lease * 1e6)
        row = (me.id.bytes, lease, me.machine, me.file, me.pid, me.host, me.started, flows)
        return connection.execute(_ENTER, row).rowcount == 1

    def written(self) -> None:
        """Note that this was committed."""
        if self._me is not None:
            self.guard = self._me.id.bytes
            self._is_listed = True
            self.is_due = False
            self._told(self._written_at)

    def when_renewed(self, callback: Callable[[float], None]) -> None:
        """Have somebody told of every committed beat."""
        self._told = callback

    def on_news(self, callback: Callable[[], None]) -> bool:  # noqa: ARG002
        """Tell that a file calls nobody."""
        return False

    def renew(self) -> bool:
        """Renew the beat; false: not now."""
        self.touch()
        return self._place.try_commit(()) is not None

    def leave(self) -> None:
        """Remove the row, unless runs are left to this engine."""
        me, self._me = self._me, None
        if self._is_listed and me is not None:
            self._is_listed = self.is_due = False
            self._place.transact(lambda connection: connection.execute(_LEAVE, (me.id.bytes,)), _SHORT)
            self.guard = None

    def forget(self) -> None:
        """Let go of what belongs to the process from which this one was forked."""
        self._me = self.guard = None
        self._is_listed = self.is_due = False
        self._told = _nobody

    # --------------------------------------------------------------------------------------- the others

    def read(self) -> tuple[EngineRecord, ...]:
        """Give every listed engine."""
        return tuple(_record(row) for row in self._place.look(lambda connection: connection.execute(_ALL).fetchall()))

    def fence(self, engine_id: UUID, beat: int | None = None) -> bool:
        """Find an engine dead, after everything that it has made durable."""

        def work(connection: sqlite3.Connection) -> bool:
            found = connection.execute(_FENCE, (engine_id.bytes, beat, beat)).rowcount == 1
            if found:  # nothing counts any more that it appends from here on
                self._place.adopt_in(connection)
            return found

        return self._place.transact(work, _SHORT)

    def left(self, limit: int, after: UUID | None = None) -> tuple[WaitingRun, ...]:
        """Give root runs of dead engines, in order of id."""
        first = b"" if after is None else after.bytes
        rows = self._place.look(lambda connection: connection.execute(_LEFT, (first, limit)).fetchall())
        return tuple(_waiting(row) for row in rows)

    def unowned(self, at: int, limit: int, after: UUID | None = None) -> tuple[WaitingRun, ...]:
        """Give root runs of nobody that are due, in order of id."""
        first = b"" if after is None else after.bytes

        def work(connection: sqlite3.Connection) -> list[Row]:
            return [row for sql in (_UNOWNED, _TO_WAKE) for row in connection.execute(sql, (at, first, limit))]

        found = sorted(self._place.look(work), key=lambda row: row[0])
        return tuple(_waiting(row) for row in found[:limit])

    def take(self, run_ids: Sequence[UUID], *, at: int, known: bool = True) -> tuple[Taken, ...]:
        """Take runs up."""
        me = self._me
        if me is None:
            raise RuntimeError("An engine is listed before it takes up runs.")
        return self._place.transact(
            lambda connection: taking.take(
                connection, run_ids, me.id, at=at, known=known, write=self._place.write_in(connection)
            ),
            _SHORT,
        )

    def sweep(self) -> None:
        """Remove rows of dead engines that own nothing any more."""
        self._place.transact(lambda connection: connection.execute(_SWEEP), _SHORT)


def _nobody(_: float) -> None:
    pass


_to_json = msgspec.json.Encoder().encode
_flows = msgspec.json.Decoder(tuple[str, ...]).decode


def _record(row: Row) -> EngineRecord:
    id_, beat, lease, machine, file, pid, host, started, lost, flows, owns = row
    return EngineRecord(
        id=UUID(bytes=id_),
        beat=beat,
        lease=lease / 1e6,
        machine=machine,
        file=file,
        pid=pid,
        host=host,
        started=started,
        lost=bool(lost),
        flows=_flows(flows),
        owns=bool(owns),
    )


def _waiting(row: Row) -> WaitingRun:
    run, kind, key, owner, code, recoveries = row
    of = None if owner is None else UUID(bytes=owner)
    return WaitingRun(UUID(bytes=run), Kind(kind), key or "", of, code or "", recoveries)
