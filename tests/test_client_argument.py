"""Functions that take a client: it says on whose history they work."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import anyio
import pytest

from callsheet import Engine, flow, get_client, suspend_flow_run, task
from callsheet.exceptions import FlowRunWaitTimeout, ObjectNotFound, Pause
from callsheet.flow_runs import aresume_flow_run, asuspend_flow_run, wait_for_flow_run

pytestmark = pytest.mark.anyio


@flow
async def census() -> int:
    return 1


@task
async def dig() -> str:
    return "ore"


@pytest.fixture
def two(tmp_path: Any) -> tuple[str, str]:
    return str(tmp_path / "here.db"), str(tmp_path / "there.db")


async def test_a_run_is_waited_for_in_the_history_of_the_client(two: tuple[str, str]) -> None:
    here, there = two
    async with Engine(here), get_client() as client:
        known = (await census(return_state=True)).state_details.flow_run_id
        async with Engine(there):
            unknown = (await census(return_state=True)).state_details.flow_run_id
            assert (await wait_for_flow_run(known, client=client)).id == known
            assert (await wait_for_flow_run(unknown)).id == unknown
            with pytest.raises(ObjectNotFound):
                await wait_for_flow_run(unknown, client=client)
            with pytest.raises(ObjectNotFound):
                await wait_for_flow_run(known)


async def test_a_run_is_suspended_in_the_history_of_the_client(two: tuple[str, str]) -> None:
    here, there = two
    begun, go_on = anyio.Event(), anyio.Event()
    dug: list[str] = []

    @flow
    async def mine() -> None:
        begun.set()
        await go_on.wait()
        dug.append(await dig())

    async with Engine(here, flows=[mine]), get_client() as client, anyio.create_task_group() as group:

        async def run() -> None:
            with pytest.raises(Pause):
                await mine()

        group.start_soon(run)
        await begun.wait()
        (found,) = await client.read_flow_runs(flow_filter={"name": {"any_": ["mine"]}})
        async with Engine(there):
            with pytest.raises(ObjectNotFound):
                await asuspend_flow_run(flow_run_id=found.id)
            await asuspend_flow_run(flow_run_id=found.id, client=client)
        go_on.set()
        with anyio.fail_after(50):
            while (await client.read_flow_run(found.id)).state_name != "Suspended":
                await anyio.sleep(0.01)
        assert dug == []
        await aresume_flow_run(found.id)
        assert (await wait_for_flow_run(found.id)).state_name == "Completed"


async def test_the_current_run_is_not_suspended_through_a_client_of_another_history(two: tuple[str, str]) -> None:
    here, there = two

    @flow
    async def mine(client: Any) -> None:
        await suspend_flow_run(client=client)

    async with Engine(here), get_client() as client:
        async with Engine(there, flows=[mine]):
            with pytest.raises(ValueError, match=r"not in the history of 'client'\. Leave `client` out"):
                await mine(client)
            async with get_client() as own:
                assert (await mine(own, return_state=True)).name == "Suspended"


async def test_a_task_run_is_stored_in_the_history_of_the_client(two: tuple[str, str]) -> None:
    here, there = two
    async with Engine(here), get_client() as client:
        with get_client(sync_client=True) as sync_client:
            async with Engine(there):
                runs = [await dig.create_run(client=client), await dig.create_run(client=sync_client)]
                elsewhere = await dig.create_run()
        assert [(await client.read_task_run(run.id)).id for run in runs] == [run.id for run in runs]
        with pytest.raises(ObjectNotFound):
            await client.read_task_run(elsewhere.id)


async def test_what_is_no_client_or_not_open_is_refused() -> None:
    run_id = (await census(return_state=True)).state_details.flow_run_id
    unopened = get_client()
    async with get_client() as left:
        pass
    for wrong, error in ((3, TypeError), (unopened, RuntimeError), (left, Exception)):
        for call in (
            wait_for_flow_run(run_id, client=wrong),
            asuspend_flow_run(flow_run_id=run_id, client=wrong),
            dig.create_run(client=wrong),
            dig.create_local_run(client=wrong),
        ):
            with pytest.raises(error, match="client"):
                await call


async def test_the_states_that_a_run_is_found_in_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    @flow
    async def slow() -> None:
        begun.set()
        await go_on.wait()

    with caplog.at_level(logging.INFO, "callsheet"):
        async with anyio.create_task_group() as group:
            group.start_soon(slow)
            await begun.wait()
            async with get_client() as client:
                (found,) = await client.read_flow_runs(flow_filter={"name": {"any_": ["slow"]}})
            for _ in range(2):
                with pytest.raises(FlowRunWaitTimeout):
                    await wait_for_flow_run(found.id, timeout=0, log_states=True)
            go_on.set()
        await wait_for_flow_run(found.id)
        await wait_for_flow_run(found.id, log_states=True)
    said = [record.getMessage() for record in caplog.records if str(found.id) in record.getMessage()]
    assert said == [f"Flow run {found.id} is in state {name!r}" for name in ("Running", "Running", "Completed")]


async def test_an_unknown_run_is_not_waited_for() -> None:
    async with get_client() as client:
        with pytest.raises(ObjectNotFound):
            await wait_for_flow_run(uuid4(), client=client, log_states=True)
