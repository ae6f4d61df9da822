"""What the bodies and callers of an engine see that others took for dead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import Engine, flow, task
from callsheet._engine.core import Core
from callsheet._store.sqlite import SqliteStore
from callsheet.exceptions import LostOwnership

told: list[Any] = []


@task
async def work(what: int) -> int:
    return what


@pytest.fixture
def database(tmp_path: Path) -> Path:
    told.clear()
    return tmp_path / "h.db"


def fence(engine: Engine) -> None:
    """Take an engine for dead, as another process would."""
    other = SqliteStore(engine.core.store.location)
    other.open()
    assert other.engines.fence(engine.core.engine_id)
    other.close()


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["results", "strict"])
async def test_a_body_is_not_told_that_a_task_has_completed_whose_completion_is_refused(
    database: Path, durability: str
) -> None:
    @flow
    async def waits() -> None:
        await work(0)
        fence(engine)
        told.append(await work(1))

    async with Engine(database=database, durability=durability) as engine:
        with pytest.raises(LostOwnership):
            await waits()
    assert told == []


@pytest.mark.anyio
async def test_nor_does_a_future_tell_it(database: Path) -> None:
    @flow
    async def submits() -> None:
        await work(0)
        fence(engine)
        told.append(work.submit(1).result())

    async with Engine(database=database) as engine:
        with pytest.raises(LostOwnership):
            await submits()
    assert told == []


def test_nor_in_sync_code(database: Path) -> None:
    @task
    def sync_work(what: int) -> int:
        return what

    @flow
    def waits() -> None:
        sync_work(0)
        fence(engine)
        told.append(sync_work(1))

    async def main() -> None:
        nonlocal engine
        async with Engine(database=database) as engine:
            await anyio.to_thread.run_sync(waits)

    engine: Any = None
    with pytest.raises(LostOwnership):
        anyio.run(main)
    assert told == []


@pytest.mark.anyio
@pytest.mark.parametrize("count", [1, 2])
async def test_the_caller_hears_of_it_also_where_the_body_was_in_a_task_group(database: Path, count: int) -> None:
    @flow
    async def branches() -> None:
        async def branch() -> None:
            while True:
                await work(1)

        await work(0)
        fence(engine)
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(branch)

    async with Engine(database=database) as engine:
        with pytest.raises(LostOwnership):
            await branches()
        state = await branches(return_state=True) if engine.core.lost else None
        assert state is None or state.is_crashed()


@pytest.mark.anyio
async def test_an_engine_with_a_subflow_lets_go_of_everything_too(database: Path) -> None:
    """The task run that tracks a subflow leaves with it: the engine, which waits until nobody is left, can close."""
    lost: list[Core] = []

    @flow
    async def inner() -> None:
        await work(0)
        lost.append(engine.core)
        fence(engine)
        await work(1)

    @flow
    async def outer() -> None:
        await inner()

    async with Engine(database=database) as engine:
        with pytest.raises(LostOwnership):
            await outer()
        (core,) = lost
        assert core.orchestrator.alive() == []
        with anyio.fail_after(10):
            while not core.closed:
                await anyio.sleep(0.01)
