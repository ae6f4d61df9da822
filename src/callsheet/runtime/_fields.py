"""What the modules of `callsheet.runtime` share: attributes from functions, and mocks from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.settings import get_current_settings


def _to_bool(text: str) -> bool:
    return text.strip().lower() in {"true", "1", "yes", "on"}


_CASTS: dict[type, Callable[[str], Any]] = {
    bool: _to_bool,
    int: int,
    float: float,
    str: str,
    datetime: datetime.fromisoformat,
    type(None): str,
}


def look_up(module: str, fields: Mapping[str, Callable[[], Any]], name: str) -> Any:
    """Give an attribute, or what the environment has in its place.

    Args:
        module: The module's full name.
        fields: Its attributes.
        name: The attribute that is asked for.

    Raises:
        AttributeError: There is no such attribute.
        ValueError: The environment mocks an attribute that has no simple type.
    """
    variable = f"CALLSHEET__RUNTIME__{module.rpartition('.')[2].upper()}__{name.upper()}"
    mock = os.environ.get(variable)
    if name not in fields:
        if mock is not None and not name.startswith("__"):
            return mock
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    value: object = fields[name]()
    if mock is None:
        return value
    cast = _CASTS.get(type(value))
    if cast is None:
        kind = type(value).__name__
        raise ValueError(f"'{name}' is a {kind} and cannot be mocked by {variable}; patch FIELDS['{name}'] instead.")
    return cast(mock)


# ------------------------------------------------------------------------------------- the run that is meant


def flow_context() -> Any:
    """Give the context of the current flow run, or `None`."""
    return FlowRunContext.get()


def task_context() -> Any:
    """Give the context of the current task run, or `None`."""
    return TaskRunContext.get()


def flow_run_id() -> UUID | None:
    """Give the flow run's id: of the contexts, or outside of runs of ``CALLSHEET__FLOW_RUN_ID``."""
    if (flow := flow_context()) is not None:
        return flow.flow_run.id
    if (task := task_context()) is not None:
        return task.task_run.flow_run_id
    given = os.environ.get("CALLSHEET__FLOW_RUN_ID")
    return UUID(given) if given else None


def flow_run() -> Any:
    """Give the flow run: the one in the context, or as history has it, or `None`."""
    if (flow := flow_context()) is not None:
        return flow.flow_run
    run_id = flow_run_id()
    return None if run_id is None else from_history(lambda client: client.read_flow_run(run_id))


def from_history(read: Callable[[Any], Any]) -> Any:
    """Give what a client reads."""
    from callsheet.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return read(client)


def url(base: str | None, path: str, run_id: object) -> str | None:
    """Give an address below one of the settings, or `None` where the setting or the run is missing."""
    return f"{base.rstrip('/')}/{path}/{run_id}" if base and run_id is not None else None


def api_url(path: str, run_id: object) -> str | None:
    """Give a run's address in the API."""
    return url(get_current_settings().api_url, path, run_id)


def ui_url(path: str, run_id: object) -> str | None:
    """Give a run's address in the user interface."""
    return url(get_current_settings().ui_url, path, run_id)
