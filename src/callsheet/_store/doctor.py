"""How a history file is doing, found out without writing to it. For a program of its own: see `writer_of`."""

from __future__ import annotations

import fcntl
import sqlite3
import struct
import sys
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._store import doctor_logs
from callsheet._store.mishaps import translate
from callsheet._store.proofs import folder_beside, is_free, is_gone, machine_of

_FLOCK: Final = "hhqqi4x"  # struct flock of 64-bit Linux
_WRITE_LOCK: Final = 120  # byte of the file of shared memory that who writes has locked
_NAME: Final = 32  # digits in the name of a proof of life


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """One engine as the history knows it. `status` is alive, gone (its process has ended), lost (others found it dead), or unknown."""

    id: UUID
    status: str
    beats: bool  # it has given a sign of life while it was watched
    lease_seconds: float
    host: str
    pid: int  # for display: another container may use the same one
    runs: int  # root runs that belong to it
    flows: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    database: str
    bytes: int
    wal_bytes: int
    schema: int
    min_writer: int
    integrity: tuple[str, ...] | None  # `None`: not checked; ("ok",): sound
    watched_seconds: float
    engines: tuple[Engine, ...]
    runs_of_dead_engines: int
    writer_pid: int | None  # who held the file for writing all the time; also unknown: `None`
    letters: int  # orders that nobody has answered yet
    files_left_behind: tuple[str, ...]  # proofs of life of processes that have ended
    logs: tuple[doctor_logs.Log, ...]


def examine(path: Path, *, watch: float, integrity: bool) -> Report:
    """Look at a history for some time.

    Args:
        path: The file.
        watch: Seconds.
        integrity: Whether to read all of it for damage.

    Raises:
        StoreError: It cannot be read.
    """
    holder = writer_of(path)
    try:
        before = _read(path, integrity=False)
        if watch:
            time.sleep(watch)
        found = doctor_logs.find(folder_beside(path))
        after = _read(path, integrity=integrity)
    except sqlite3.Error as error:
        raise translate(error, path, 0.0) from error
    holds = holder if holder is not None and holder == writer_of(path) else None
    beats = {row[0]: row[1] for row in before["engines"]}
    folder = folder_beside(path)
    engines = tuple(_engine(row, folder, after["owned"], beats) for row in after["engines"])
    alive = {engine.id.bytes for engine in engines if engine.status in ("alive", "unknown")}
    meta = after["meta"]
    return Report(
        database=str(path),
        bytes=path.stat().st_size,
        wal_bytes=_size(path.with_name(f"{path.name}-wal")),
        schema=meta.get("schema", 0),
        min_writer=meta.get("min_writer", 0),
        integrity=after["integrity"],
        watched_seconds=watch,
        engines=engines,
        runs_of_dead_engines=sum(number for owner, number in after["owned"].items() if owner not in alive),
        writer_pid=holds,
        letters=after["letters"],
        files_left_behind=tuple(_left_behind(folder)),
        logs=doctor_logs.examine(
            folder, found, after["logs"], {row[4]: str(UUID(bytes=row[0])) for row in after["engines"]}
        ),
    )


def _read(path: Path, *, integrity: bool) -> dict[str, Any]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:

        def fetch(sql: str) -> list[Any]:
            return connection.execute(sql).fetchall()

        has_logs = bool(fetch("SELECT 1 FROM sqlite_master WHERE name = 'redo_log'"))  # since version 6
        return {
            "meta": dict(fetch("SELECT key, value FROM meta")),
            "engines": fetch(
                "SELECT id, beat, lease_us, machine, file, pid, host, lost, flows FROM engine ORDER BY started"
            ),
            "owned": dict(fetch("SELECT owner, count(*) FROM run WHERE owner IS NOT NULL GROUP BY owner")),
            "logs": {row[0]: row[1:] for row in fetch("SELECT name, settled, epoch FROM redo_log")} if has_logs else {},
            "letters": fetch("SELECT count(*) FROM mailbox WHERE answered IS NULL")[0][0],
            "integrity": tuple(row[0] for row in fetch("PRAGMA integrity_check")) if integrity else None,
        }
    finally:
        connection.close()


def _engine(row: Any, folder: Path, owned: dict[bytes, int], beats: dict[bytes, int]) -> Engine:
    id_, beat, lease, machine, file, pid, host, lost, flows = row
    status = "unknown"
    if lost:
        status = "lost"
    elif is_gone(folder, machine, file):
        status = "gone"
    elif machine and machine == machine_of(folder):
        status = "alive"
    return Engine(
        id=UUID(bytes=id_),
        status=status,
        beats=beats.get(id_, beat) != beat,
        lease_seconds=lease / 1e6,
        host=host,
        pid=pid,
        runs=owned.get(id_, 0),
        flows=msgspec.json.decode(flows, type=tuple[str, ...]),
    )


def writer_of(path: Path) -> int | None:
    """Give the process that holds the file for writing just now; `None` also where the system does not tell.

    Closing the file of shared memory lets go of what this process has locked in it: nothing else here may use the history.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        with path.with_name(f"{path.name}-shm").open("rb") as file:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, 0, _WRITE_LOCK, 1, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    except OSError:
        return None
    return None if kind == fcntl.F_UNLCK else int(pid)


def _left_behind(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(file.name for file in folder.iterdir() if len(file.name) == _NAME and is_free(file))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
