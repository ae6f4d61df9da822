"""The objects that hooks, contexts and the client hand out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsheet._later import later
from callsheet._model.runs import (
    Constant,
    Flow,
    FlowRun,
    FlowRunInput,
    FlowRunPolicy,
    Log,
    Parameter,
    TaskRun,
    TaskRunInput,
    TaskRunPolicy,
    TaskRunResult,
)
from callsheet.states import TERMINAL_STATES, State, StateDetails, StateType

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
]

if not TYPE_CHECKING:
    __getattr__ = later(
        __name__,
        "Artifact",
        "ConcurrencyLimitConfig",
        "Deployment",
        "DeploymentSchedule",
        "Variable",
        "WorkPool",
        "WorkQueue",
        "Worker",
        "WorkerStatus",
    )
