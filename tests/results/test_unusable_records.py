"""Records that cannot be used: never a wrong value, never a failed run, and replaced by whoever computes anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callsheet import flow, get_client, task
from callsheet.cache_policies import INPUTS
from callsheet.exceptions import ResultDamaged, SerializationError, StorageUnavailable
from callsheet.filesystems import DatabaseStorage, LocalFileSystem, MemoryStorage
from callsheet.locking.memory import MemoryLockManager
from callsheet.records.filesystem import FileSystemRecordStore
from callsheet.records.result_store import ResultRecordStore
from callsheet.results import ResultRecord, ResultRecordMetadata, ResultStore
from callsheet.transactions import IsolationLevel, Transaction, transaction

VALUE = [123456789] * 3


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("INFO", logger="callsheet")
    return caplog


def flipped(content: bytes) -> bytes:
    """Change the last byte, so that only a digest shows it."""
    return content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]


def foreign() -> bytes:
    metadata = ResultRecordMetadata(storage_key="key", serializer="pickle")
    return ResultRecord(VALUE, metadata).serialize().replace(b'"pickle"', b'"pickla"')


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "torn": lambda content: content[:-1],
    "empty": lambda content: b"",
    "of a serializer that nobody knows": lambda content: foreign(),
    "of another program": lambda content: b"\x89PNG\r\n",
    "metadata of another program": lambda content: b'{"a": 1}',
}


@pytest.fixture(params=DAMAGES.values(), ids=DAMAGES.keys())
def damage(request: pytest.FixtureRequest) -> Callable[[bytes], bytes]:
    return request.param


@pytest.fixture(params=["files", "database", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = {"files": LocalFileSystem, "database": DatabaseStorage, "memory": lambda _: MemoryStorage()}
    return made[request.param](tmp_path / "results")


def fresh(storage: Any, **options: Any) -> ResultStore:
    return ResultStore(result_storage=storage, serializer="json", cache_result_in_memory=False, **options)


# ----------------------------------------------------------------------------------------- transactions


@pytest.mark.parametrize("level", IsolationLevel)
def test_at_the_begin_of_a_transaction(storage: Any, damage: Any, level: IsolationLevel, logged: Any) -> None:
    store = fresh(storage, lock_manager=MemoryLockManager())
    store.write(VALUE, key="key")
    storage.put("key", [damage(storage.get("key"))])
    with transaction(key="key", store=store, isolation_level=level) as txn:
        assert not txn.is_committed()
        txn.stage("anew")
    assert txn.is_committed()
    assert fresh(storage).read("key").result == "anew"
    assert "cannot be used" in logged.text


@pytest.mark.anyio
async def test_at_the_begin_of_an_awaited_transaction(storage: Any, damage: Any) -> None:
    store = fresh(storage)
    await store.awrite(VALUE, key="key")
    storage.put("key", [damage(storage.get("key"))])
    async with transaction(key="key", store=store) as txn:
        assert not txn.is_committed()
        txn.stage("anew")
    assert (await fresh(storage).aread("key")).result == "anew"


def test_at_the_begin_nobody_waits_for_a_lock_to_see_it() -> None:
    store = fresh(MemoryStorage(), lock_manager=MemoryLockManager())
    store.write(VALUE, key="key")
    store.acquire_lock("key", holder="somebody else")
    try:
        with Transaction(key="key", store=store) as txn:
            assert txn.is_committed()
    finally:
        store.release_lock("key", holder="somebody else")


def test_of_a_result_store_seen_as_a_record_store(damage: Any) -> None:
    storage = MemoryStorage()
    store = ResultRecordStore(fresh(storage))
    store.write("key", VALUE)
    assert store.exists("key")
    storage.put("key", [damage(storage.get("key"))])
    assert not store.exists("key")
    assert store.read("key") is None


@pytest.mark.parametrize("content", [b"", b"callsheet record 1\n", b"other", None], ids=repr)
def test_of_a_folder_of_records(tmp_path: Path, content: bytes | None, logged: Any) -> None:
    store = FileSystemRecordStore(tmp_path)
    store.write("key", VALUE)
    file = tmp_path / "key"
    file.write_bytes(flipped(file.read_bytes()) if content is None else content)
    assert not store.exists("key")
    assert "counts as missing" in logged.text
    with pytest.raises(SerializationError, match="is not a record of callsheet, or it is damaged"):
        store.read("key")
    with transaction(key="key", store=store) as txn:
        assert not txn.is_committed()
        txn.stage("anew")
    record = store.read("key")
    assert record is not None
    assert record.result == "anew"


# ------------------------------------------------------------------------------------------------ cache


@pytest.mark.parametrize("isolation", IsolationLevel)
def test_found_by_the_cache(storage: Any, damage: Any, isolation: IsolationLevel, logged: Any) -> None:
    calls: list[int] = []
    policy = INPUTS.configure(isolation_level=isolation, lock_manager=MemoryLockManager())

    @task(cache_policy=policy, result_storage=storage, result_serializer="json", cache_result_in_memory=False)
    def one(x: int) -> list[int]:
        calls.append(x)
        return VALUE

    first = one(1, return_state=True)
    key = first.data.metadata.storage_key
    storage.put(key, [damage(storage.get(key))])
    states = [one(1, return_state=True) for _ in range(2)]
    assert [state.name for state in states] == ["Completed", "Cached"]
    assert [state.result() for state in states] == [VALUE] * 2
    assert len(calls) == 2
    assert "cannot be used" in logged.text or "missing" in logged.text


def test_read_through_a_state_it_is_a_clear_error(storage: Any, damage: Any) -> None:
    @flow(persist_result=True, result_storage=storage, result_serializer="json")
    def give() -> list[int]:
        return VALUE

    state = give(return_state=True)
    key = state.data.metadata.storage_key
    with get_client(sync_client=True) as client:
        back = client.read_flow_run(state.state_details.flow_run_id).state
    assert back.result() == VALUE
    storage.put(key, [damage(storage.get(key))])
    with pytest.raises((ResultDamaged, SerializationError)) as caught:
        back.result()
    text = str(caught.value)
    assert f"The result of the flow run {state.state_details.flow_run_id} cannot be read" in text
    assert repr(storage) in text


# ----------------------------------------------------------------------------- metadata that is kept apart


@pytest.fixture
def apart(tmp_path: Path) -> ResultStore:
    return fresh(LocalFileSystem(tmp_path / "values"), metadata_storage=LocalFileSystem(tmp_path / "keys"))


@pytest.mark.parametrize("torn", [b"[123456789,123456789,12345678]", b"[1]", b"", b"\xff"], ids=repr)
def test_a_value_that_does_not_belong_to_its_metadata_is_never_a_result(
    apart: ResultStore, tmp_path: Path, torn: bytes
) -> None:
    apart.write(VALUE, key="key")
    assert (tmp_path / "values" / "key").read_bytes() == b"[123456789,123456789,123456789]"
    (tmp_path / "values" / "key").write_bytes(torn)
    with pytest.raises(ResultDamaged):
        apart.read("key")
    with transaction(key="key", store=apart) as txn:
        assert not txn.is_committed()
        txn.stage([1])
    assert apart.read("key").result == [1]


@pytest.mark.parametrize(
    "change",
    [
        {"storage_key": "../../outside"},
        {"storage_key": "somewhere else"},
        {"expiration": "2001-01-01T00:00:00"},
        {"expiration": "soon"},
        {"serializer": {"type": ["json"]}},
        {"size": 3},
    ],
    ids=repr,
)
def test_metadata_that_was_changed(tmp_path: Path, change: dict[str, Any]) -> None:
    calls: list[int] = []
    policy = INPUTS.configure(key_storage=tmp_path / "keys")

    @task(cache_policy=policy, result_storage=tmp_path / "values", cache_result_in_memory=False)
    def one(x: int) -> list[int]:
        calls.append(x)
        return VALUE

    assert one(1, return_state=True).name == "Completed"
    (file,) = (tmp_path / "keys").iterdir()
    file.write_text(json.dumps(json.loads(file.read_bytes()) | change))
    states = [one(1, return_state=True) for _ in range(2)]
    assert [state.name for state in states] == ["Completed", "Cached"]
    assert [state.result() for state in states] == [VALUE] * 2


def test_a_torn_value_read_through_a_state(tmp_path: Path) -> None:
    @task(
        cache_policy=INPUTS.configure(key_storage=tmp_path / "keys"),
        result_storage=tmp_path / "values",
        result_serializer="json",
    )
    def give() -> int:
        return 123456789

    state = give(return_state=True)
    with get_client(sync_client=True) as client:
        back = client.read_task_run(state.state_details.task_run_id).state
    assert back.result() == 123456789
    Path(state.data.metadata.storage_key).write_bytes(b"12345")
    with pytest.raises(ResultDamaged, match="torn") as caught:
        back.result()
    assert f"Key '{state.data.metadata.storage_key}' in LocalFileSystem" in str(caught.value)


def test_another_process_that_writes_values_apart_is_noticed(tmp_path: Path) -> None:
    one, other = (
        ResultStore(
            result_storage=LocalFileSystem(tmp_path / "values"), metadata_storage=LocalFileSystem(tmp_path / "keys")
        )
        for _ in range(2)
    )
    one.write("old", key="key")
    assert one.read("key").result == "old"
    other.write("new", key="key")
    assert one.exists("key")
    assert one.read("key").result == "new"


# ----------------------------------------------------------------------------------- storages of users


@pytest.mark.parametrize("given", ["text", 7, {"a": 1}], ids=repr)
def test_a_storage_that_gives_no_bytes(given: Any, logged: Any) -> None:
    class Odd:
        def read_path(self, path: str) -> Any:
            return given

        def write_path(self, path: str, content: bytes) -> None:
            pass

    store = ResultStore(result_storage=Odd())
    assert not store.exists("key")
    with pytest.raises((ResultDamaged, StorageUnavailable), match=type(given).__name__):
        store.read("key")

    @task(cache_policy=INPUTS, result_storage=Odd(), cache_result_in_memory=False)
    def one() -> int:
        return 1

    assert one() == 1
