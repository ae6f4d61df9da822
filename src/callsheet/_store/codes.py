"""State types as small numbers, and names that need not be written. The numbers are in files: never change one."""

from __future__ import annotations

from callsheet._model.kinds import TERMINAL_STATES, StateType

TYPES: tuple[StateType, ...] = (
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.COMPLETED,
    StateType.FAILED,
    StateType.CANCELLED,
    StateType.CRASHED,
    StateType.PAUSED,
    StateType.CANCELLING,
)
CODES = {kind: code for code, kind in enumerate(TYPES)}
PENDING = CODES[StateType.PENDING]
RUNNING = CODES[StateType.RUNNING]
COMPLETED = CODES[StateType.COMPLETED]
PAUSED = CODES[StateType.PAUSED]
TERMINAL = frozenset(CODES[kind] for kind in TERMINAL_STATES)
TERMINALS = ",".join(map(str, sorted(TERMINAL)))  # for SQL
USUAL_NAMES = {kind: kind.value.capitalize() for kind in TYPES}


def type_of(code: int) -> StateType:
    """Give the type that a number in a file stands for."""
    return TYPES[code]


def name_of(code: int, name: str | None) -> str:
    """Give the name of a state, which is its type's own where none was written."""
    return USUAL_NAMES[TYPES[code]] if name is None else name
