"""The names that most programs use, in one module."""

from __future__ import annotations

from callsheet._later import deploy, serve
from callsheet.annotations import allow_failure, unmapped
from callsheet.client.orchestration import get_client
from callsheet.context import tags
from callsheet.flow_runs import pause_flow_run, resume_flow_run, suspend_flow_run
from callsheet.flows import Flow, flow
from callsheet.logging.loggers import get_run_logger
from callsheet.states import State
from callsheet.tasks import Task, task
from callsheet.transactions import Transaction

__all__ = [
    "Flow",
    "State",
    "Task",
    "Transaction",
    "allow_failure",
    "deploy",
    "flow",
    "get_client",
    "get_run_logger",
    "pause_flow_run",
    "resume_flow_run",
    "serve",
    "suspend_flow_run",
    "tags",
    "task",
    "unmapped",
]
