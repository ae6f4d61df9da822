"""The deployment that the current flow run came from.

Attributes:
    id: Its id, as text; `None` where the run came from none.
    name: Its name.
    version: The version that the run was made from.
    flow_run_id: The flow run's id, as text.
    parameters: The parameters with which the flow run was made.

Every attribute can be mocked in tests: by patching an item of `FIELDS`, or, if it is text, by a variable such as
``CALLSHEET__RUNTIME__DEPLOYMENT__NAME``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from callsheet.runtime import _fields

if TYPE_CHECKING:
    id: str | None
    name: str | None
    version: str | None
    flow_run_id: str | None
    parameters: dict[str, Any]

__all__ = ["flow_run_id", "id", "name", "parameters", "version"]


def __getattr__(name: str) -> Any:
    return _fields.look_up(__name__, FIELDS, name)


def __dir__() -> list[str]:
    return sorted(FIELDS)


def _deployment_id() -> Any:
    return getattr(_fields.flow_run(), "deployment_id", None)


def _get_id() -> str | None:
    found = _deployment_id()
    return None if found is None else str(found)


def _get_name() -> str | None:
    found = _deployment_id()
    return None if found is None else _fields.from_history(lambda client: client.read_deployment(found)).name


def _get_version() -> str | None:
    return getattr(_fields.flow_run(), "deployment_version", None)


def _get_flow_run_id() -> str | None:
    found = _fields.flow_run_id()
    return None if found is None else str(found)


def _get_parameters() -> dict[str, Any]:
    run = _fields.flow_run()
    return {} if run is None else dict(run.parameters)


FIELDS: dict[str, Callable[[], Any]] = {
    "id": _get_id,
    "name": _get_name,
    "version": _get_version,
    "flow_run_id": _get_flow_run_id,
    "parameters": _get_parameters,
}
