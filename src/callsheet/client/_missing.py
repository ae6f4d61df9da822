"""Methods that programs may look for on a client, and that there are not: what to use in their place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

_CALL: Final = "Call the flow, or use `flow.submit(…)` in a flow; `with run_key(…)` starts a run only once."
_NOTHING_GOES: Final = "Nothing can be deleted from a history yet."
_NO_DEPLOYMENTS: Final = "There are no deployments yet."
_NO_POOLS: Final = "There are no work pools yet."
_INSTEAD: Final = {
    "create_flow_run": _CALL,
    "create_flow_run_from_deployment": f"{_NO_DEPLOYMENTS} {_CALL}",
    "create_flow": "A flow is known from its first run on.",
    "update_flow_run": "Names and tags are given where a flow is called: `flow.with_options(flow_run_name=…)`, `tags(…)`.",
    "set_task_run_name": "Names are given where a task is called: `task.with_options(task_run_name=…)`.",
    "set_flow_run_name": "Names are given where a flow is called: `flow.with_options(flow_run_name=…)`.",
    "delete_flow_run": _NOTHING_GOES,
    "delete_task_run": _NOTHING_GOES,
    "delete_flow": _NOTHING_GOES,
    "cancel_flow_run": "Use `callsheet.flow_runs.cancel_flow_run(id)`.",
    "api_healthcheck": "Use `hello()`.",
    "create_deployment": _NO_DEPLOYMENTS,
    "read_deployment": _NO_DEPLOYMENTS,
    "read_deployment_by_name": _NO_DEPLOYMENTS,
    "read_deployments": _NO_DEPLOYMENTS,
    "read_work_pool": _NO_POOLS,
    "read_workers_for_work_pool": _NO_POOLS,
    "create_logs": "Lines of a run are written in it, by `get_run_logger()`.",
}


class Missing:
    """Says what to use in the place of a method that there is not."""

    if not TYPE_CHECKING:  # a type checker is to say itself that there is no such method

        def __getattr__(self, name: str) -> object:
            instead = _INSTEAD.get(name)
            said = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(said if instead is None else f"{said}. {instead}", name=name, obj=self)
