"""The small closed vocabularies that every layer shares."""

from __future__ import annotations

from enum import Enum, IntEnum


class Kind(IntEnum):
    """What a run is a run of."""

    FLOW = 0
    TASK = 1


class StateType(str, Enum):
    """The nine types of state; names refine them (see `DESIGN` section 5)."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"


TERMINAL_STATES = frozenset(
    {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
)


class Durability(str, Enum):
    """What is on disk before a caller goes on; `docs/guarantees.md` has the table."""

    OFF = "off"
    RELAXED = "relaxed"
    RESULTS = "results"
    STRICT = "strict"
