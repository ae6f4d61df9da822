"""What goes into and comes out of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsheet.client.schemas import actions, filters, objects, responses, sorting
from callsheet.client.schemas.objects import (
    TERMINAL_STATES,
    Constant,
    Flow,
    FlowRun,
    FlowRunInput,
    FlowRunPolicy,
    Log,
    Parameter,
    State,
    StateDetails,
    StateType,
    TaskRun,
    TaskRunInput,
    TaskRunPolicy,
    TaskRunResult,
)

__all__ = [
    "TERMINAL_STATES",
    "Constant",
    "Flow",
    "FlowRun",
    "FlowRunInput",
    "FlowRunPolicy",
    "Log",
    "Parameter",
    "State",
    "StateDetails",
    "StateType",
    "TaskRun",
    "TaskRunInput",
    "TaskRunPolicy",
    "TaskRunResult",
    "actions",
    "filters",
    "objects",
    "responses",
    "sorting",
]

if not TYPE_CHECKING:
    __getattr__ = objects.__getattr__  # what there is not yet
