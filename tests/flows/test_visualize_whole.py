"""`flow.visualize()` from its call to the picture, and no run anywhere."""

from __future__ import annotations

import inspect
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from callsheet import flow, task
from callsheet.settings import temporary_settings
from callsheet.utilities.visualization import VisualizationUnsupportedError
from past import runs

pytestmark = pytest.mark.skipif(shutil.which("dot") is None, reason="the program 'dot' (Graphviz) is not installed")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with temporary_settings({"CALLSHEET_TESTING_UNIT_TEST_MODE": True}):
        yield tmp_path


@task
def load(path: str) -> list[int]:
    raise AssertionError("bodies of tasks must not run")


@task(viz_return_value=[1, 2])
async def parts(data: Any) -> list[int]:
    raise AssertionError("bodies of tasks must not run")


@flow
def child(part: int) -> None:
    raise AssertionError("bodies of subflows must not run")


@flow
async def pipeline(path: str) -> None:
    for part in await parts(load(path)):
        child(part)


@flow
def plain_pipeline(path: str) -> None:
    child(load(path))


def picture(folder: Path) -> Path:
    (found,) = [path for path in folder.iterdir() if path.suffix == ".png"]
    assert found.read_bytes().startswith(b"\x89PNG")
    return found


@pytest.mark.parametrize("drawn", [pipeline, plain_pipeline], ids=lambda drawn: drawn.name)
def test_outside_of_loops_it_is_a_plain_call(drawn: Any, folder: Path) -> None:
    assert drawn.visualize("data.csv") is None
    assert picture(folder).stem == drawn.name
    assert not (Path(os.environ["CALLSHEET_HOME"]) / "callsheet.db").exists()


@pytest.mark.anyio
async def test_in_async_code_it_is_awaited(folder: Path) -> None:
    made = pipeline.visualize("data.csv")
    assert inspect.isawaitable(made)
    await made
    assert picture(folder).stem == "pipeline"


@pytest.mark.anyio
async def test_colours_by_the_run_around(folder: Path) -> None:
    @flow
    def draws() -> Any:
        return plain_pipeline.visualize("data.csv")

    @flow
    async def adraws() -> Any:
        return await pipeline.visualize("data.csv")

    assert draws() is None
    assert await adraws() is None
    assert {path.stem for path in folder.iterdir() if path.suffix == ".png"} == {"pipeline", "plain-pipeline"}
    assert {run.definition.name for run in runs()} == {"draws", "adraws"}


def test_afterwards_calls_are_runs_again(folder: Path) -> None:
    @task
    def work() -> int:
        return 7

    @flow
    def outer() -> int:
        work.submit()
        return work()

    with pytest.raises(VisualizationUnsupportedError, match=r"`task\.submit\(\)` is not currently supported"):
        outer.visualize()
    assert outer() == 7
    assert len(runs()) == 3
