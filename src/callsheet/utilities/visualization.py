"""The graph of a flow: which calls it makes and which goes into which, found without running any of them.

While a `TaskVizTracker` is entered, calls of tasks and flows run no body. Each leaves a node (`VizTask`) and gives it
back; a node among the arguments of another call is an edge. `Flow.visualize` does all of this.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Coroutine, Mapping
from contextvars import ContextVar, Token
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from callsheet.exceptions import CallsheetError, MissingDependency
from callsheet.logging import get_logger
from callsheet.utilities.collections import find, trace

if TYPE_CHECKING:
    import graphviz

__all__ = [
    "FlowVisualizationError",
    "GraphvizExecutableNotFoundError",
    "GraphvizImportError",
    "TaskVizTracker",
    "VisualizationUnsupportedError",
    "VizTask",
    "build_task_dependencies",
    "get_task_viz_tracker",
    "require_graphviz",
    "track_viz_task",
    "visualize_task_dependencies",
]

_UNTRACKED: frozenset[type] = frozenset({bool, type(None), type(Ellipsis), type(NotImplemented)})


class FlowVisualizationError(CallsheetError):
    """Raised when a flow's graph cannot be built or drawn."""


class VisualizationUnsupportedError(CallsheetError):
    """Raised when a flow does what cannot be followed without running it, such as `submit` and `map`."""


class GraphvizImportError(MissingDependency):
    """Raised when the Python package for drawing is not installed."""

    def __init__(self) -> None:
        super().__init__("graphviz", "viz")


class GraphvizExecutableNotFoundError(CallsheetError):
    """Raised when the program that draws, `dot`, is not installed."""


class VizTask:
    """A node: one call of a task or a flow.

    Attributes:
        name: The name of the task or flow and, once added to a tracker, a number.
        upstream_tasks: The nodes that go into it.
    """

    __slots__ = ("__weakref__", "name", "upstream_tasks")

    def __init__(self, name: str, upstream_tasks: list[VizTask] | None = None) -> None:
        self.name = name
        self.upstream_tasks: list[VizTask] = list(upstream_tasks or ())

    def __repr__(self) -> str:
        return f"VizTask({self.name!r})"


class TaskVizTracker:
    """Collects the nodes of the calls that are made while it is entered.

    Attributes:
        tasks: The nodes, in the order of the calls.
        dynamic_task_counter: The last number that was given to a name.
        object_id_to_task: Which node gave an object, by the object's `id`.

    Example:
        >>> from callsheet import task
        >>> @task
        ... def double(x):
        ...     return 2 * x
        >>> with TaskVizTracker() as tracker:
        ...     last = double(double(1))
        >>> tracker.tasks, last.upstream_tasks
        ([VizTask('double-0'), VizTask('double-1')], [VizTask('double-0')])
    """

    def __init__(self) -> None:
        self.tasks: list[VizTask] = []
        self.dynamic_task_counter: dict[str, int] = {}
        self.object_id_to_task: dict[int, VizTask] = {}
        self._kept: list[object] = []  # an object that is gone would pass its id to another
        self._token: Token[TaskVizTracker | None] | None = None

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError("This tracker is entered already.")
        self._token = _tracker.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _tracker.reset(self._token)
            self._token = None

    def add_task(self, task: VizTask) -> None:
        """Add a node and number it: ``name-0``, ``name-1`` and so on."""
        number = self.dynamic_task_counter[task.name] = self.dynamic_task_counter.get(task.name, -1) + 1
        task.name = f"{task.name}-{number}"
        self.tasks.append(task)

    def link_viz_return_value_to_viz_task(self, viz_return_value: object, viz_task: VizTask) -> None:
        """Remember, by identity, which node gave an object.

        Objects of which Python has only one, such as `None`, truth values and small numbers, are left out: finding
        them again says nothing about where they came from.

        Args:
            viz_return_value: The object.
            viz_task: The node that gave it.
        """
        if type(viz_return_value) in _UNTRACKED:
            return
        if isinstance(viz_return_value, int) and -5 <= viz_return_value <= 256:
            return
        self.object_id_to_task[id(viz_return_value)] = viz_task
        self._kept.append(viz_return_value)

    def upstream_of(self, parameters: Mapping[str, Any]) -> list[VizTask]:
        """Give the nodes that go into a call: those among its arguments, and those that gave one of them."""
        values = list(parameters.values())
        found: list[VizTask] = [*find(values, (VizTask,)), *trace(values, self.object_id_to_task)]
        return list(dict.fromkeys(found))


_tracker: ContextVar[TaskVizTracker | None] = ContextVar("callsheet_viz_tracker", default=None)


def get_task_viz_tracker() -> TaskVizTracker | None:
    """Give the tracker that is entered here, or `None`.

    Example:
        >>> get_task_viz_tracker() is None
        True
    """
    return _tracker.get()


def track_viz_task(
    is_async: bool, task_name: str, parameters: Mapping[str, Any], viz_return_value: object = None
) -> Any:
    """Leave a node of a call with the tracker that is entered here.

    Args:
        is_async: Whether the call would give a coroutine.
        task_name: Name of the task or flow.
        parameters: What it is called with.
        viz_return_value: What the call gives in place of the node, if that is true.

    Returns:
        The node or `viz_return_value`; a coroutine of it if the call is async.

    Raises:
        RuntimeError: No tracker is entered.

    Example:
        >>> with TaskVizTracker() as tracker:
        ...     track_viz_task(False, "load", {}, viz_return_value=[1, 2])
        [1, 2]
    """
    tracker = get_task_viz_tracker()
    if tracker is None:
        raise RuntimeError("Nothing is being visualized here: enter a TaskVizTracker first.")
    node = VizTask(task_name, tracker.upstream_of(parameters))
    tracker.add_task(node)
    result: object = node
    if viz_return_value:
        tracker.link_viz_return_value_to_viz_task(viz_return_value, node)
        result = viz_return_value
    return _later(result) if is_async else result


def _later(result: object) -> Coroutine[Any, Any, object]:
    async def give() -> object:
        return result

    return give()


# ------------------------------------------------------------------------------------------------- drawing


def require_graphviz() -> Any:
    """Give the package that draws.

    Raises:
        GraphvizImportError: It is not installed.
    """
    try:
        import graphviz
    except ImportError:
        raise GraphvizImportError from None
    return graphviz


def build_task_dependencies(task_run_tracker: TaskVizTracker) -> graphviz.Digraph:
    """Make a graph of the nodes of a tracker.

    Args:
        task_run_tracker: The tracker.

    Returns:
        A `graphviz.Digraph`. Its `source` is text in the DOT language; drawing it needs the program `dot`.

    Raises:
        GraphvizImportError: The Python package graphviz is not installed.
        FlowVisualizationError: The graph cannot be made.

    Example:
        >>> with TaskVizTracker() as tracker:
        ...     total = track_viz_task(False, "add", {"x": track_viz_task(False, "load", {})})
        >>> print(build_task_dependencies(tracker).source.expandtabs(4).strip())
        digraph {
            "load-0"
            "add-0"
            "load-0" -> "add-0"
        }
    """
    library = require_graphviz()
    try:
        graph = library.Digraph()
        for task in task_run_tracker.tasks:
            graph.node(_node_id(task), label=library.escape(task.name) if _node_id(task) != task.name else None)
            for upstream in task.upstream_tasks:
                graph.edge(_node_id(upstream), _node_id(task))
    except Exception as error:
        raise FlowVisualizationError(f"The flow's graph could not be built: {error}") from error
    return graph


def _node_id(task: VizTask) -> str:
    """Give the name without what means something else in DOT: ports after a colon, escapes."""
    return task.name.replace(":", "_").replace("\\", "_")


def visualize_task_dependencies(graph: graphviz.Digraph, flow_run_name: str) -> None:
    """Show a graph: in a notebook in place, elsewhere as ``{flow_run_name}.png`` in the working folder.

    The picture is opened in a window if there is a screen; its path is logged in any case.

    Args:
        graph: The graph.
        flow_run_name: Name of the file.

    Raises:
        GraphvizExecutableNotFoundError: The program `dot` is not installed.
        FlowVisualizationError: `dot` cannot draw the graph.
    """
    library = require_graphviz()
    drawn: Any = graph
    try:
        if _show_in_notebook(drawn):
            return
        path = Path(drawn.render(filename=flow_run_name, format="png", cleanup=True)).resolve()
    except library.ExecutableNotFound as error:
        raise GraphvizExecutableNotFoundError(
            "The program 'dot' was not found: install Graphviz (https://graphviz.org/download) and make sure that "
            "'dot' is on the PATH."
        ) from error
    except (library.CalledProcessError, OSError) as error:
        raise FlowVisualizationError(f"The flow's graph could not be drawn: {error}") from error
    get_logger("visualization").info("The graph is in %s", path)
    if _has_screen():
        webbrowser.open(path.as_uri())


def _show_in_notebook(graph: Any) -> bool:
    ipython = sys.modules.get("IPython")  # a notebook's kernel has imported it
    shell = None if ipython is None else ipython.get_ipython()
    if not hasattr(shell, "kernel"):  # a plain IPython terminal shows no pictures
        return False
    graph.pipe(format="svg", encoding="utf-8")  # says here, not in the output cell, that dot is missing
    import_module("IPython.display").display(graph)
    return True


def _has_screen() -> bool:
    return sys.platform in {"win32", "darwin"} or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
