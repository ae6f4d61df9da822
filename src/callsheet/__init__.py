"""Flows and tasks as actors inside your own process, on asyncio and trio, with their history in SQLite.

Every name is imported when it is first used, so that ``import callsheet`` costs next to nothing.

Example:
    >>> from callsheet import flow, task
    >>> @task
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> @flow
    ... def add_up(upto: int) -> int:
    ...     return sum(double.map(range(upto)).result())
    >>> add_up(4)
    12
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from callsheet._version import __version__

if TYPE_CHECKING:
    from callsheet import cache_policies as cache_policies
    from callsheet import client as client
    from callsheet import context as context
    from callsheet import events as events
    from callsheet import exceptions as exceptions
    from callsheet import filesystems as filesystems
    from callsheet import flow_engine as flow_engine
    from callsheet import flow_runs as flow_runs
    from callsheet import flows as flows
    from callsheet import futures as futures
    from callsheet import input as input  # noqa: A004 - the module is called so
    from callsheet import locking as locking
    from callsheet import logging as logging
    from callsheet import main as main
    from callsheet import queries as queries
    from callsheet import records as records
    from callsheet import reruns as reruns
    from callsheet import results as results
    from callsheet import run_keys as run_keys
    from callsheet import runtime as runtime
    from callsheet import serializers as serializers
    from callsheet import settings as settings
    from callsheet import states as states
    from callsheet import task_engine as task_engine
    from callsheet import task_runners as task_runners
    from callsheet import task_runs as task_runs
    from callsheet import tasks as tasks
    from callsheet import testing as testing
    from callsheet import transactions as transactions
    from callsheet import utilities as utilities
    from callsheet import waits as waits
    from callsheet._engine.engine import Engine as Engine
    from callsheet._kernel.driver import drive as drive
    from callsheet._later import deploy as deploy
    from callsheet._later import serve as serve
    from callsheet.annotations import allow_failure as allow_failure
    from callsheet.annotations import unmapped as unmapped
    from callsheet.client.orchestration import get_client as get_client
    from callsheet.context import tags as tags
    from callsheet.events import watch as watch
    from callsheet.flow_runs import pause_flow_run as pause_flow_run
    from callsheet.flow_runs import resume_flow_run as resume_flow_run
    from callsheet.flow_runs import suspend_flow_run as suspend_flow_run
    from callsheet.flows import Flow as Flow
    from callsheet.flows import flow as flow
    from callsheet.logging.loggers import get_run_logger as get_run_logger
    from callsheet.queries import on_query as on_query
    from callsheet.queries import query_flow_run as query_flow_run
    from callsheet.reruns import patched as patched
    from callsheet.run_keys import run_key as run_key
    from callsheet.states import State as State
    from callsheet.tasks import Task as Task
    from callsheet.tasks import task as task
    from callsheet.transactions import Transaction as Transaction
    from callsheet.waits import send_signal as send_signal
    from callsheet.waits import sleep as sleep
    from callsheet.waits import sleep_until as sleep_until
    from callsheet.waits import wait_signal as wait_signal

# The modules that programs reach by attributes, without importing each of them. (Not `annotations`: the name stands for
# the future here.)
_MODULES = {
    "cache_policies", "client", "context", "events", "exceptions", "filesystems", "flow_engine", "flow_runs", "flows",
    "futures", "input", "locking", "logging", "main", "queries", "records", "reruns", "results", "run_keys", "runtime",
    "serializers", "settings", "states", "task_engine", "task_runners", "task_runs", "tasks", "testing",
    "transactions", "utilities", "waits",
}  # fmt: skip
# Name → the module that has it.
_HOMES: dict[str, str] = {
    "Engine": "callsheet._engine.engine",
    "Flow": "callsheet.flows",
    "State": "callsheet.states",
    "Task": "callsheet.tasks",
    "Transaction": "callsheet.transactions",
    "allow_failure": "callsheet.annotations",
    "deploy": "callsheet._later",
    "drive": "callsheet._kernel.driver",
    "flow": "callsheet.flows",
    "get_client": "callsheet.client.orchestration",
    "get_run_logger": "callsheet.logging.loggers",
    "on_query": "callsheet.queries",
    "patched": "callsheet.reruns",
    "pause_flow_run": "callsheet.flow_runs",
    "query_flow_run": "callsheet.queries",
    "resume_flow_run": "callsheet.flow_runs",
    "run_key": "callsheet.run_keys",
    "send_signal": "callsheet.waits",
    "serve": "callsheet._later",
    "sleep": "callsheet.waits",
    "sleep_until": "callsheet.waits",
    "suspend_flow_run": "callsheet.flow_runs",
    "tags": "callsheet.context",
    "task": "callsheet.tasks",
    "unmapped": "callsheet.annotations",
    "wait_signal": "callsheet.waits",
    "watch": "callsheet.events",
}

__all__ = [
    "Engine",
    "Flow",
    "State",
    "Task",
    "Transaction",
    "__version__",
    "allow_failure",
    "deploy",
    "drive",
    "flow",
    "get_client",
    "get_run_logger",
    "on_query",
    "patched",
    "pause_flow_run",
    "query_flow_run",
    "resume_flow_run",
    "run_key",
    "runtime",
    "send_signal",
    "serve",
    "sleep",
    "sleep_until",
    "states",
    "suspend_flow_run",
    "tags",
    "task",
    "unmapped",
    "wait_signal",
    "watch",
]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"callsheet.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'callsheet' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
