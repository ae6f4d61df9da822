"""The current task run.

Attributes:
    id: Its id, as text; `None` outside of task runs.
    name: Its name.
    task_name: The name of its task.
    tags: Its tags.
    parameters: Its resolved parameters.
    run_count: How often its body was started; 0 outside of task runs.
    idempotency_token: Text that is the same in every attempt of this call, also after a crash, and in no other call: for
        services that do a thing once for each token. `None` outside of flow runs.
    api_url: Its address in the API, where ``CALLSHEET_API_URL`` is set.
    ui_url: Its address in the user interface, where ``CALLSHEET_UI_URL`` is set.

Every attribute can be mocked in tests: by patching an item of `FIELDS`, or, if it is a number or text, by a variable
such as ``CALLSHEET__RUNTIME__TASK_RUN__NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callsheet.runtime import _fields

if TYPE_CHECKING:
    id: str | None
    name: str | None
    task_name: str | None
    tags: list[str]
    parameters: dict[str, Any]
    run_count: int
    idempotency_token: str | None
    api_url: str | None
    ui_url: str | None

__all__ = ["api_url", "id", "idempotency_token", "name", "parameters", "run_count", "tags", "task_name", "ui_url"]


def __getattr__(name: str) -> Any:
    return _fields.look_up(__name__, FIELDS, name)


def __dir__() -> list[str]:
    return sorted(FIELDS)


def _task_run() -> Any:
    return getattr(_fields.task_context(), "task_run", None)


def _get_id() -> str | None:
    run = _task_run()
    return None if run is None else str(run.id)


def _get_name() -> str | None:
    return getattr(_task_run(), "name", None)


def _get_task_name() -> str | None:
    return getattr(getattr(_fields.task_context(), "task", None), "name", None)


def _get_tags() -> list[str]:
    run = _task_run()
    return [] if run is None else list(run.tags)


def _get_parameters() -> dict[str, Any]:
    context = _fields.task_context()
    return {} if context is None else dict(context.parameters)


def _get_run_count() -> int:
    return getattr(_task_run(), "run_count", 0)


def _get_idempotency_token() -> str | None:
    return getattr(_fields.task_context(), "idempotency_token", None)


def _get_api_url() -> str | None:
    return _fields.api_url("task_runs", _get_id())


def _get_ui_url() -> str | None:
    return _fields.ui_url("runs/task-run", _get_id())


FIELDS: dict[str, Callable[[], Any]] = {
    "id": _get_id,
    "name": _get_name,
    "task_name": _get_task_name,
    "tags": _get_tags,
    "parameters": _get_parameters,
    "run_count": _get_run_count,
    "idempotency_token": _get_idempotency_token,
    "api_url": _get_api_url,
    "ui_url": _get_ui_url,
}
