"""States and futures that were read from the history stand for the values that a storage has, wherever they are passed."""

from __future__ import annotations

from typing import Any

import pytest

from callsheet import allow_failure, flow, get_client, task
from callsheet.exceptions import MissingResult
from callsheet.futures import DistributedTaskFuture
from callsheet.states import State, raise_state_exception


@task(persist_result=True)
def give(value: Any) -> Any:
    if isinstance(value, Exception):
        raise value
    return value


@task
def take(value: Any) -> Any:
    return value


def read_back(value: Any) -> State[Any]:
    details = give(value, return_state=True).state_details
    with get_client(sync_client=True) as client:
        return client.read_task_run(details.task_run_id).state


def by_id(value: Any) -> DistributedTaskFuture[Any]:
    return DistributedTaskFuture(give(value, return_state=True).state_details.task_run_id)


@pytest.mark.parametrize("source", [read_back, by_id])
def test_tasks_get_the_value(source: Any) -> None:
    known = source([1, 2])

    @flow
    def main() -> Any:
        return (
            take(known),
            take.submit({"nested": [known]}).result(),
            take.map(known).result(),
            take(known, wait_for=[known]),
        )

    assert main() == ([1, 2], {"nested": [[1, 2]]}, [1, 2], [1, 2])
    assert take(known) == [1, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("source", [read_back, by_id])
async def test_async_tasks_too(source: Any) -> None:
    known = source([1, 2])

    @task
    async def take_later(value: Any) -> Any:
        return value

    @flow
    async def main() -> Any:
        return await take_later(known), take_later.map(known).result()

    assert await main() == ([1, 2], [1, 2])


@pytest.mark.parametrize("source", [read_back, by_id])
def test_subflows_too(source: Any) -> None:
    known = source("5")

    @flow
    def inside(number: int) -> int:
        return number

    @flow
    def main() -> int:
        return inside(known)

    assert main() == 5


@pytest.mark.parametrize("source", [read_back, by_id])
def test_the_exception_of_a_failure_that_is_allowed(source: Any) -> None:
    known = source(ValueError("gone"))

    @flow
    def main() -> Any:
        return take(allow_failure([known])), take(known, return_state=True).name

    ([error], name) = main()
    assert type(error) is ValueError
    assert str(error) == "gone"
    assert name == "NotReady"


def test_what_is_gone_from_its_storage_fails_the_run() -> None:
    @task(persist_result=False)
    def forget() -> int:
        return 1

    details = forget(return_state=True).state_details
    with get_client(sync_client=True) as client:
        state = client.read_task_run(details.task_run_id).state
    with pytest.raises(MissingResult):
        take(state)


@pytest.mark.parametrize("source", [read_back, by_id])
def test_a_flow_that_returns_them(source: Any) -> None:
    @flow
    def main(known: Any) -> Any:
        return [known]

    assert main.with_options(validate_parameters=False)(read_back(1), return_state=True).is_completed()

    good, bad = source(1), source(ValueError("gone"))

    @flow
    def returns(*found: Any) -> Any:
        return [good] if not found else [good, bad]

    (state,) = returns()
    assert state.result() == 1
    with pytest.raises(ValueError, match="gone"):
        returns("bad")
    failed = returns("bad", return_state=True)
    assert failed.message == "1/2 states failed."
    with pytest.raises(ValueError, match="gone"):
        failed.result()
    with pytest.raises(ValueError, match="gone"):
        raise_state_exception(failed)


def test_the_value_by_id() -> None:
    assert by_id(4).result() == 4
    failed = by_id(ValueError("gone"))
    with pytest.raises(ValueError, match="gone"):
        failed.result()
    assert isinstance(failed.result(raise_on_failure=False), ValueError)


@pytest.mark.anyio
async def test_the_value_by_id_in_async_code() -> None:
    known = by_id(4)
    assert (await known, known.result()) == (4, 4)
