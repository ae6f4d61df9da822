"""The current run as attributes of modules: `runtime.flow_run.name` and so on.

Example:
    >>> from callsheet import flow, runtime
    >>> @flow(flow_run_name="nightly")
    ... def my_flow() -> str:
    ...     return runtime.flow_run.name
    >>> my_flow()
    'nightly'
"""

from callsheet.runtime import deployment, flow_run, task_run

__all__ = ["deployment", "flow_run", "task_run"]
