"""Bodies that write a record by themselves and return it: it stands for its value."""

from __future__ import annotations

from typing import Any

import pytest

from callsheet import flow, get_client, task
from callsheet.exceptions import MissingResult
from callsheet.results import ResultRecord, get_result_store
from callsheet.states import Completed, State


def written(value: Any) -> ResultRecord[Any]:
    store = get_result_store()
    record = store.create_result_record(value)
    store.persist_result_record(record)
    return record


def in_state(value: Any) -> State[Any]:
    return Completed(data=written(value), message="mine")


def read_back(state: State[Any]) -> State[Any]:
    details = state.state_details
    with get_client(sync_client=True) as client:
        if details.task_run_id is not None:
            return client.read_task_run(details.task_run_id).state
        return client.read_flow_run(details.flow_run_id).state


@pytest.mark.parametrize("persist", [None, True])
@pytest.mark.parametrize("returned", [written, in_state])
@pytest.mark.parametrize("define", [task, flow])
def test_whoever_calls_gets_the_value_and_the_history_where_it_is(define: Any, returned: Any, persist: Any) -> None:
    @define(persist_result=persist)
    def gives() -> Any:
        return returned([1, 2])

    assert gives() == [1, 2]
    state = gives(return_state=True)
    assert state.is_completed()
    assert isinstance(state.data, ResultRecord)
    assert state.result() == [1, 2]
    assert read_back(state).result() == [1, 2]


async def give_asynchronously() -> Any:
    store = get_result_store()
    record = store.create_result_record("late")
    await store.apersist_result_record(record)
    return record


@pytest.mark.anyio
async def test_async_tasks_too_and_those_that_are_submitted() -> None:
    gives = task(give_asynchronously)

    @flow
    async def around() -> Any:
        return await gives(), gives.submit().result()

    assert await around() == ("late", "late")


def test_a_record_that_nobody_wrote_is_missing_for_others_only() -> None:
    @task
    def gives() -> Any:
        return get_result_store().create_result_record(7)

    state = gives(return_state=True)
    assert state.result() == 7
    with pytest.raises(MissingResult):
        read_back(state).result()
