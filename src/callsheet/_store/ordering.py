"""Orders of runs: what is compared, in SQL and in memory, and where a page ended."""

from __future__ import annotations

import msgspec

from callsheet._model.kinds import TERMINAL_STATES, RunOrder
from callsheet._model.records import RunRecord
from callsheet._store.codes import TERMINALS

Place = tuple[int | bytes, bytes]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int | bytes, bytes]).decode

EXPECTED = "coalesce(run.due_at, run.created)"
EXPRESSIONS: dict[RunOrder, str] = {
    # As bytes: names are compared as SQLite compares them, also in memory.
    RunOrder.NAME: "CAST(run.name AS BLOB)",
    RunOrder.EXPECTED: EXPECTED,
    RunOrder.STARTED: f"coalesce(run.started, {EXPECTED})",
    RunOrder.ENDED: f"CASE WHEN run.state_type IN ({TERMINALS}) THEN run.state_at ELSE -1 END",
}


def place(run: RunRecord, order: RunOrder) -> Place:
    """Give where a run stands in an order."""
    match order:
        case RunOrder.CREATED:
            return 0, run.id.bytes
        case RunOrder.NAME:
            return run.name.encode("utf-8", "surrogatepass"), run.id.bytes
        case RunOrder.EXPECTED:
            return _expected(run), run.id.bytes
        case RunOrder.STARTED:
            return _expected(run) if run.started is None else run.started, run.id.bytes
        case RunOrder.ENDED:
            state = run.state
            return state.at if state is not None and state.type in TERMINAL_STATES else -1, run.id.bytes


def _expected(run: RunRecord) -> int:
    return run.created if run.due_at is None else run.due_at


def cursor_after(run: RunRecord, order: RunOrder) -> bytes:
    """Give the cursor that continues after a run."""
    return run.id.bytes if order is RunOrder.CREATED else _pack(place(run, order))


def place_after(cursor: bytes, order: RunOrder) -> Place:
    """Give the place from which a cursor continues.

    Raises:
        ValueError: it is no cursor of this order.
    """
    if order is RunOrder.CREATED:
        if len(cursor) == 16:
            return 0, cursor
    else:
        try:
            value, run_id = _unpack(cursor)
        except msgspec.MsgspecError:
            pass
        else:
            if isinstance(value, bytes) is (order is RunOrder.NAME):
                return value, run_id
    raise ValueError(f"The cursor does not continue a page of runs in the order '{order.value}'.")
