from __future__ import annotations

import functools
import shutil
import sys
import traceback
import warnings
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from callsheet import allow_failure, flow, task
from callsheet.settings import temporary_settings
from callsheet.utilities import visualization
from callsheet.utilities.visualization import (
    FlowVisualizationError,
    GraphvizExecutableNotFoundError,
    GraphvizImportError,
    TaskVizTracker,
    VisualizationUnsupportedError,
    VizTask,
    build_task_dependencies,
    get_task_viz_tracker,
    track_viz_task,
    visualize_task_dependencies,
)

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="the program 'dot' (Graphviz) is not installed")


@pytest.fixture(autouse=True)
def somewhere_quiet(tmp_path, monkeypatch):
    """A working folder of its own, no screen, and no warning about code outside of tasks."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with temporary_settings({"CALLSHEET_TESTING_UNIT_TEST_MODE": True}):
        yield


@pytest.fixture
def drawn(monkeypatch):
    """What would be drawn, without drawing it: pairs of name and source."""
    pictures = []
    monkeypatch.setattr(
        "callsheet._engine.visualize.visualize_task_dependencies",
        lambda graph, name: pictures.append((name, graph.source)),
    )
    return pictures


@task
def load(x=1):
    raise AssertionError("bodies must not run")


@task
async def aload(x=1):
    raise AssertionError("bodies must not run")


@task
def join(*parts, **named):
    raise AssertionError("bodies must not run")


@flow
def child(x=1):
    raise AssertionError("bodies must not run")


@flow
async def achild(x=1):
    raise AssertionError("bodies must not run")


def edges(tracker):
    return {node.name: [upstream.name for upstream in node.upstream_tasks] for node in tracker.tasks}


# ------------------------------------------------------------------------------------------------- tracker


def test_nodes_are_numbered_by_name():
    tracker = TaskVizTracker()
    for name in ("a", "b", "a", "a"):
        tracker.add_task(VizTask(name))
    assert [node.name for node in tracker.tasks] == ["a-0", "b-0", "a-1", "a-2"]
    assert repr(tracker.tasks[0]) == "VizTask('a-0')"


def test_a_tracker_is_current_while_it_is_entered():
    assert get_task_viz_tracker() is None
    with TaskVizTracker() as outer:
        assert get_task_viz_tracker() is outer
        with TaskVizTracker() as inner:
            assert get_task_viz_tracker() is inner
        assert get_task_viz_tracker() is outer
        with pytest.raises(RuntimeError, match="entered already"):
            outer.__enter__()
    assert get_task_viz_tracker() is None
    outer.__exit__()
    with pytest.raises(RuntimeError, match="enter a TaskVizTracker first"):
        track_viz_task(False, "x", {})


@pytest.mark.parametrize("value", [None, True, False, ..., NotImplemented, -5, 0, 256])
def test_objects_that_exist_once_are_not_tracked(value):
    tracker = TaskVizTracker()
    tracker.link_viz_return_value_to_viz_task(value, VizTask("a"))
    assert tracker.object_id_to_task == {}


@pytest.mark.parametrize("value", [257, -6, "text", [1], object(), 1.5])
def test_other_objects_are_tracked_by_identity(value):
    tracker, node = TaskVizTracker(), VizTask("a")
    tracker.link_viz_return_value_to_viz_task(value, node)
    assert tracker.object_id_to_task == {id(value): node}
    assert tracker.upstream_of({"x": value, "y": [value]}) == [node]
    assert tracker.upstream_of({"x": [1, object()]}) == []


def test_calls_leave_nodes_and_edges():
    @dataclass
    class Box:
        inside: object

    with TaskVizTracker() as tracker:
        first = load()
        second = load(first)
        join(first, {"k": [second]}, Box(first), named=allow_failure(second))
        child(second)
    assert isinstance(first, VizTask)
    assert edges(tracker) == {"load-0": [], "load-1": ["load-0"], "join-0": ["load-0", "load-1"], "child-0": ["load-1"]}


def test_a_value_in_place_of_the_node():
    @task(viz_return_value=[1, 2, 3])
    def numbers():
        raise AssertionError

    @task(viz_return_value=0)
    def zero():
        raise AssertionError

    with TaskVizTracker() as tracker:
        found = numbers()
        assert found == [1, 2, 3]
        join(found)
        join([1, 2, 3])
        assert isinstance(zero(), VizTask)
    assert edges(tracker) == {"numbers-0": [], "join-0": ["numbers-0"], "join-1": [], "zero-0": []}


@pytest.mark.anyio
async def test_async_calls_give_awaitables():
    with TaskVizTracker() as tracker:
        first = await aload()
        last = await achild(first)
    assert last.upstream_tasks == [first]
    assert edges(tracker) == {"aload-0": [], "achild-0": ["aload-0"]}


# ------------------------------------------------------------------------------------------------- graph


def test_the_graph_in_dot_language():
    with TaskVizTracker() as tracker:
        join(load(), load())
    lines = [line.strip() for line in build_task_dependencies(tracker).source.splitlines()]
    assert lines == [
        "digraph {",
        '"load-0"',
        '"load-1"',
        '"join-0"',
        '"load-0" -> "join-0"',
        '"load-1" -> "join-0"',
        "}",
    ]


@needs_dot
def test_names_with_characters_that_mean_something_in_dot(tmp_path):
    with TaskVizTracker() as tracker:
        first = track_viz_task(False, 'ns:load "x" \\n <b>', {})
        track_viz_task(False, "node", {"x": first})
    graph = build_task_dependencies(tracker)
    drawing = graph.pipe(format="svg", encoding="utf-8")
    assert "ns:load" in drawing
    assert "node&#45;0" in drawing
    assert drawing.count('class="edge"') == 1


def test_a_graph_that_cannot_be_built():
    tracker = TaskVizTracker()
    tracker.tasks.append(VizTask(None))
    with pytest.raises(FlowVisualizationError, match="could not be built"):
        build_task_dependencies(tracker)


# ------------------------------------------------------------------------------------------------- flows


@pytest.mark.anyio
async def test_an_async_flows_body_runs_and_its_calls_do_not(drawn):
    ran = []

    @flow(name="nightly")
    async def my_flow(x, *rest, y=2):
        ran.append((x, rest, y))
        await achild(await aload(load(x)))
        return load()

    assert await my_flow.visualize("not validated", 5) is None
    assert ran == [("not validated", (5,), 2)]
    ((name, source),) = drawn
    assert name == "nightly"
    assert '"load-0" -> "aload-0"' in source
    assert '"aload-0" -> "achild-0"' in source
    assert '"load-1"' in source
    assert get_task_viz_tracker() is None


@pytest.mark.anyio
async def test_sync_flows_methods_and_generators(drawn):
    class Shop:
        @flow
        def sync(self):
            return load(self)

        @flow
        def stream(self):
            yield load()
            yield load()

        @flow
        async def astream(self):
            yield await aload()
            yield load()

    shop = Shop()
    for method in (shop.sync, shop.stream, shop.astream):
        await method.avisualize()
    assert [(name, source.count("load-")) for name, source in drawn] == [("sync", 1), ("stream", 2), ("astream", 2)]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: load.submit(1), "task.submit()"),
        (lambda: load.map([1, 2]), "task.map()"),
        (lambda: load.apply_async((1,)), "task.apply_async()"),
        (lambda: child.submit(1), "flow.submit()"),
    ],
)
async def test_what_cannot_be_followed_is_named(call, named):
    @flow
    async def my_flow():
        call()

    with pytest.raises(VisualizationUnsupportedError) as caught:
        await my_flow.avisualize()
    assert str(caught.value) == f"`{named}` is not currently supported by `flow.visualize()`"


@pytest.mark.anyio
async def test_other_errors_keep_type_and_traceback_and_get_a_hint():
    @flow
    async def my_flow():
        return load() + 1

    with pytest.raises(TypeError) as caught:
        await my_flow.avisualize()
    first, hint = str(caught.value).split("\n")
    assert first.startswith("unsupported operand")
    assert "@task(viz_return_value=[1, 2, 3])" in hint
    assert "return load() + 1" in "".join(traceback.format_exception(caught.value))
    assert get_task_viz_tracker() is None


@pytest.mark.anyio
async def test_errors_that_take_no_text_get_a_note():
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a, b)

    @flow
    async def my_flow():
        raise Odd(1, 2)

    with pytest.raises(Odd) as caught:
        await my_flow.avisualize()
    assert "viz_return_value" in caught.value.__notes__[0]


@pytest.mark.anyio
async def test_a_warning_that_other_code_runs(drawn):
    @flow(name="plain")
    async def my_flow():
        pass

    with temporary_settings({"CALLSHEET_TESTING_UNIT_TEST_MODE": False}):
        with pytest.warns(UserWarning, match="Visualizing 'plain' runs the code of the flow"):
            await my_flow.avisualize()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await my_flow.avisualize()


# ------------------------------------------------------------------------------------------------- drawing


@needs_dot
@pytest.mark.anyio
async def test_the_picture_is_in_the_working_folder(tmp_path, caplog):
    @flow(name="my flow")
    async def my_flow():
        load()

    await my_flow.avisualize()
    picture = tmp_path / "my flow.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["my flow.png"]
    assert f"The graph is in {picture.resolve()}" in caplog.text


def graph_of(render):
    return SimpleNamespace(render=render, pipe=lambda **_: render(filename="piped"))


def test_the_picture_opens_where_there_is_a_screen(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    graph = graph_of(lambda filename, **_: str(tmp_path / f"{filename}.png"))
    visualize_task_dependencies(graph, "no screen")
    assert opened == []
    monkeypatch.setenv("DISPLAY", ":0")
    visualize_task_dependencies(graph, "screen")
    assert opened == [(tmp_path / "screen.png").as_uri()]


def test_notebooks_show_it_in_place(monkeypatch):
    shown = []
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=shown.append))
    graph = graph_of(lambda filename, **_: None)
    visualize_task_dependencies(graph, "x")
    assert shown == [graph]
    ipython.get_ipython = lambda: SimpleNamespace()  # a terminal
    graph.render = functools.partial(lambda filename, **_: f"{filename}.png")
    visualize_task_dependencies(graph, "x")
    assert shown == [graph]


@pytest.mark.parametrize("notebook", [False, True])
def test_without_dot(monkeypatch, notebook):
    monkeypatch.setenv("PATH", "")
    if notebook:
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1)))
    with TaskVizTracker() as tracker:
        load()
    with pytest.raises(GraphvizExecutableNotFoundError, match="install Graphviz"):
        visualize_task_dependencies(build_task_dependencies(tracker), "x")


@needs_dot
def test_a_folder_that_cannot_be_written(monkeypatch):
    def refuse(**_):
        raise PermissionError("read-only folder")

    with pytest.raises(FlowVisualizationError, match="read-only folder"):
        visualize_task_dependencies(graph_of(refuse), "x")


@pytest.mark.anyio
async def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "graphviz", None)
    ran = []

    @flow
    async def my_flow():
        ran.append(1)

    with pytest.raises(GraphvizImportError, match=r"pip install 'callsheet\[viz\]'") as caught:
        await my_flow.avisualize()
    assert isinstance(caught.value, ImportError)
    assert ran == []
    with pytest.raises(ImportError):
        build_task_dependencies(TaskVizTracker())


def test_public_names():
    for name in ("TaskVizTracker", "VizTask", "VisualizationUnsupportedError", "get_task_viz_tracker"):
        assert hasattr(visualization, name)
    assert Path(visualization.__file__).parent.name == "utilities"
