"""Scenarios by which the engine is simulated: ``make simulate N=1000``, or one by ``python -m callsheet.testing``."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio

from callsheet import flow, pause_flow_run, sleep, task
from callsheet.context import TaskRunContext
from callsheet.exceptions import CallsheetError
from callsheet.flow_runs import acancel_flow_run, aresume_flow_run, asuspend_flow_run
from callsheet.testing import Faults, Simulation, scenario

# ------------------------------------------------------------------------------------------- many at once


@task(retries=2, retry_delay_seconds=1)
def double(x: int) -> int:
    return 2 * x


@task(retries=1, retry_delay_seconds=0.1)
async def later(x: int) -> int:
    await anyio.sleep(0.3)
    return x


@flow(retries=1)
async def fan(n: int) -> int:
    futures = [double.submit(x) for x in range(n)] + [later.submit(x) for x in range(n)]
    return sum([await future for future in futures])


@flow(retries=1)
def fan_in_threads(n: int) -> int:
    return sum(future.result() for future in [later.submit(n), *double.map(range(n))])


@scenario(flows=[fan, fan_in_threads])
async def fanning(sim: Simulation) -> None:
    first = await sim.start(fan, 3)
    second = await sim.run(fan_in_threads, 2)
    assert second.is_final()
    assert (await first.wait()).is_final()


# --------------------------------------------------------------------------------------- money, once only

BALANCES: dict[str, int] = {}
DONE: set[str] = set()


def _book(account: str, amount: int) -> None:
    """What a bank does that is told by a token whether it has heard of a booking before."""
    context = TaskRunContext.get()
    assert context is not None
    token = context.idempotency_token
    if token not in DONE:
        DONE.add(token)
        BALANCES[account] = BALANCES.get(account, 0) + amount


@task(retries=5)
async def withdraw(account: str, amount: int) -> int:
    await anyio.sleep(0.05)
    _book(account, -amount)
    return amount


@task(retries=5)
def deposit(account: str, amount: int) -> None:
    _book(account, amount)


@flow
async def transfer(source: str, target: str, amount: int) -> int:
    taken = await withdraw(source, amount)
    deposit(target, taken)
    return taken


@scenario(flows=[transfer])
async def transfers(sim: Simulation) -> None:
    BALANCES.clear()
    DONE.clear()
    started = [await sim.start(transfer, "a", "b", 5 + n) for n in range(3)]
    states = [await one.wait() for one in started]
    moved = sum(5 + n for n, state in enumerate(states) if state.is_completed())
    assert BALANCES.get("b", 0) >= moved, "what completed is booked"
    assert sum(BALANCES.values()) <= 0, "nothing is paid out that was not paid in"
    if all(state.is_completed() for state in states) and all(one.times == 1 for one in started):
        assert (BALANCES["a"], BALANCES["b"]) == (-18, 18)


# --------------------------------------------------------------------------------------------- subflows

COUNTS: dict[int, int] = {}


@flow
async def part(x: int) -> int:
    return await later(double(x))


@flow
def part_in_threads(x: int) -> int:
    return double(x)


@flow(retries=2, retry_delay_seconds=0.5)
async def whole(n: int) -> int:
    both = [part_in_threads(n), await part(n)]
    async with anyio.create_task_group() as tasks:
        for x in range(n):
            tasks.start_soon(part, x)
    return sum(both)


@scenario(flows=[whole])
async def subflows(sim: Simulation) -> None:
    assert (await sim.run(whole, 2)).is_final()


# ---------------------------------------------------------------------------------- orders between processes


@flow
async def asking(n: int) -> int:
    await later(n)
    pause_flow_run(timeout=60) if False else await _pause()
    await _sleep(3.0)
    return await later(n)


async def _pause() -> None:
    value: Any = pause_flow_run(timeout=60)
    await value


async def _sleep(seconds: float) -> None:
    value: Any = sleep(seconds)
    await value


async def _try(call: Any, *args: Any) -> None:
    try:
        await call(*args)
    except (CallsheetError, RuntimeError):  # it has ended, is not paused, or is not on record yet
        pass


@scenario(flows=[asking, fan], seconds=600)
async def orders(sim: Simulation) -> None:
    started = [await sim.start(asking, n) for n in range(2)] + [await sim.start(fan, 2)]
    done = anyio.Event()

    async def meddle() -> None:
        verbs = [aresume_flow_run, aresume_flow_run, asuspend_flow_run, acancel_flow_run]
        for _ in range(6):
            await anyio.sleep(sim.random.choice([0.0, 0.2, 1.0, 3.0]))
            verb = sim.random.choice(verbs)
            one = sim.random.choice(started)
            await _try(partial(verb, flow_run_id=one.id))
        while not done.is_set():
            for one in started:
                await _try(aresume_flow_run, one.id)
            await anyio.sleep(5)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meddle)
        for one in started:
            assert (await one.wait()).is_final()
        done.set()


# --------------------------------------------------------------------------------- to see a failure repeated


@task
async def once() -> int:
    return 1


@flow
async def careless() -> int:
    return await once()


async def _failing(sim: Simulation) -> None:
    assert (await sim.run(careless)).is_completed()


failing = scenario(flows=[careless], faults=Faults.none())(_failing)
failing.name = "simulations:failing"
