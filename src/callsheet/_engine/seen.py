"""Which events of a tree of runs somebody has been given: exactly while it watches, and as a cursor for later."""

from __future__ import annotations

import base64
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from callsheet._model.records import LogRecord, StateRecord

LATE: Final = 60_000_000
"""Microseconds by which a state may become readable after a newer one and still be told from the others by a cursor."""
LATE_LINES: Final = 5_000_000
"""The same for lines of logs, also while somebody watches: their times are not taken in the order of the history."""
_pack = msgspec.msgpack.Encoder().encode


class _Cursor(NamedTuple):
    """What a cursor says. Everything up to the marks was given, and beyond them what is named."""

    states: int
    lines: int
    runs: dict[bytes, int]  # the newest number given, by the end of the run's id
    keys: list[tuple[int, int]]  # of lines


_unpack = msgspec.msgpack.Decoder(_Cursor).decode
_NOTHING: Final = _Cursor(-1, -1, {}, [])


class Seen:
    """The events that were given.

    Args:
        cursor: What `cursor` gave, of an earlier reader of the same tree.

    Raises:
        ValueError: It is no such cursor.
    """

    def __init__(self, cursor: str | None = None) -> None:
        before = _NOTHING if cursor is None else _read(cursor)
        self._before = before
        self._runs: dict[UUID, tuple[int, int]] = {}  # the newest number given, and its time
        self._newest = before.states + LATE if cursor is not None else -1
        self._newest_line = before.lines + LATE_LINES if cursor is not None else -1
        self._lines: dict[tuple[int, int], None] = dict.fromkeys(before.keys)

    @property
    def lines_from(self) -> int | None:
        """From when on there may be lines that were not given; `None`: from the first."""
        return None if self._newest_line < 0 else self._newest_line - LATE_LINES

    def number(self, run_id: UUID) -> int:
        """Give the number of the newest state of a run that was given for certain; 0: none."""
        known = self._runs.get(run_id)
        return self._before.runs.get(_short(run_id), 0) if known is None else known[0]

    def has_state(self, state: StateRecord) -> bool:
        """Tell whether a state was given."""
        if state.seq <= self.number(state.run_id):
            return True
        return state.run_id not in self._runs and state.at <= self._before.states

    def has_line(self, line: LogRecord) -> bool:
        """Tell whether a line was given."""
        return line.at <= self._newest_line - LATE_LINES or (line.at, line.n) in self._lines

    def note(self, record: StateRecord | LogRecord) -> None:
        """Take note of what is being given."""
        if isinstance(record, StateRecord):
            self._runs[record.run_id] = record.seq, record.at
            self._newest = max(self._newest, record.at)
            return
        self._lines[record.at, record.n] = None
        if record.at > self._newest_line:
            self._newest_line = record.at
            self._forget_old_lines()

    def _forget_old_lines(self) -> None:
        oldest = self._newest_line - LATE_LINES
        for key in list(self._lines):
            if key[0] > oldest:  # they are in the order in which they were given, which is nearly that of time
                return
            del self._lines[key]

    def cursor(self) -> str:
        """Give what tells these events from others, later or elsewhere."""
        mark = max(self._newest - LATE, -1)
        runs = dict(self._before.runs) if mark < self._before.states + LATE else {}
        runs |= {_short(run_id): number for run_id, (number, at) in self._runs.items() if at > mark}
        lines = max(self._newest_line - LATE_LINES, -1)
        said = _Cursor(mark, lines, runs, [key for key in self._lines if key[0] > lines])
        return base64.urlsafe_b64encode(_pack(said)).decode()


def _short(run_id: UUID) -> bytes:
    return run_id.bytes[8:]  # the part that is random


def _read(cursor: str) -> _Cursor:
    problem: Any
    try:
        return _unpack(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError, msgspec.MsgspecError) as error:
        problem = error
    raise ValueError(f"This is no cursor of a watched run: {cursor!r:.60} ({problem})")
