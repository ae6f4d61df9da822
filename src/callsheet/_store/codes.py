"""State types as small numbers, and names that need not be written. The numbers are in files: never change one."""

from __future__ import annotations

from callsheet._model.kinds import TERMINAL_STATES, StateType

TYPES = (
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
RUNNING = CODES[StateType.RUNNING]
COMPLETED = CODES[StateType.COMPLETED]
TERMINAL = frozenset(CODES[kind] for kind in TERMINAL_STATES)
USUAL_NAMES = {kind: kind.value.capitalize() for kind in TYPES}
USUAL_NAME_OF_CODE = tuple(USUAL_NAMES[kind] for kind in TYPES)
