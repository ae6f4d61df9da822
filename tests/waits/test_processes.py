"""Waits of runs whose process is killed, and which another process goes on with."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import anyio
import pytest

from callsheet import send_signal, watch
from callsheet._model.kinds import Kind
from callsheet.events import Event, LogEvent, StateEvent
from waits_helpers import PATIENCE, assert_in_order, keys, line, program, recorded, states
from waits_programs import BEGIN, GO_ON


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file of what was done, and let dead engines be noticed soon."""
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "0.4")
    return tmp_path / "done"


@contextmanager
def begun(done: Path) -> Iterator[tuple[subprocess.Popen[str], UUID]]:
    with program(done.with_suffix(".py"), BEGIN, done) as process:
        word, run_id = line(process).split()
        assert word == "begun"
        yield process, UUID(run_id)


@contextmanager
def gone_on(done: Path) -> Iterator[subprocess.Popen[str]]:
    with program(done.with_suffix(".py"), GO_ON, done) as process:
        assert line(process) == "open"
        yield process


def close(process: subprocess.Popen[str]) -> None:
    """Let the engine of a process end in order."""
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(PATIENCE) == 0


async def recorded_tasks(run_id: UUID, count: int) -> None:
    """Wait until so many tasks have ended for good: what is under way at a kill is done again."""
    async for event in watch(run_id):
        count -= isinstance(event, StateEvent) and event.kind is Kind.TASK and event.is_final
        if not count:
            return


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_signals_and_sleeps_outlive_a_kill(done: Path, taken: int) -> None:
    """What came before it, what came while nobody lived, and what comes afterwards: each once."""
    with begun(done) as (process, run_id):
        for n in range(taken):
            send_signal(run_id, "n", n)
            assert line(process) == f"got {n}"
        anyio.run(recorded_tasks, run_id, 1 + taken)
        process.kill()
        process.wait()
    if taken < 2:
        send_signal(run_id, "n", taken)
    with gone_on(done) as process:
        for n in range(taken, 2):
            if n > taken:
                send_signal(run_id, "n", n)
            assert line(process) == f"got {n}"
        assert line(process) == "awake"
        close(process)
    assert done.read_text().splitlines() == [f"begun {run_id}", "got 0", "got 1", "awake"]


@pytest.mark.anyio
async def test_watching_over_a_kill(done: Path) -> None:
    """One reader sees both lives of the run; another goes on from its cursor in the second."""
    events: list[Event] = []
    with begun(done) as (process, run_id):
        watching = watch(run_id)
        async for event in watching:
            events.append(event)
            if isinstance(event, StateEvent) and event.is_final:
                break  # the first task
        process.kill()
        process.wait()
    cursor, later = watching.cursor, list[Event]()
    with gone_on(done) as process:
        for n in range(2):
            await send_signal(run_id, "n", n)
        async for event in watching:
            events.append(event)
        async for event in watch(run_id, cursor):
            later.append(event)
        await anyio.to_thread.run_sync(close, process)
    assert states(events) == recorded(run_id)
    assert_in_order(events)
    assert max(keys(events).values()) == 1
    assert keys(later) == keys(events[-len(later) :])
    assert not any(isinstance(event, LogEvent) and event.level > 20 for event in events)
