"""States whose data was kept: made with a store, read back through `State.result` and the client."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from callsheet import task
from callsheet.client.orchestration import get_client
from callsheet.exceptions import MissingResult, ResultNotFound, StorageUnavailable
from callsheet.filesystems import LocalFileSystem, MemoryStorage
from callsheet.results import ResultRecord, ResultRecordMetadata, ResultStore
from callsheet.states import (
    Completed,
    Failed,
    State,
    exception_to_crashed_state,
    exception_to_failed_state,
    get_state_exception,
    raise_state_exception,
    return_value_to_state,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(result_storage=tmp_path / "kept")


async def test_a_value_becomes_a_record(store: ResultStore) -> None:
    state = await return_value_to_state([1, 2], store, key="numbers")
    assert isinstance(state.data, ResultRecord)
    assert await state.result() == [1, 2]
    assert not await store.aexists("numbers")


async def test_a_value_is_written_where_that_is_asked(store: ResultStore) -> None:
    state = await return_value_to_state([1, 2], store, key="numbers", write_result=True)
    assert (await ResultStore(result_storage=store.result_storage).aread("numbers")) == state.data


async def test_a_state_of_the_user_gets_its_record_in_place(store: ResultStore) -> None:
    mine = Completed(data="x", message="mine")
    state = await return_value_to_state(mine, store, write_result=True)
    assert state is mine
    assert await state.result() == "x"
    again = await return_value_to_state(mine, store, write_result=True)
    assert again.data is state.data


async def test_exceptions_become_records(store: ResultStore) -> None:
    error = ValueError("xyz")
    failed = await exception_to_failed_state(error, store, write_result=True)
    assert isinstance(failed.data, ResultRecord)
    with pytest.raises(ValueError, match="xyz") as raised:
        await failed.result()
    assert raised.value is error
    assert await failed.result(raise_on_failure=False) is error
    crashed = await exception_to_crashed_state(error, store)
    assert await get_state_exception(crashed) is error
    read_back: State[Any] = Failed(data=failed.data.metadata)
    with pytest.raises(ValueError, match="xyz"):
        await read_back.result()
    with pytest.raises(ValueError, match="xyz"):
        await raise_state_exception(read_back)


async def test_metadata_is_enough_to_read_a_result(store: ResultStore) -> None:
    state = await return_value_to_state({"a": 1}, store, write_result=True)
    read_back: State[Any] = Completed(data=state.data.metadata)
    assert await read_back.result() == {"a": 1}
    assert await read_back.aresult() == {"a": 1}
    assert isinstance(read_back.data, ResultRecordMetadata)


async def test_a_result_that_is_gone_says_which_and_where(store: ResultStore) -> None:
    state = await return_value_to_state(1, store, key="numbers", write_result=True)
    (Path(store.result_storage.basepath) / "numbers").unlink()
    state.state_details.task_run_id = "the-id"  # type: ignore[assignment]
    read_back = state.model_copy(update={"data": state.data.metadata})
    with pytest.raises(ResultNotFound, match=r"the task run the-id.*numbers.*does not exist.*Run it again") as raised:
        await read_back.result(retry_result_failure=False)
    assert isinstance(raised.value, MissingResult)
    assert isinstance(raised.value, ValueError)


async def test_a_result_in_the_memory_of_another_process_says_so() -> None:
    metadata = ResultRecordMetadata(storage_key="a", storage="memory:0")
    with pytest.raises(StorageUnavailable, match="memory of a process"):
        await Completed(data=metadata).result(retry_result_failure=False)


async def test_what_says_how_a_record_is_made_needs_a_store() -> None:
    for option in ({"key": "numbers"}, {"write_result": True}, {"expiration": datetime.now(UTC)}):
        with pytest.raises(ValueError, match=f"`{next(iter(option))}` need.*give a `result_store`"):
            await return_value_to_state(1, **option)
    with pytest.raises(ValueError, match="give a `result_store`"):
        await exception_to_failed_state(ValueError(), write_result=True)


async def test_a_value_that_cannot_be_written_is_a_warning(
    store: ResultStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn:
        def __reduce__(self) -> Any:
            raise RuntimeError("never")

    value = Stubborn()
    with caplog.at_level("WARNING", "callsheet"):
        state = await return_value_to_state(value, store, write_result=True)
    assert await state.result() is value
    assert "Encountered an error while serializing result" in caplog.text


async def test_what_may_be_sent_elsewhere_of_a_record(store: ResultStore) -> None:
    from callsheet.settings import temporary_settings

    state = await return_value_to_state(1, store)
    assert state.to_state_create().data is None
    with temporary_settings({"results_persist_by_default": True}):
        assert state.to_state_create().data == state.data.metadata
    assert Completed(data=state.data.metadata).to_state_create().data == state.data.metadata
    assert Completed(data=1).to_state_create().data is None


async def test_a_kept_result_is_read_through_the_client(store: ResultStore) -> None:
    @task
    def nothing() -> None: ...

    kept = await return_value_to_state({"a": (1, 2)}, store, write_result=True)
    async with get_client() as client:
        run = await client.create_task_run(nothing, None, "0", state=State(type="PENDING"))
        await client.set_task_run_state(run.id, State(type="RUNNING"))
        await client.set_task_run_state(run.id, kept, force=True)
        state = (await client.read_task_run(run.id)).state
    assert isinstance(state.data, ResultRecordMetadata)
    assert await state.result() == {"a": (1, 2)}


def test_sync_code_reads_without_a_loop(tmp_path: Path) -> None:
    store = ResultStore(result_storage=LocalFileSystem(tmp_path))
    store.write("value", key="k")
    metadata = store.read("k").metadata
    assert Completed(data=metadata).result() == "value"


def test_a_memory_storage_is_found_again_while_it_lives() -> None:
    store = ResultStore(result_storage=MemoryStorage())
    store.write("value", key="k")
    assert Completed(data=store.read("k").metadata).result() == "value"
