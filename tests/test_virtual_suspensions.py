"""In virtual time runs that have left their process come back to the microsecond, and who waits for them waits no time."""

from __future__ import annotations

import time

import anyio
import pytest

from callsheet import Engine, flow, send_signal, sleep, suspend_flow_run, task, wait_signal
from callsheet.events import StateEvent, watch
from callsheet.exceptions import LostOwnership
from callsheet.flow_runs import resume_flow_run, wait_for_flow_run
from callsheet.input import receive_input
from callsheet.testing import MemoryEngine, run_virtual

HOUR, DAY = 3600.0, 86400.0
REAL_SECONDS = 30.0
bodies: list[float] = []


@pytest.fixture(params=["asyncio", "trio"])
def backend(request):
    return request.param


@pytest.fixture(params=["memory", "file"])
def database(request, tmp_path):
    return ":memory:" if request.param == "memory" else str(tmp_path / "history.db")


@pytest.fixture(autouse=True)
def quick():
    bodies.clear()
    began = time.monotonic()
    yield
    assert time.monotonic() - began < REAL_SECONDS


@task
def note(value):
    time.sleep(0.001)
    return value


@flow
async def naps():
    for _ in range(3):
        await sleep(3 * DAY)
    return note(7)


@flow
def naps_sync():
    for _ in range(3):
        sleep(3 * DAY)
    return note.submit(7).result()


@flow
async def asks(timeout):
    return await suspend_flow_run(wait_for_input=int, timeout=timeout)


@flow
def asks_sync(timeout):
    return suspend_flow_run(wait_for_input=int, timeout=timeout)


@flow
async def order():
    return await wait_signal("paid", timeout=30 * DAY)


async def begun(body, *args):
    """Run a flow until it has left its process; give its id."""
    state = body(*args, return_state=True)
    state = state if hasattr(state, "name") else await state
    assert state.name == "Suspended"
    return state.state_details.flow_run_id


async def states_of(run_id):
    events = [event async for event in watch(run_id) if isinstance(event, StateEvent)]
    return [(event.name, event.timestamp) for event in events if event.run_id == run_id]


class TestComingBack:
    @pytest.mark.parametrize("body", [naps, naps_sync], ids=["async", "sync"])
    def test_from_a_durable_sleep(self, backend, database, body):
        async def scenario():
            async with Engine(database, flows=[body]):
                began = anyio.current_time()
                run_id = await begun(body)
                run = await wait_for_flow_run(run_id, timeout=None)
                elapsed = anyio.current_time() - began
                states = await states_of(run_id)
            moments = [(at - states[0][1]).total_seconds() for name, at in states if name == "Running"]
            return run.state.name, elapsed, moments, (run.end_time - run.start_time).total_seconds()

        ended = run_virtual(scenario, backend=backend).result
        assert ended == ("Completed", 9 * DAY, [n * 3 * DAY for n in range(4)], 9 * DAY)

    @pytest.mark.parametrize("body", [asks, asks_sync], ids=["async", "sync"])
    def test_when_somebody_resumes_it(self, backend, database, body):
        async def scenario():
            async with Engine(database, flows=[body]):
                run_id = await begun(body, 7 * DAY)
                began = anyio.current_time()
                await anyio.sleep(3 * DAY)
                await resume_flow_run(run_id, run_input={"value": 5})
                run = await wait_for_flow_run(run_id, timeout=1)
                return run.state.name, anyio.current_time() - began

        assert run_virtual(scenario, backend=backend).result == ("Completed", 3 * DAY)

    @pytest.mark.parametrize("body", [asks, asks_sync], ids=["async", "sync"])
    def test_to_fail_when_nobody_has_resumed_it(self, backend, database, body):
        async def scenario():
            async with Engine(database, flows=[body]):
                began = anyio.current_time()
                run = await wait_for_flow_run(await begun(body, 3 * DAY), timeout=None)
                return run.state.name, run.state.message, anyio.current_time() - began

        name, message, elapsed = run_virtual(scenario, backend=backend).result
        assert (name, elapsed) == ("Failed", 3 * DAY)
        assert "never resumed" in message

    def test_for_a_signal(self, backend, database):
        async def scenario():
            async with Engine(database, flows=[order]):
                began = anyio.current_time()
                run_id = await begun(order)
                left = anyio.current_time() - began
                await anyio.sleep(20 * DAY)
                await send_signal(run_id, "paid", 12)
                run = await wait_for_flow_run(run_id, timeout=1)
                return run.state.name, left, anyio.current_time() - began

        assert run_virtual(scenario, backend=backend).result == ("Completed", 60.0, 20 * DAY + 60)

    def test_fifty_at_their_own_moments(self, backend, database):
        @flow
        async def one(hours):
            began = anyio.current_time()
            bodies.append(began)
            await sleep(hours * HOUR)

        async def scenario():
            async with Engine(database, flows=[one]):
                began = anyio.current_time()
                ids = [await begun(one, hours) for hours in range(1, 51)]
                runs = [await wait_for_flow_run(run_id, timeout=None) for run_id in ids]
                return [(run.end_time - run.start_time).total_seconds() for run in runs], anyio.current_time() - began

        took, elapsed = run_virtual(scenario, backend=backend).result
        assert took == [hours * HOUR for hours in range(1, 51)]
        assert elapsed == 50 * HOUR
        assert len(bodies) == 100


class TestWaitingForOthers:
    def test_a_year_costs_no_looks(self, backend):
        @flow
        async def hears_nothing():
            return [one async for one in receive_input(int, timeout=365 * DAY, poll_interval=0.1)]

        async def scenario():
            began = anyio.current_time()
            await hears_nothing()
            return anyio.current_time() - began

        assert run_virtual(scenario, backend=backend).result == 365 * DAY

    def test_a_crash_of_the_engine_is_heard_of_at_once(self, backend):
        @flow
        async def shop():
            bodies.append(0)
            await anyio.sleep(30 * DAY)

        async def scenario():
            began = anyio.current_time()
            with MemoryEngine() as engine:
                seen = []

                async def look():
                    seen.extend([name for name, _ in await states_of(engine.history[0].run_id)])

                async def run():
                    with pytest.raises(LostOwnership):
                        await shop()

                async with anyio.create_task_group() as group:
                    group.start_soon(run)
                    await anyio.sleep(10 * DAY)
                    group.start_soon(look)
                    await anyio.sleep(DAY)
                    (run_id,) = engine.crash()
                    state = await engine.ended(run_id)
                    assert anyio.current_time() - began == 41 * DAY
                return state.name, seen, anyio.current_time() - began

        name, seen, elapsed = run_virtual(scenario, backend=backend).result
        assert (name, elapsed) == ("Completed", 41 * DAY)
        assert seen == ["Pending", "Running", "Pending", "Running", "Completed"]
        assert len(bodies) == 2
