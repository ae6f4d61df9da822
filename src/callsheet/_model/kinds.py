"""The small closed vocabularies that every layer shares."""

from __future__ import annotations

import sys
from enum import Enum, EnumType, IntEnum


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


SUSPENDED = "Suspended"
"""The name of the Paused state in which a flow run is in no process."""
SUSPENDING = "Suspending"
"""The name of the Paused state in which a flow run's branches leave, or finish what they had begun."""
TERMINAL_STATES = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED})


class RunOrder(str, Enum):
    """By what runs are put in order. Where two are equal, their ids decide."""

    CREATED = "created"
    NAME = "name"
    EXPECTED = "expected"  # when the run was to start
    STARTED = "started"  # when it started or, if it has not, was to start
    ENDED = "ended"  # what has not ended comes before everything that has


class Durability(str, Enum):
    """What is on disk before a caller goes on; `docs/guarantees.md` has the table."""

    OFF = "off"
    RELAXED = "relaxed"
    RESULTS = "results"
    STRICT = "strict"


def _with_quick_members(*kinds: EnumType) -> None:
    """Let members be found in 3.11 as later versions find them: as plain attributes, not by a property of 150 ns."""
    for kind in kinds:
        for name, member in kind.__members__.items():
            type.__setattr__(kind, name, member)


if sys.version_info < (3, 12):
    _with_quick_members(Kind, StateType, RunOrder, Durability)
