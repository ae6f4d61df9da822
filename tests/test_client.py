"""The client: its life, what it shares, and the runs it makes."""

from __future__ import annotations

import threading
from uuid import uuid4

import anyio
import pytest

from callsheet import Engine, flow, get_client, tags, task
from callsheet.client.orchestration import Client, SyncClient
from callsheet.client.schemas.objects import TaskRunResult
from callsheet.context import AsyncClientContext
from callsheet.exceptions import (
    FailedRun,
    MissingResult,
    ObjectAlreadyExists,
    ObjectNotFound,
    StoreClosed,
)
from callsheet.futures import DistributedTaskFuture
from callsheet.states import Cancelled, Completed, Failed, Running
from reading import ask


@flow
async def quick() -> int:
    return 1


@task(tags=["held"])
def held(seed: int) -> None: ...


# ------------------------------------------------------------------------------------------- its life


@pytest.mark.anyio
async def test_a_client_says_hello():
    hello = await ask("hello")
    assert hello.startswith("callsheet ")
    assert hello.endswith("callsheet.db")


def test_a_method_that_there_is_not_says_what_to_use():
    for client in (get_client(), get_client(sync_client=True)):
        with pytest.raises(AttributeError, match=r"'create_flow_run'. Call the flow, or use `flow.submit"):
            client.create_flow_run(quick)  # type: ignore[attr-defined,union-attr]
        with pytest.raises(AttributeError, match=r"'read_work_pool'\. There are no work pools yet"):
            client.read_work_pool("mine")  # type: ignore[attr-defined,union-attr]
        with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
            client.nothing()  # type: ignore[attr-defined,union-attr]
        assert not hasattr(client, "delete_flow_run")


@pytest.mark.anyio
async def test_a_client_is_used_as_a_context_manager_and_not_after_it():
    client = get_client()
    with pytest.raises(RuntimeError, match=r"`async with get_client\(\) as client: ...`"):
        await client.hello()
    async with client:
        await client.hello()
    with pytest.raises(StoreClosed, match="closed"):
        await client.hello()
    with pytest.raises(StoreClosed, match="closed"):
        await client.__aenter__()
    with pytest.raises(RuntimeError, match="'async with'"), get_client():
        pass


def test_a_sync_client_likewise():
    client = get_client(sync_client=True)
    with pytest.raises(RuntimeError, match=r"`with get_client\(sync_client=True\) as client: ...`"):
        client.hello()
    with client:
        client.hello()
    with pytest.raises(StoreClosed):
        client.hello()


@pytest.mark.anyio
async def test_the_wrong_kind_of_with_is_explained():
    with pytest.raises(RuntimeError, match="'with'"):
        async with get_client(sync_client=True):
            pass

    def enter_without_a_loop() -> None:
        with pytest.raises(RuntimeError, match="sync_client=True"):
            get_client().__aenter__().send(None)

    await anyio.to_thread.run_sync(enter_without_a_loop)


@pytest.mark.anyio
async def test_nested_clients_are_one():
    async with get_client() as outer:
        async with get_client() as inner:
            assert inner is outer
            with get_client(sync_client=True) as sync, get_client(sync_client=True) as nested:
                assert isinstance(sync, SyncClient)
                assert nested is sync
        assert await outer.hello()  # the inner block has not closed it
    async with get_client() as later:
        assert isinstance(later, Client)
        assert later is not outer


@pytest.mark.anyio
async def test_a_client_that_a_child_task_still_uses_stays_open():
    using, left = anyio.Event(), anyio.Event()

    async def child() -> None:
        async with get_client() as shared:
            assert shared is outer
            using.set()
            await left.wait()
            assert await shared.hello()

    async with anyio.create_task_group() as group:
        async with get_client() as outer:
            group.start_soon(child)
            await using.wait()
        left.set()


@pytest.mark.anyio
async def test_a_client_of_a_context_entered_by_hand_is_shared():
    mine = get_client()
    with AsyncClientContext(client=mine, httpx_settings=None):
        assert get_client() is mine
    with AsyncClientContext(client=mine, httpx_settings={"timeout": 3}):
        assert get_client({"timeout": 3}) is mine
        assert get_client() is not mine


def test_what_needs_a_server_is_refused(monkeypatch):
    with pytest.raises(NotImplementedError, match="httpx_settings"):
        get_client({"timeout": 3})
    monkeypatch.setenv("CALLSHEET_SERVER_ALLOW_EPHEMERAL_MODE", "false")
    with pytest.raises(ValueError, match="Please set CALLSHEET_API_URL"):
        get_client()
    monkeypatch.setenv("CALLSHEET_API_URL", "http://127.0.0.1:4200/api")
    with pytest.raises(NotImplementedError, match="CALLSHEET_API_URL"):
        get_client(sync_client=True)


def test_runs_say_that_no_server_is_told_of_them(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CALLSHEET_API_URL", "http://secret@127.0.0.1:4200/api")
    monkeypatch.setenv("CALLSHEET_DATABASE", str(tmp_path / "told.db"))
    with caplog.at_level("WARNING", "callsheet"):
        for _ in range(2):
            assert flow(lambda: 1)() == 1
    (said,) = [record.getMessage() for record in caplog.records if "CALLSHEET_API_URL" in record.getMessage()]
    assert f"their history is kept in {tmp_path / 'told.db'}" in said
    assert "secret" not in said


@pytest.mark.anyio
async def test_a_client_reads_what_runs_in_the_same_place_write():
    await quick()
    async with get_client() as ambient_client:
        async with Engine(database=":memory:"), get_client() as client:
            assert client is not ambient_client
            assert (await client.hello()).endswith("memory")
            assert await client.count_flow_runs() == 0
            await quick()
            await quick()
            assert await client.count_flow_runs() == 2
        assert await ambient_client.count_flow_runs() == 1


@pytest.mark.anyio
async def test_nothing_is_left_behind():
    await quick()
    before = set(threading.enumerate())
    async with get_client() as client:
        await client.read_flow_runs()
    with get_client(sync_client=True) as sync:
        sync.read_flow_runs()
    left = [thread for thread in set(threading.enumerate()) - before if "Trio" not in thread.name]
    assert left == []  # trio keeps idle threads of its own for a while


@pytest.mark.anyio
async def test_what_does_not_exist_is_not_found():
    missing = uuid4()
    for question in ("read_flow_run", "read_task_run", "read_flow_run_states", "read_task_run_states"):
        with pytest.raises(ObjectNotFound, match=str(missing)):
            await ask(question, missing)
    flow_run_id = (await quick(return_state=True)).state_details.flow_run_id
    with pytest.raises(ObjectNotFound, match="no task run"):
        await ask("read_task_run", flow_run_id)
    for question in ("set_flow_run_state", "set_task_run_state"):
        with pytest.raises(ObjectNotFound, match=str(missing)):
            await ask(question, missing, Cancelled())
    with pytest.raises(ValueError, match="'seven' is no id"):
        await ask("read_flow_run", "seven")


# -------------------------------------------------------------------------------- runs that it makes


@pytest.mark.anyio
async def test_a_task_run_is_stored_without_running():
    flow_run_id = (await quick(return_state=True)).state_details.flow_run_id
    source = uuid4()
    async with get_client() as client:
        with tags("not mine"):
            run = await client.create_task_run(
                held,
                flow_run_id,
                "3",
                extra_tags=["more"],
                task_inputs={"seed": [TaskRunResult(id=source)], "wait_for": []},
            )
        assert run == await client.read_task_run(run.id)
        with pytest.raises(ObjectAlreadyExists, match=str(run.id)):
            await client.create_task_run(held, flow_run_id, "3", id=run.id)
        with pytest.raises(ValueError, match="begins as Scheduled or Pending"):
            await client.create_task_run(held, flow_run_id, "3", state=Running())
        with pytest.raises(ValueError, match="'seed': expected TaskRunResult, got int"):
            await client.create_task_run(held, flow_run_id, "3", task_inputs={"seed": [1]})
        with pytest.raises(ObjectNotFound):
            await client.create_task_run(held, uuid4(), "3")
    assert (run.name, run.dynamic_key, run.flow_run_id, run.state_name) == ("held-3", "3", flow_run_id, "Pending")
    assert (run.tags, run.run_count, run.flow_run_run_count) == (["held", "more"], 0, 1)
    assert run.task_inputs == {"seed": [TaskRunResult(id=source)], "wait_for": []}


# ------------------------------------------------------------------------- what reads through a client


@pytest.mark.anyio
async def test_a_future_known_by_its_id_follows_the_history():
    async with get_client() as client:
        run = await client.create_task_run(held, None, "k")
        future = DistributedTaskFuture(run.id)
        assert future.state.is_pending()
        with pytest.raises(TimeoutError, match=str(run.id)):
            future.result(timeout=0)
        for state in (Running(), Failed(message="gone")):
            await client.set_task_run_state(run.id, state)
        with pytest.raises(FailedRun, match="gone"):
            await future
        assert future.state.is_failed()
        assert DistributedTaskFuture(run.id) == future
    with pytest.raises(ObjectNotFound):
        DistributedTaskFuture(uuid4()).wait()


def test_such_a_future_waits_for_another_thread():
    with get_client(sync_client=True) as client:
        run = client.create_task_run(held, None, "k")

        def finish() -> None:
            with get_client(sync_client=True) as own:
                own.set_task_run_state(run.id, Completed())

        thread = threading.Thread(target=finish)
        thread.start()
        with pytest.raises(MissingResult):
            DistributedTaskFuture(run.id).result(timeout=20)
        thread.join()


@pytest.mark.anyio
async def test_runtime_reads_the_run_that_the_environment_names(monkeypatch):
    from callsheet.runtime import flow_run

    @flow(version="9", flow_run_name="inner-{n}")
    async def inner(n: int) -> None: ...

    @flow
    async def outer() -> None:
        with tags("x"):
            await inner(3)

    outer_id = (await outer(return_state=True)).state_details.flow_run_id
    (run,) = await ask("read_flow_runs", flow_filter={"name": {"any_": ["inner"]}})
    monkeypatch.setenv("CALLSHEET__FLOW_RUN_ID", str(run.id))
    assert (flow_run.name, flow_run.flow_name, flow_run.flow_version) == ("inner-3", "inner", "9")
    assert (flow_run.tags, flow_run.parameters, flow_run.run_count) == (["x"], {"n": 3}, 1)
    assert (flow_run.parent_flow_run_id, flow_run.root_flow_run_id) == (str(outer_id), str(outer_id))
    assert flow_run.scheduled_start_time == run.expected_start_time
