"""Submitted runs for which the system gives no thread."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from callsheet import flow, task
from callsheet.futures import TaskFuture
from callsheet.task_runners import ThreadPoolTaskRunner


@task
def on_a_thread() -> None: ...


def refuse(self: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.anyio
@pytest.mark.parametrize("places", [None, 1])
async def test_a_run_without_a_thread_ends_crashed_and_keeps_nobody_waiting(
    places: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures: list[TaskFuture[Any]] = []

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=places) if places else None)
    async def around() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            futures.extend(on_a_thread.submit() for _ in range(2))
        futures.append(on_a_thread.submit())

    await around()
    assert [future.state.name for future in futures] == ["Crashed", "Crashed", "Completed"]
    assert "No thread could be started" in (futures[0].state.message or "")
