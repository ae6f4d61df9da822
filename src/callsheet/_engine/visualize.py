"""Running a flow's own body, and nothing else of it, to see which tasks and flows it calls."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from callsheet.settings import get_current_settings
from callsheet.utilities.visualization import (
    FlowVisualizationError,
    GraphvizExecutableNotFoundError,
    GraphvizImportError,
    TaskVizTracker,
    VisualizationUnsupportedError,
    build_task_dependencies,
    require_graphviz,
    visualize_task_dependencies,
)

if TYPE_CHECKING:
    from callsheet.flows import Flow

_OURS = (FlowVisualizationError, GraphvizExecutableNotFoundError, GraphvizImportError, VisualizationUnsupportedError)
_HINT = (
    "While a flow is visualized its tasks do not run, and the result of one was probably used directly here. "
    "Say what the task would give: @task(viz_return_value=[1, 2, 3])"
)


async def visualize_flow(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> None:
    """Run a flow's body without a run, draw the graph of the calls it makes, and show it under the flow's name.

    Args:
        flow: The flow.
        parameters: What its function is called with, as binding gives it. Nothing is validated.

    Raises:
        GraphvizImportError: The Python package graphviz is not installed.
        GraphvizExecutableNotFoundError: The program `dot` is not installed.
        VisualizationUnsupportedError: The body does what cannot be followed, such as `submit` and `map`.
        FlowVisualizationError: The graph cannot be built or drawn.
        Exception: What the body raised, with a hint after its text.
    """
    require_graphviz()
    if not get_current_settings().testing_unit_test_mode:
        warnings.warn(
            f"Visualizing '{flow.name}' runs the code of the flow that is not inside a task or another flow.",
            stacklevel=2,
        )
    with TaskVizTracker() as tracker:
        try:
            await _run_body(flow, parameters)
        except _OURS:
            raise
        except Exception as error:
            raise _with_hint(error) from error.__cause__
    visualize_task_dependencies(build_task_dependencies(tracker), flow.name)


async def _run_body(flow: Flow[..., Any], parameters: Mapping[str, Any]) -> None:
    args, kwargs = flow._binder.call_arguments(parameters)  # pyright: ignore[reportPrivateUsage]
    made: Any = flow.fn(*args, **kwargs)
    if inspect.isasyncgen(made):
        async for _ in made:
            pass
    elif inspect.isgenerator(made):
        for _ in made:
            pass
    elif inspect.isawaitable(made):
        await made


def _with_hint(error: Exception) -> Exception:
    """Give an error of the same type whose text ends in the hint; types that take no text get a note."""
    try:
        hinted = type(error)(f"{error}\n{_HINT}")
    except Exception:
        error.add_note(_HINT)
        return error
    return hinted.with_traceback(error.__traceback__)
