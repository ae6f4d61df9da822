"""Orders that arrive when a run has been claimed by an engine, and is not alive in it yet."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from contextvars import Context
from functools import partial
from typing import Any
from uuid import UUID

import anyio
import pytest

from callsheet import Engine, flow, get_client, suspend_flow_run, task
from callsheet._engine import reviving
from callsheet._engine.arrivals import Arrivals
from callsheet.exceptions import RunNotLive, UnknownQuery
from callsheet.flow_runs import acancel_flow_run, aresume_flow_run, cancel_flow_run, wait_for_flow_run
from callsheet.queries import aquery_flow_run, on_query, query_flow_run
from callsheet.runtime import flow_run
from callsheet.states import Failed

pytestmark = pytest.mark.anyio
PATIENCE = 50.0  # seconds; only ever waited for by a test that fails
Order = Callable[[UUID], Any]


class Way:
    """Holds runs up between their claim and their life."""

    def __init__(self) -> None:
        self.claimed = threading.Event()
        self.free = threading.Event()
        self.orders = threading.Semaphore(0)  # those that wait for what is under way
        self.take_up = reviving.take_up

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.claimed.set()
        assert self.free.wait(PATIENCE)
        return self.take_up(*args, **kwargs)


@pytest.fixture
def way(monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    made = Way()
    settled, when_settled = Arrivals.settled, Arrivals.when_settled

    async def noted(self: Arrivals, port: Any) -> None:
        made.orders.release()
        await settled(self, port)

    def noted_too(self: Arrivals, call: Callable[[], None]) -> bool:
        is_late = when_settled(self, call)
        if is_late:
            made.orders.release()
        return is_late

    monkeypatch.setattr(reviving, "take_up", made)
    monkeypatch.setattr(Arrivals, "settled", noted)
    monkeypatch.setattr(Arrivals, "when_settled", noted_too)
    yield made
    made.free.set()


did: list[str] = []


@task
async def step(name: str) -> None:
    did.append(name)


@flow
async def twice() -> str:
    on_query("where", lambda: "there")
    await step("before")
    await suspend_flow_run(timeout=600)
    await step("after")
    await suspend_flow_run(timeout=600)
    return "done"


heard = threading.Event()


@flow
async def listening() -> None:
    on_query("where", lambda: "there")
    await suspend_flow_run(timeout=600)
    await anyio.to_thread.run_sync(heard.wait, PATIENCE)  # else it might be gone before it is asked


async def _suspended(body: Any = twice) -> UUID:
    did.clear()
    heard.clear()
    state: Any = await body(return_state=True)
    assert state.name == "Suspended"
    return UUID(str(state.state_details.flow_run_id))


async def _other_engine(order: Order, run_id: UUID) -> Any:
    """Order from a thread, whose engine is another one on the same history."""
    return await anyio.to_thread.run_sync(Context().run, order, run_id)


async def _name(run_id: UUID) -> str | None:
    async with get_client() as client:
        return (await client.read_flow_run(run_id)).state_name


async def _cancel(run_id: UUID) -> Any:
    return await acancel_flow_run(run_id)


async def _cancel_from_elsewhere(run_id: UUID) -> Any:
    return await _other_engine(cancel_flow_run, run_id)


async def _fail(run_id: UUID) -> Any:
    async with get_client() as client:
        return await client.set_flow_run_state(run_id, Failed(message="enough"))


def _fail_sync(run_id: UUID) -> Any:
    with get_client(sync_client=True) as client:
        return client.set_flow_run_state(run_id, Failed(message="enough"))


async def _fail_from_elsewhere(run_id: UUID) -> Any:
    return await _other_engine(_fail_sync, run_id)


@asynccontextmanager
async def _held_up(way: Way, flow_run_id: UUID, orders: int = 1) -> AsyncIterator[Any]:
    """Resume a run, and let it come to life when so many orders that are given inside wait for it."""
    await aresume_flow_run(flow_run_id)
    await anyio.to_thread.run_sync(way.claimed.wait, PATIENCE)
    async with anyio.create_task_group() as group:
        yield group
        for _ in range(orders):
            assert await anyio.to_thread.run_sync(lambda: way.orders.acquire(timeout=PATIENCE))
        way.free.set()


@pytest.mark.parametrize(
    ("order", "end"),
    [
        (_cancel, "Cancelled"),
        (_cancel_from_elsewhere, "Cancelled"),
        (_fail, "Failed"),
        (_fail_from_elsewhere, "Failed"),
    ],
)
async def test_an_end_that_is_ordered_on_the_way_is_the_end(way: Way, order: Order, end: str) -> None:
    async with Engine(flows=[twice]):
        run_id = await _suspended()
        async with _held_up(way, run_id) as orders:
            orders.start_soon(order, run_id)
        run: Any = await wait_for_flow_run(run_id, timeout=PATIENCE)
        assert run.state_name == end
        done = list(did)
        assert done in (["before"], ["before", "after"])  # it came to life a moment before the order
        await anyio.sleep(0.2)  # in which nothing must happen any more
        assert await _name(run_id) == end
        assert did == done


def _suspend_sync(run_id: UUID) -> Any:
    return suspend_flow_run(flow_run_id=run_id)


async def _suspend(run_id: UUID) -> Any:
    return await suspend_flow_run(flow_run_id=run_id)


async def _suspend_from_elsewhere(run_id: UUID) -> Any:
    return await _other_engine(_suspend_sync, run_id)


@pytest.mark.parametrize("order", [_suspend, _suspend_from_elsewhere])
async def test_a_suspension_that_is_ordered_on_the_way(way: Way, order: Order) -> None:
    async with Engine(flows=[twice]):
        run_id = await _suspended()
        async with _held_up(way, run_id) as orders:
            orders.start_soon(order, run_id)
        while await _name(run_id) != "Suspended":
            await anyio.sleep(0.01)
        assert did == ["before"], "it leaves at its next call"
        await aresume_flow_run(run_id)
        while did != ["before", "after"]:
            await anyio.sleep(0.01)


async def _ask(run_id: UUID) -> Any:
    return await aquery_flow_run(run_id, "where")


async def _ask_from_elsewhere(run_id: UUID) -> Any:
    return await _other_engine(partial(query_flow_run, name="where"), run_id)


@pytest.mark.parametrize("order", [_ask, _ask_from_elsewhere])
async def test_a_query_on_the_way_reaches_the_run(way: Way, order: Order) -> None:
    said: list[Any] = []

    async def ask(run_id: UUID) -> None:
        try:
            said.append(await order(run_id))
        except UnknownQuery:  # its body has not got there
            said.append("there")
        finally:
            heard.set()

    async with Engine(flows=[listening]):
        run_id = await _suspended(listening)
        async with _held_up(way, run_id) as orders:
            orders.start_soon(ask, run_id)
    assert said == ["there"]


async def test_what_does_not_come_to_life_lets_orders_go_on(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no file is left")

    way.take_up = fails
    async with Engine(flows=[twice]):
        run_id = await _suspended()
        async with _held_up(way, run_id, orders=2) as orders:
            orders.start_soon(_cancel_from_elsewhere, run_id)
            orders.start_soon(_ask_in_vain, run_id)
        assert await _name(run_id) == "Cancelled"


async def _ask_in_vain(run_id: UUID) -> None:
    with pytest.raises(RunNotLive):
        await _ask_from_elsewhere(run_id)


@flow
async def inner() -> None:
    await step("inner")
    await suspend_flow_run(flow_run_id=UUID(flow_run.root_flow_run_id))
    await step("inner again")


@flow
async def outer() -> str:
    return (await inner(return_state=True)).name


async def test_the_end_of_a_subflow_that_is_ordered_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    take_up = reviving.take_up
    did.clear()

    def late(run: Any, record: Any) -> Any:
        if run.cell.parent is not None:  # whoever orders asks before and commits now
            thread = threading.Thread(target=cancel_flow_run, args=(run.cell.id,))
            thread.start()
            thread.join(PATIENCE)
        return take_up(run, record)

    async with Engine(flows=[outer]):
        state: Any = await outer(return_state=True)
        run_id = UUID(str(state.state_details.flow_run_id))
        assert did == ["inner"]
        monkeypatch.setattr(reviving, "take_up", late)
        await aresume_flow_run(run_id)
        run: Any = await wait_for_flow_run(run_id, timeout=PATIENCE)
        assert run.state_name == "Completed"
        async with get_client() as client:
            (sub,) = [one for one in await client.read_flow_runs() if one.name != run.name]
        assert sub.state_name == "Cancelled"
        assert did == ["inner"]
