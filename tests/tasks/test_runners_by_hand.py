"""Task runners that are entered by hand, outside of flow runs: what they start is waited for at the end of the block."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any
from uuid import UUID

import anyio
import pytest

from callsheet import flow, tags, task, unmapped
from callsheet.context import TaskRunContext
from callsheet.exceptions import MappingLengthMismatch
from callsheet.futures import TaskFutureList
from callsheet.task_runners import ThreadPoolTaskRunner


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task
async def aadd(x: int, y: int = 1) -> int:
    await anyio.lowlevel.checkpoint()
    return x + y


@pytest.mark.parametrize("adds", [add, aadd])
def test_tasks_are_submitted_and_mapped(adds: Any) -> None:
    with ThreadPoolTaskRunner() as runner:
        future = runner.submit(adds, {"x": 1, "y": 2})
        assert isinstance(future.task_run_id, UUID)
        assert isinstance(future.wrapped_future, Future)
        assert future.result() == 3
        assert future.state.is_completed()
        assert runner.submit(adds, {"x": future}, wait_for=[future]).result() == 4
        several = runner.map(adds, {"x": [1, 2], "y": unmapped(10)})
        assert isinstance(several, TaskFutureList)
        assert several.result() == [11, 12]
        with pytest.raises(MappingLengthMismatch):
            runner.map(adds, {"x": [1, 2], "y": [1]})


@pytest.mark.anyio
async def test_async_tests_use_them_too() -> None:
    with ThreadPoolTaskRunner() as runner:
        assert runner.submit(aadd, {"x": 1}).result() == 2
        assert await runner.submit(add, {"x": 1}) == 2


def test_tags_and_names_are_those_of_runs_by_themselves() -> None:
    @task
    def look() -> Any:
        run = TaskRunContext.get().task_run  # type: ignore[union-attr]
        return run.flow_run_id, run.name, set(run.tags)

    with ThreadPoolTaskRunner() as runner, tags("nightly"):
        assert runner.submit(look, {}).result() == (None, "look", {"nightly"})


def test_the_end_of_the_block_waits_for_what_was_begun() -> None:
    gate, done = threading.Event(), []

    @task
    def wait() -> None:
        gate.wait(20)
        done.append(1)

    with ThreadPoolTaskRunner(max_workers=1) as runner:
        futures = [runner.submit(wait, {}) for _ in range(3)]
        assert done == []
        gate.set()
    assert done == [1, 1, 1]
    assert [future.state.name for future in futures] == ["Completed"] * 3


def test_failures_stay_with_their_futures() -> None:
    @task
    def fails() -> None:
        raise ValueError("no")

    with ThreadPoolTaskRunner() as runner:
        future = runner.submit(fails, {})
        late = runner.submit(add, {"x": future})
    assert late.state.name == "NotReady"
    with pytest.raises(ValueError, match="no"):
        future.result()


def test_before_and_after_the_block_there_is_nothing_to_submit_to() -> None:
    runner = ThreadPoolTaskRunner()
    with pytest.raises(RuntimeError, match="Unable to determine task runner"):
        runner.submit(add, {"x": 1})
    with runner:
        pass
    with pytest.raises(RuntimeError, match="Unable to determine task runner"):
        runner.submit(add, {"x": 1})
    with pytest.raises(RuntimeError, match="Unable to determine task runner"):
        runner.map(add, {"x": [1]})


def test_inside_of_a_flow_run_the_runs_are_that_runs() -> None:
    @task
    def look() -> Any:
        return TaskRunContext.get().task_run.flow_run_id  # type: ignore[union-attr]

    with ThreadPoolTaskRunner() as outer:

        @flow
        def around() -> Any:
            with ThreadPoolTaskRunner() as runner:
                return runner.submit(look, {}).result(), outer.submit(look, {}).result()

        inner_id, outer_id = around()
    assert inner_id is not None
    assert inner_id == outer_id
