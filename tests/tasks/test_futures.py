"""Futures: waiting for a run in every way, in every colour of code."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import State, flow, task
from callsheet.exceptions import BlockingWaitError
from callsheet.futures import (
    ConcurrentTaskFuture,
    TaskFuture,
    WrappedTaskFuture,
)
from callsheet.states import Completed, Failed


@task
def give(x: Any) -> Any:
    return x


@task
async def agive(x: Any) -> Any:
    await anyio.sleep(0)
    return x


@task
def fail() -> None:
    raise ValueError("no")


def in_flow(body: Callable[[], Any]) -> Any:
    """Run a function as a flow, and give what it returned."""
    found: list[Any] = []

    @flow
    def around() -> None:
        found.append(body())

    around()
    return found[0]


class Gate:
    """A task that waits until it is let go."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()

        @task
        def held(x: Any = None) -> Any:
            self.entered.set()
            assert self.open.wait(10)
            return x

        self.task = held


# --------------------------------------------------------------------------------------------- one


def test_what_a_future_is() -> None:
    def body() -> None:
        future = give.submit(7)
        assert isinstance(future, TaskFuture)
        assert isinstance(future, WrappedTaskFuture)
        assert isinstance(future, ConcurrentTaskFuture)
        assert isinstance(future.task_run_id, uuid.UUID)
        assert isinstance(future.wrapped_future, concurrent.futures.Future)
        assert future.wait() is None
        assert future.state.is_completed()
        assert future.state.state_details.task_run_id == future.task_run_id
        assert future.result() == future.state.result() == 7
        assert future.wrapped_future.result(5) is future.state
        assert {future, future} == {future}

    in_flow(body)


def test_waiting_may_end_before_the_run() -> None:
    gate = Gate()

    def body() -> None:
        future = gate.task.submit(1)
        assert future.wait(0.01) is None
        assert not future.state.is_final()
        with pytest.raises(TimeoutError):
            future.result(timeout=0.01)
        gate.open.set()
        assert future.result(timeout=10) == 1

    in_flow(body)


def test_a_run_that_has_not_begun_is_pending() -> None:
    gate = Gate()

    def body() -> None:
        later = give.submit(1, wait_for=[gate.task.submit()])
        assert later.state.is_pending()
        later.wait(timeout=0)
        assert later.state.is_pending()
        gate.open.set()
        later.wait()

    in_flow(body)


def test_failures_are_raised_or_handed_over() -> None:
    def body() -> None:
        future = fail.submit()
        future.wait()
        with pytest.raises(ValueError, match="no") as caught:
            future.result()
        assert future.result(raise_on_failure=False) is caught.value

    in_flow(body)


def test_callbacks_are_called_once_with_the_future() -> None:
    gate = Gate()
    called: list[Any] = []

    def body() -> Any:
        future = gate.task.submit()
        future.add_done_callback(called.append)
        assert called == []
        gate.open.set()
        future.wait()
        deadline = time.monotonic() + 5
        while not called and time.monotonic() < deadline:
            time.sleep(0.001)
        future.add_done_callback(called.append)
        assert called == [future, future]

    in_flow(body)


@pytest.mark.parametrize("ended", [False, True])
def test_a_callback_that_raises_keeps_nobody_waiting(ended: bool, caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    called: list[Any] = []

    def spoil(_: Any) -> None:
        raise ValueError("spoilt")

    def body() -> Any:
        future = gate.task.submit()
        if ended:
            gate.open.set()
            future.wait()
        future.add_done_callback(spoil)
        future.add_done_callback(called.append)
        told = threading.Event()
        future.add_done_callback(lambda _: told.set())
        gate.open.set()
        future.result(timeout=20)
        assert future.wrapped_future.result(timeout=20).is_completed()
        assert told.wait(20)
        assert called == [future]

    in_flow(body)
    (record,) = [record for record in caplog.records if "callback" in record.getMessage()]
    assert record.levelname == "ERROR"
    assert "spoilt" in str(record.exc_info and record.exc_info[1])


def test_what_is_inside_cannot_be_cancelled() -> None:
    gate = Gate()

    def body() -> Any:
        future = gate.task.submit()
        assert not future.wrapped_future.cancel()
        gate.open.set()
        future.result(timeout=20)
        assert future.wrapped_future.result(timeout=20).is_completed()

    in_flow(body)


def test_giving_up_on_what_is_inside_leaves_the_run_alone() -> None:
    gate = Gate()

    @flow
    async def main() -> Any:
        future = gate.task.submit()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future.wrapped_future), 0.01)
        gate.open.set()
        return (await asyncio.wait_for(future, 20), (await asyncio.wrap_future(future.wrapped_future)).name)

    assert asyncio.run(main())[1] == "Completed"


def test_return_state_waits() -> None:
    state = in_flow(lambda: give.submit(3, return_state=True))
    assert isinstance(state, State)
    assert state.result() == 3
    assert in_flow(lambda: fail.submit(return_state=True)).is_failed()


def test_submit_and_map_outside_of_flows_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"outside of a flow, please use `\.delay` to submit"):
        give.submit(1)
    with pytest.raises(RuntimeError, match="outside of a flow, please provide `deferred=True`"):
        give.map([1])

    @task
    def lonely() -> None:
        give.submit(1)

    with pytest.raises(RuntimeError, match="Unable to determine task runner"):
        lonely()


@pytest.mark.anyio
async def test_futures_are_waited_for_and_awaited_in_async_flows() -> None:
    @flow
    async def around() -> list[Any]:
        futures = [agive.submit(1), give.submit(2)]
        found = [await futures[0], futures[1].result(), futures[0].result()]
        assert futures[0].wait() is None
        with pytest.raises(ValueError, match="no"):
            await fail.submit()
        with pytest.raises(ValueError, match="no"):
            fail.submit().result()
        return found

    assert await around() == [1, 2, 1]


@pytest.mark.anyio
async def test_a_wait_with_a_timeout_in_async_code_lets_the_loop_go_on() -> None:
    @task
    async def forever() -> None:
        await anyio.sleep_forever()

    @flow
    async def around() -> None:
        future = forever.submit()
        future.wait(0.01)
        assert not future.state.is_final()
        with pytest.raises(TimeoutError):
            future.result(timeout=0.01)
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        await around()


@pytest.mark.anyio
async def test_a_run_that_waits_for_itself_is_refused() -> None:
    box: list[Any] = []
    ready = anyio.Event()

    @task
    async def selfish() -> str:
        await ready.wait()
        with pytest.raises(BlockingWaitError):
            box[0].result()
        with pytest.raises(BlockingWaitError):
            await box[0]
        return "survived"

    @flow
    async def around() -> str:
        box.append(selfish.submit())
        ready.set()
        return await box[0]

    assert await around() == "survived"


def test_a_sync_run_that_waits_for_itself_is_refused() -> None:
    box: list[Any] = []
    ready = threading.Event()

    @task
    def selfish() -> str:
        assert ready.wait(5)
        with pytest.raises(BlockingWaitError):
            box[0].result()
        return "survived"

    def body() -> str:
        box.append(selfish.submit())
        ready.set()
        return box[0].result()

    assert in_flow(body) == "survived"


@pytest.mark.anyio
async def test_a_wait_that_would_block_its_own_loop_is_refused() -> None:
    @flow
    async def around() -> None:
        future = agive.submit(1)

        async def undriven() -> None:
            with pytest.raises(BlockingWaitError, match="await future"):
                future.result()

        async with anyio.create_task_group() as group:
            group.start_soon(undriven)
        assert await future == 1

    await around()


def test_many_may_wait_for_one() -> None:
    gate = Gate()

    def body() -> list[Any]:
        future = gate.task.submit("all")
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(future.result(10))) for _ in range(5)]
        for thread in threads:
            thread.start()
        gate.open.set()
        for thread in threads:
            thread.join()
        return found

    assert in_flow(body) == ["all"] * 5


# -------------------------------------------------------------------------------- dropped too early


def dropped(records: list[Any]) -> list[Any]:
    return [record for record in records if "A future was garbage collected before it resolved" in record.getMessage()]


def test_a_future_that_nobody_kept_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()

    @flow
    def around() -> None:
        gate.task.submit()
        gc.collect()
        gate.open.set()

    around()
    assert len(dropped(caplog.records)) == 1


def test_a_future_that_was_kept_or_whose_run_has_ended_is_not(caplog: pytest.LogCaptureFixture) -> None:
    @flow
    def around() -> list[Any]:
        give.submit(1).wait()
        kept = [give.submit(2), give.submit(3)]
        give.map([1, 2]).result()
        gc.collect()
        return kept

    around()
    assert dropped(caplog.records) == []


# -------------------------------------------------------------------- over a concurrent.futures.Future


def test_a_future_over_another_one() -> None:
    run_id = uuid.uuid4()
    inner: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future: ConcurrentTaskFuture[Any] = ConcurrentTaskFuture(run_id, inner)
    assert future.task_run_id == run_id
    assert future.wrapped_future is inner
    assert future.state.is_pending()
    future.wait(timeout=0.01)
    assert future.state.is_pending()
    with pytest.raises(TimeoutError):
        future.result(timeout=0.01)
    state = Completed(data=42)
    inner.set_result(state)
    future.wait()
    assert future.state is state
    assert future.result() == 42


def test_a_future_over_one_that_failed_or_holds_a_plain_value() -> None:
    inner: concurrent.futures.Future[Any] = concurrent.futures.Future()
    inner.set_result(Failed(data=ValueError("inside")))
    future: ConcurrentTaskFuture[Any] = ConcurrentTaskFuture(uuid.uuid4(), inner)
    with pytest.raises(ValueError, match="inside"):
        future.result()
    assert isinstance(future.result(raise_on_failure=False), ValueError)
    plain: concurrent.futures.Future[Any] = concurrent.futures.Future()
    plain.set_result("as it is")
    assert ConcurrentTaskFuture[Any](uuid.uuid4(), plain).result() == "as it is"


def test_a_future_over_one_that_raises() -> None:
    inner: concurrent.futures.Future[Any] = concurrent.futures.Future()
    inner.set_exception(RuntimeError("broken pool"))
    future: ConcurrentTaskFuture[Any] = ConcurrentTaskFuture(uuid.uuid4(), inner)
    assert future.wait() is None
    with pytest.raises(RuntimeError, match="broken pool"):
        future.result()
    cancelled: concurrent.futures.Future[Any] = concurrent.futures.Future()
    cancelled.cancel()
    future = ConcurrentTaskFuture(uuid.uuid4(), cancelled)
    future.wait()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_a_future_over_one_is_awaited_too() -> None:
    inner: concurrent.futures.Future[Any] = concurrent.futures.Future()
    future: ConcurrentTaskFuture[Any] = ConcurrentTaskFuture(uuid.uuid4(), inner)

    async def main() -> Any:
        asyncio.get_running_loop().call_later(0.01, inner.set_result, Completed(data=1))
        return await future

    assert asyncio.run(main()) == 1
