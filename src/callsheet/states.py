"""States of runs: making them, asking them, and what follows from them."""

from __future__ import annotations

from callsheet._engine.state_values import (
    aget_state_exception,
    aget_state_result,
    araise_state_exception,
    exception_to_crashed_state,
    exception_to_failed_state,
    get_state_exception,
    get_state_result,
    raise_state_exception,
    return_value_to_state,
)
from callsheet._model.kept import NOT_RECORDED
from callsheet._model.kinds import TERMINAL_STATES, StateType
from callsheet._model.outcomes import (
    AwaitingConcurrencySlot,
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Late,
    Paused,
    Pending,
    Retrying,
    Running,
    Scheduled,
    StateGroup,
    Suspended,
    is_state,
    is_state_iterable,
)
from callsheet._model.states import State, StateDetails

__all__ = [
    "NOT_RECORDED",
    "TERMINAL_STATES",
    "AwaitingConcurrencySlot",
    "AwaitingRetry",
    "Cancelled",
    "Cancelling",
    "Completed",
    "Crashed",
    "Failed",
    "Late",
    "Paused",
    "Pending",
    "Retrying",
    "Running",
    "Scheduled",
    "State",
    "StateDetails",
    "StateGroup",
    "StateType",
    "Suspended",
    "aget_state_exception",
    "aget_state_result",
    "araise_state_exception",
    "exception_to_crashed_state",
    "exception_to_failed_state",
    "get_state_exception",
    "get_state_result",
    "is_state",
    "is_state_iterable",
    "raise_state_exception",
    "return_value_to_state",
]
