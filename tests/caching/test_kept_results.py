"""Results of runs: who keeps them, where, in which form, and how they come back."""

from __future__ import annotations

import logging
import pickle
import threading
from typing import Any

import anyio
import pytest

from callsheet import flow, get_client, task
from callsheet._engine.ambient import ambient_core
from callsheet.cache_policies import INPUTS
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import MissingResult
from callsheet.results import ResultRecord, ResultRecordMetadata, get_result_store, should_persist_result
from callsheet.settings import temporary_settings
from callsheet.states import Completed
from store_helpers import run_now


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("INFO", logger="callsheet")
    return caplog


def stored(state: Any) -> Any:
    """Read a run's state back from the history."""
    details = state.state_details
    with get_client(sync_client=True) as client:
        if details.task_run_id is not None:
            return client.read_task_run(details.task_run_id).state
        return client.read_flow_run(details.flow_run_id).state


# ------------------------------------------------------------------------------------------- reading back


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": 2}], b"x" * 100_000, {1, 2}, ValueError("as a value")])
def test_persisted_results_come_back(value):
    @task(persist_result=True)
    def give_task() -> Any:
        return value

    @flow(persist_result=True)
    def give_flow() -> Any:
        return value

    for give in (give_task, give_flow):
        state = give(return_state=True)
        assert isinstance(state.data, ResultRecord)
        assert state.result() is value
        back = stored(state)
        assert isinstance(back.data, ResultRecordMetadata)
        assert back.data == state.data.metadata
        assert repr(back.result()) == repr(value)


def test_results_that_were_not_persisted_are_missing():
    @task
    def plain() -> int:
        return 1

    @flow(persist_result=False)
    def around() -> Any:
        return plain(return_state=True)

    state = around(return_state=True)
    for one in (state, state.result()):
        with pytest.raises(MissingResult):
            stored(one).result()


@pytest.mark.parametrize("kind", [task, flow])
def test_failures_are_persisted_too(kind):
    @kind(persist_result=True)
    def fail() -> None:
        raise ValueError("no luck")

    state = fail(return_state=True)
    assert isinstance(state.data, ResultRecord)
    with pytest.raises(ValueError, match="no luck"):
        state.result()
    back = stored(state)
    assert isinstance(back.data, ResultRecordMetadata)
    with pytest.raises(ValueError, match="no luck"):
        back.result()
    assert isinstance(back.result(raise_on_failure=False), ValueError)


@pytest.mark.parametrize("kind", [task, flow])
def test_a_timeout_is_persisted(kind):
    @kind(persist_result=True, timeout_seconds=0.05)
    async def slow() -> None:
        await anyio.sleep(30)

    async def main() -> Any:
        return await slow(return_state=True)

    state = anyio.run(main)
    assert state.name == "TimedOut"
    with pytest.raises(TimeoutError):
        stored(state).result()


@pytest.mark.parametrize("kind", [task, flow])
def test_a_result_that_cannot_be_serialized_does_not_fail_the_run(kind, logged):
    lock = threading.Lock()

    @kind(persist_result=True)
    def give() -> Any:
        return lock

    state = give(return_state=True)
    assert state.is_completed()
    assert state.result() is lock
    assert "Encountered an error while serializing result" in logged.text
    assert [record.levelname for record in logged.records if "serializing result" in record.getMessage()] == ["WARNING"]
    with pytest.raises(MissingResult):
        stored(state).result()


@pytest.mark.parametrize("kind", [task, flow])
def test_a_state_of_the_users_own_stays_the_same_object(kind):
    made = Completed(message="mine", data={"a": 1})

    @kind(persist_result=True)
    def give() -> Any:
        return made

    state = give(return_state=True)
    assert state is made
    assert isinstance(made.data, ResultRecord)
    assert made.result() == {"a": 1}
    assert stored(state).result() == {"a": 1}


def test_states_in_results_come_back_equal():
    @task(persist_result=True)
    def one(x: int) -> int:
        return x

    @flow(persist_result=True)
    def around() -> Any:
        return one.map([1, 2])

    state = around(return_state=True)
    assert [inner.result() for inner in stored(state).result()] == [1, 2]
    assert stored(state).result() == state.result()


def test_values_keep_their_identity_for_callers(run_on):
    value: dict[str, Any] = {}

    @task(persist_result=True, cache_result_in_memory=False)
    async def give() -> Any:
        return value

    @flow(persist_result=True)
    async def around() -> Any:
        assert await give() is value
        assert give.submit().result() == value
        return value

    async def main() -> None:
        assert await around() is value

    run_on(main)


# ------------------------------------------------------------------------------------------- inheritance


@pytest.mark.parametrize(
    ("setting", "of_flow", "of_task", "expected"),
    [
        (False, None, None, False),
        (True, None, None, True),
        (False, True, None, True),
        (True, False, None, False),
        (True, False, True, True),
        (False, True, False, False),
    ],
)
def test_task_goes_before_flow_goes_before_setting(setting, of_flow, of_task, expected):
    seen: list[bool] = []

    @task(persist_result=of_task)
    def inner() -> None:
        seen.append(should_persist_result())
        assert TaskRunContext.get().persist_result is should_persist_result()

    @flow(persist_result=of_flow)
    def outer() -> None:
        seen.append(should_persist_result())
        inner()

    with temporary_settings({"results_persist_by_default": setting}):
        outer()
    assert seen == [setting if of_flow is None else of_flow, expected]


def test_subflows_inherit_storage_serializer_and_persistence(tmp_path_factory):
    place, other = tmp_path_factory.mktemp("outer"), tmp_path_factory.mktemp("inner")
    stores: dict[str, Any] = {}

    @task
    def leaf(name: str) -> str:
        stores[name] = get_result_store()
        assert TaskRunContext.get().result_store is stores[name]
        return name

    @flow
    def child() -> None:
        stores["child"] = FlowRunContext.get().result_store
        leaf("child's")

    @flow(result_storage=place, result_serializer="json")
    def parent() -> None:
        stores["parent"] = get_result_store()
        leaf("leaf")
        child()
        leaf.with_options(result_storage=other, result_serializer="pickle")("own")

    parent()
    assert {name: store.serializer.type for name, store in stores.items()} == {
        "parent": "json", "leaf": "json", "child": "json", "child's": "json", "own": "pickle",
    }  # fmt: skip
    places = {name: str(store.result_storage.basepath) for name, store in stores.items()}
    assert places == dict.fromkeys(stores, str(place)) | {"own": str(other)}
    assert len(list(other.iterdir())) == 1
    assert b"json" in next(path for path in place.iterdir() if path.is_file()).read_bytes()


class Silent:
    """A storage of the user's own, with coroutines."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def read_path(self, path: str) -> bytes:
        await anyio.sleep(0)
        if path not in self.kept:
            raise ValueError(f"{path} does not exist")
        return self.kept[path]

    async def write_path(self, path: str, content: bytes) -> None:
        await anyio.sleep(0)
        self.kept[path] = bytes(content)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_async_storages_of_users_work_in_both_colours(run_on, colour):
    storage = Silent()

    @task(cache_policy=INPUTS, result_storage=storage, cache_result_in_memory=False)
    def double(x: int) -> int:
        return 2 * x

    @task(cache_policy=INPUTS, result_storage=storage, cache_result_in_memory=False)
    async def adouble(x: int) -> int:
        return 2 * x

    @flow
    async def around() -> list[tuple[str, int]]:
        if colour == "sync":
            states = [double(1, return_state=True) for _ in range(2)]
        else:
            states = [await adouble(1, return_state=True) for _ in range(2)]
        return [(state.name, await state.result()) for state in states]

    assert run_on(around) == [("Completed", 2), ("Cached", 2)]
    assert len(storage.kept) == 1


class Refusing:
    """A storage that is down."""

    def read_path(self, path: str) -> bytes:
        raise ConnectionError("the line is down")

    def write_path(self, path: str, content: bytes) -> None:
        raise ConnectionError("the line is down")


@pytest.mark.parametrize("kind", [task, flow])
def test_a_storage_that_refuses_does_not_fail_the_run(kind, logged):
    @kind(persist_result=True, result_storage=Refusing())
    def give() -> int:
        return 7

    state = give(return_state=True)
    assert (state.is_completed(), state.result()) == (True, 7)
    assert "the line is down" in logged.text
    with pytest.raises(MissingResult):
        stored(state).result()


def test_the_journal_says_where_a_persisted_result_is():
    @task(persist_result=True)
    def give() -> int:
        return 7

    @flow
    def around() -> Any:
        return give(return_state=True)

    state = around()
    core = ambient_core()
    core.journal.flush()
    reader = core.store.blocking_reader()
    outcomes = run_now(reader.read_outcomes(state.state_details.flow_run_id))
    run_now(reader.aclose())
    (entry,) = [found for found in outcomes if found.run_id == state.state_details.task_run_id]
    assert entry.result.codec == "metadata"
    assert ResultRecordMetadata.load_bytes(entry.result.inline) == state.data.metadata


def test_records_survive_pickling():
    @task(persist_result=True)
    def give() -> list[int]:
        return [1]

    state = give(return_state=True)
    assert pickle.loads(pickle.dumps(state)) == state


# ------------------------------------------------------------------------------------- options of no use


@pytest.mark.parametrize(
    ("options", "message"),
    [({"result_storage": 5}, "Result storage must be one of"), ({"result_serializer": "none"}, "no serializer has")],
)
class TestOptionsThatNoRunCanUse:
    def test_a_flow_fails_before_its_body(self, options, message):
        calls = []

        @flow(**options)
        def give() -> None:
            calls.append(1)

        state = give(return_state=True)
        assert state.is_failed()
        assert message in state.message
        assert stored(state).message == state.message
        with pytest.raises((TypeError, ValueError), match=message):
            give()
        assert calls == []

    def test_a_task_fails(self, options, message):
        @task(**options)
        def give() -> int:
            return 1

        @task(**options)
        async def give_later() -> int:
            return 1

        @flow
        def submits() -> None:
            for each in (give, give_later):
                state = each.submit(return_state=True)
                assert state.is_failed()
                assert message in stored(state).message

        for state in (give(return_state=True), anyio.run(lambda: give_later(return_state=True))):
            assert state.is_failed()
            assert message in state.message
        submits()
