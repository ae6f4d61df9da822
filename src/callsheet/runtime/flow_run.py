"""The current flow run. Outside of runs, the one that ``CALLSHEET__FLOW_RUN_ID`` names, as history has it.

Attributes:
    id: Its id, as text; `None` outside of runs.
    tags: Its tags.
    scheduled_start_time: When it was to start (UTC); outside of runs: now.
    name: Its name.
    flow_name: The name of its flow.
    flow_version: The version of its flow.
    parameters: Its parameters.
    parent_flow_run_id: The flow run that it is a subflow of.
    root_flow_run_id: The outermost flow run around it, itself if there is none.
    parent_deployment_id: The deployment of the flow run that it is a subflow of.
    run_count: How often its body was started; 0 outside of runs.
    api_url: Its address in the API, where ``CALLSHEET_API_URL`` is set.
    ui_url: Its address in the user interface, where ``CALLSHEET_UI_URL`` is set.

Every attribute can be mocked in tests: by patching an item of `FIELDS`, or, if it is a number, text, truth value or
time, by a variable such as ``CALLSHEET__RUNTIME__FLOW_RUN__NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from callsheet._clock import utc_now
from callsheet.runtime import _fields

if TYPE_CHECKING:
    id: str | None
    tags: list[str]
    scheduled_start_time: datetime
    name: str | None
    flow_name: str | None
    flow_version: str | None
    parameters: dict[str, Any]
    parent_flow_run_id: str | None
    root_flow_run_id: str | None
    parent_deployment_id: str | None
    run_count: int
    api_url: str | None
    ui_url: str | None

__all__ = [
    "api_url",
    "flow_name",
    "flow_version",
    "id",
    "name",
    "parameters",
    "parent_deployment_id",
    "parent_flow_run_id",
    "root_flow_run_id",
    "run_count",
    "scheduled_start_time",
    "tags",
    "ui_url",
]


def __getattr__(name: str) -> Any:
    return _fields.look_up(__name__, FIELDS, name)


def __dir__() -> list[str]:
    return sorted(FIELDS)


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _get_id() -> str | None:
    return _text(_fields.flow_run_id())


def _get_tags() -> list[str]:
    run = _fields.flow_run()
    return [] if run is None else list(run.tags)


def _get_name() -> str | None:
    return getattr(_fields.flow_run(), "name", None)


def _get_scheduled_start_time() -> datetime:
    return getattr(_fields.flow_run(), "expected_start_time", None) or utc_now()


def _get_flow_name() -> str | None:
    flow = getattr(_fields.flow_context(), "flow", None)
    if flow is not None:
        return flow.name
    flow_id = getattr(_fields.flow_run(), "flow_id", None)
    return None if flow_id is None else _fields.from_history(lambda client: client.read_flow(flow_id)).name


def _get_flow_version() -> str | None:
    flow = getattr(_fields.flow_context(), "flow", None)
    return flow.version if flow is not None else getattr(_fields.flow_run(), "flow_version", None)


def _get_parameters() -> dict[str, Any]:
    context = _fields.flow_context()
    source = _fields.flow_run() if context is None else context
    return {} if source is None else dict(source.parameters)


def _parent(run: Any) -> Any:
    """Give the flow run around a subflow's, as history has it: two steps up, by its tracking task run."""
    if run is None or run.parent_task_run_id is None:
        return None
    tracking = _fields.from_history(lambda client: client.read_task_run(run.parent_task_run_id))
    return _fields.from_history(lambda client: client.read_flow_run(tracking.flow_run_id))


def _live_ids() -> list[UUID] | None:
    """Give the ids of the current flow run and those around it, inside out, where the run is alive here.

    History may not have been written yet, and reading it from a running body would be slow.
    """
    cell = getattr(getattr(_fields.flow_context(), "_run", None), "cell", None)
    if cell is None:
        return None
    ids: list[UUID] = []
    while cell is not None:
        ids.append(cell.id)
        cell = cell.flow
    return ids


def _get_parent_flow_run_id() -> str | None:
    ids = _live_ids()
    if ids is not None:
        return _text(ids[1]) if len(ids) > 1 else None
    return _text(getattr(_parent(_fields.flow_run()), "id", None))


def _get_root_flow_run_id() -> str | None:
    ids = _live_ids()
    if ids is not None:
        return _text(ids[-1])
    run = _fields.flow_run()
    while (parent := _parent(run)) is not None:
        run = parent
    return _text(getattr(run, "id", None))


def _get_parent_deployment_id() -> str | None:
    cell = getattr(getattr(_fields.flow_context(), "_run", None), "cell", None)
    if cell is not None:
        return None if cell.flow is None else _text(cell.flow.actor.record.deployment_id)
    return _text(getattr(_parent(_fields.flow_run()), "deployment_id", None))


def _get_run_count() -> int:
    run = _fields.flow_run()
    return 0 if run is None else run.run_count


def _get_api_url() -> str | None:
    return _fields.api_url("flow_runs", _get_id())


def _get_ui_url() -> str | None:
    return _fields.ui_url("runs/flow-run", _get_id())


FIELDS: dict[str, Callable[[], Any]] = {
    "id": _get_id,
    "tags": _get_tags,
    "scheduled_start_time": _get_scheduled_start_time,
    "name": _get_name,
    "flow_name": _get_flow_name,
    "flow_version": _get_flow_version,
    "parameters": _get_parameters,
    "parent_flow_run_id": _get_parent_flow_run_id,
    "root_flow_run_id": _get_root_flow_run_id,
    "parent_deployment_id": _get_parent_deployment_id,
    "run_count": _get_run_count,
    "api_url": _get_api_url,
    "ui_url": _get_ui_url,
}
