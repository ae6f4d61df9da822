"""Storages that never answer: whoever asks goes on, with one clear error."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import flow, get_client, task
from callsheet._results import files
from callsheet._results.limits import Question
from callsheet.cache_policies import INPUTS
from callsheet.exceptions import StorageTimeout, StorageUnavailable
from callsheet.filesystems import LocalFileSystem, MemoryStorage
from callsheet.results import ResultStore
from callsheet.settings import temporary_settings

LONG = 60.0  # seconds that nothing here takes
_answers = threading.Event()


class Hanging:
    """A user's storage that does not answer, in sync code."""

    reads, writes = True, True

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def read_path(self, path: str) -> bytes:
        if self.reads:
            _answers.wait(LONG)
        return self.kept[path]

    def write_path(self, path: str, content: bytes) -> None:
        if self.writes:
            _answers.wait(LONG)
        self.kept[path] = content

    def __repr__(self) -> str:
        return "Hanging()"


class HangingAwaited:
    """The same in async code; it can be cancelled."""

    async def read_path(self, path: str) -> bytes:
        await anyio.sleep(LONG)
        raise KeyError(path)

    async def write_path(self, path: str, content: bytes) -> None:
        await anyio.sleep(LONG)

    def __repr__(self) -> str:
        return "Hanging()"


class Stubborn:
    """The same, and it does not let itself be cancelled for a while; a loop could not end before it does."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def _hang(self) -> None:
        until = anyio.current_time() + 1
        with anyio.CancelScope(shield=True):
            while not _answers.is_set() and anyio.current_time() < until:
                await anyio.sleep(0.01)

    async def read_path(self, path: str) -> bytes:
        await self._hang()
        return self.kept[path]

    async def write_path(self, path: str, content: bytes) -> None:
        await self._hang()
        self.kept[path] = content

    def __repr__(self) -> str:
        return "Hanging()"


class HangingFolder(LocalFileSystem):
    """One of ours."""

    def get(self, key: str) -> bytes:
        _answers.wait(LONG)
        return super().get(key)

    def put(self, key: str, parts: Any) -> None:
        _answers.wait(LONG)
        super().put(key, parts)

    def peek(self, key: str, length: int = 4096) -> tuple[bytes, int]:
        _answers.wait(LONG)
        return super().peek(key, length)

    def __repr__(self) -> str:
        return "Hanging()"


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    _answers.clear()
    with temporary_settings({"results_storage_timeout_seconds": 0.05}):
        yield
    _answers.set()


@pytest.fixture(params=["sync", "async", "stubborn", "ours"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    kinds: dict[str, Any] = {"sync": Hanging, "async": HangingAwaited, "stubborn": Stubborn}
    return kinds.get(request.param, lambda: HangingFolder(tmp_path))()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("INFO", logger="callsheet")
    return caplog


def assert_says_all(text: str, key: str) -> None:
    assert key in text
    assert "Hanging()" in text
    assert "0.05 s" in text
    assert "CALLSHEET_RESULTS_STORAGE_TIMEOUT_SECONDS" in text


def test_one_clear_error_in_sync_code(storage: Any) -> None:
    store = ResultStore(result_storage=storage)
    for ask in (lambda: store.read("a key"), lambda: store.write(1, key="a key")):
        with pytest.raises(StorageTimeout) as caught:
            ask()
        assert_says_all(str(caught.value), "a key")
        assert isinstance(caught.value, StorageUnavailable)
    assert not store.exists("a key")


@pytest.mark.anyio
async def test_one_clear_error_in_async_code(storage: Any) -> None:
    store = ResultStore(result_storage=storage)
    with pytest.raises(StorageTimeout) as caught:
        await store.aread("a key")
    assert_says_all(str(caught.value), "a key")
    with pytest.raises(StorageTimeout):
        await store.awrite(1, key="a key")
    assert not await store.aexists("a key")


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_runs_complete_although_it_does_not_answer(storage: Any, run_on: Any, colour: str, logged: Any) -> None:
    calls: list[int] = []

    @task(cache_policy=INPUTS, result_storage=storage, cache_result_in_memory=False)
    def double(x: int) -> int:
        calls.append(x)
        return 2 * x

    @task(cache_policy=INPUTS, result_storage=storage, cache_result_in_memory=False)
    async def adouble(x: int) -> int:
        calls.append(x)
        return 2 * x

    @flow(result_storage=storage, persist_result=True)
    async def around() -> list[int]:
        return [double(1) if colour == "sync" else await adouble(1) for _ in range(2)]

    assert run_on(around) == [2, 2]
    assert calls == [1, 1]
    assert_says_all(logged.text, "")
    assert "It cannot be known whether there is a result" in logged.text or "cannot be used" in logged.text


def test_a_sync_run_in_the_main_thread_completes_too(storage: Any, logged: Any) -> None:
    @flow(result_storage=storage, persist_result=True)
    def give() -> int:
        return 7

    state = give(return_state=True)
    assert (state.is_completed(), state.result()) == (True, 7)
    [line] = [record for record in logged.records if "has not been persisted" in record.getMessage()]
    assert line.levelname == "WARNING"
    assert_says_all(line.getMessage(), "")


def test_a_result_that_is_read_back_says_whose_it_is(logged: Any) -> None:
    storage = Hanging()
    storage.reads = storage.writes = False

    @task(persist_result=True, result_storage=storage)
    def give() -> int:
        return 7

    with temporary_settings({"results_storage_timeout_seconds": LONG}):
        state = give(return_state=True)
    with get_client(sync_client=True) as client:
        back = client.read_task_run(state.state_details.task_run_id).state
    storage.reads = True
    with pytest.raises(StorageTimeout) as caught:
        back.result()
    assert f"The result of the task run {state.state_details.task_run_id} cannot be read" in str(caught.value)
    assert_says_all(str(caught.value), state.data.metadata.storage_key)
    _answers.set()
    with temporary_settings({"results_storage_timeout_seconds": LONG}):
        assert back.result() == 7


def test_a_storage_that_stays_silent_is_not_asked_for_ever() -> None:
    storage = Hanging()
    store = ResultStore(result_storage=storage)
    for _ in range(8):
        with pytest.raises(StorageTimeout, match="has not answered for"):
            store.read("a")
    before = threading.active_count()
    with pytest.raises(StorageTimeout, match="8 earlier questions"):
        store.read("a")
    assert threading.active_count() <= before
    storage.kept["a"] = b"not a record"
    _answers.set()
    with temporary_settings({"results_storage_timeout_seconds": LONG}):
        while True:  # until the first of them has its answer
            try:
                store.read("a")
            except StorageTimeout:
                continue
            except Exception as error:
                assert "This is no result of callsheet" in str(error)
                break


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_hangs_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "a"
    os.mkfifo(pipe)
    with pytest.raises(StorageTimeout, match="'a'"):
        LocalFileSystem(tmp_path).read_path("a")
    os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))  # the one who waits has an answer


def test_a_write_that_was_given_up_changes_nothing_afterwards(tmp_path: Path, monkeypatch: Any) -> None:
    ended = threading.Event()

    class Slow(LocalFileSystem):
        def put(self, key: str, parts: Any) -> None:
            try:
                super().put(key, parts)
            finally:
                ended.set()

    monkeypatch.setattr(files.os, "fsync", lambda _: _answers.wait(LONG))
    store = ResultStore(result_storage=Slow(tmp_path))
    with pytest.raises(StorageTimeout):
        store.write(1, key="a")
    _answers.set()
    assert ended.wait(LONG)
    assert not list(tmp_path.iterdir())


@pytest.mark.anyio
async def test_only_the_time_of_the_storage_counts() -> None:
    question = Question(MemoryStorage(), "a", seconds=0.001)
    waits: list[float] = []

    async def wait(done: Any, seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 3:  # it was computing all the time
            question.run(lambda: "made")
        return done.is_set

    assert await question.outcome(wait) == "made"
    assert len(waits) == 3


def test_nothing_is_limited_where_that_is_asked_for(tmp_path: Path) -> None:
    with temporary_settings({"results_storage_timeout_seconds": 0}):
        store = ResultStore(result_storage=LocalFileSystem(tmp_path))
        store.write(1, key="a")
        assert store.read("a").result == 1
        user = Hanging()
        user.reads = user.writes = False
        store = ResultStore(result_storage=user)
        store.write(2, key="a")
        assert store.read("a").result == 2


@pytest.mark.anyio
async def test_what_does_not_let_itself_be_cancelled_is_left_behind_and_may_still_happen() -> None:
    storage = Stubborn()
    store = ResultStore(result_storage=storage, cache_result_in_memory=False)
    with pytest.raises(StorageTimeout, match="left behind; it may still happen"):
        await store.awrite(1, key="a")
    assert not storage.kept
    _answers.set()
    with anyio.fail_after(30):
        while not storage.kept:
            await anyio.sleep(0.01)
    with temporary_settings({"results_storage_timeout_seconds": LONG}):
        assert (await store.aread("a")).result == 1


@pytest.mark.anyio
async def test_an_asker_who_is_cancelled_takes_what_was_asked_along() -> None:
    ended = anyio.Event()

    class Cancellable(HangingAwaited):
        async def read_path(self, path: str) -> bytes:
            try:
                return await super().read_path(path)
            finally:
                ended.set()

    store = ResultStore(result_storage=Cancellable())
    with temporary_settings({"results_storage_timeout_seconds": LONG}), anyio.move_on_after(0.05) as scope:
        await store.aread("a")
    assert scope.cancelled_caught
    assert ended.is_set()
