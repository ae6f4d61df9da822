"""Flows that are put together at random: an unchanged one is replayed without a difference, and one with a call less is not."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import anyio
import pytest

from callsheet import flow, runtime, sleep, task
from callsheet.testing import MemoryEngine, ReplayDiffers, record, replay

SEEDS = 25


class World:
    """Counts bodies of tasks, attempts, and the things that bodies of flows do, one of which may be left out."""

    def __init__(self) -> None:
        self.bodies = 0
        self.left_out: int | None = None
        self.moment: int | None = None
        self.recording: Any = None
        self.begin()

    def begin(self) -> None:
        """Count attempts and things anew."""
        self.attempts: dict[int, int] = {}
        self.things = 0

    def count(self) -> None:
        """Count a body, and record the whole run as it is at its moment."""
        self.bodies += 1
        if self.bodies == self.moment:
            self.recording = record(runtime.flow_run.root_flow_run_id)

    def does(self) -> bool:
        """Tell whether the next thing is done."""
        self.things += 1
        return self.things != self.left_out


world = World()


@task
def load(x: Any) -> list[Any]:
    """Give a list of what came."""
    world.count()
    return [x, 1000]


@task
async def aload(x: int) -> dict[str, int]:
    """Give a dict, some time later."""
    world.count()
    await anyio.sleep(0.0002 * (x % 5))
    return {"value": x}


@task(retries=1)
def refuse(x: int) -> None:
    """Fail."""
    world.count()
    raise ValueError(f"refused {x}")


@task
def nest(x: int) -> int:
    """Call a task in a task."""
    world.count()
    return len(load(x))


@flow
def plain(seed: int, depth: int) -> str:
    """Do this and that."""
    return things(random.Random(seed), depth)


@flow(retries=1)
def unlucky(seed: int, depth: int) -> str:
    """Do it twice."""
    attempt = world.attempts[seed] = world.attempts.get(seed, 0) + 1
    value = things(random.Random(seed), depth)
    if attempt % 2:
        raise RuntimeError("once more")
    return value


@flow
def failing(seed: int, depth: int) -> None:
    """Do it, and fail."""
    things(random.Random(seed), depth)
    raise KeyError("failing")


@flow
async def branching(seed: int, depth: int) -> str:
    """Do some of it at the same time."""
    chance = random.Random(seed)
    values: list[Any] = []

    async def branch(x: int) -> None:
        one = await aload(x)
        if x % 2:
            await sleep(0.0005)
        values.append((await aload(one["value"]), load(x)))

    for _ in range(chance.randint(1, 4)):
        kind, number = chance.randint(0, 4), chance.randint(0, 9999)
        if not world.does():
            continue
        if kind == 0:
            async with anyio.create_task_group() as group:
                for x in range(4):
                    group.start_soon(branch, x)
        elif kind == 1:
            values += [await future for future in aload.map([1, 2, number])]
        elif kind == 2:
            values.append(await branching.submit(number, depth - 1) if depth else await aload(number))
        elif kind == 3:
            values.append(await anyio.to_thread.run_sync(plain, number, 0))
        else:
            values.append(plain(number, 0))
    return str(sorted(map(str, values)))


def things(chance: random.Random, depth: int) -> str:
    """Do what chance says, in sync code."""
    values: list[Any] = [1]
    for _ in range(chance.randint(1, 5)):
        kind, number = chance.randint(0, 7), chance.randint(0, 9999)
        if not world.does():
            continue
        try:
            if kind == 0:
                values.append(load(values[-1]))
            elif kind == 1:
                first = load.submit(number)
                values.append(load.submit(first, wait_for=[first]).result())
            elif kind == 2:
                values += load.map([1, 2, number]).result()
            elif kind == 3:
                refuse(number)
            elif kind == 4:
                sleep(0.0005)
            elif kind == 5:
                values.append(chance.choice([plain, unlucky])(number, depth - 1) if depth else nest(number))
            elif kind == 6:
                values.append(plain.submit(number, depth - 1).result() if depth else nest(number))
            else:
                failing(number, depth - 1) if depth else refuse(number)
        except (ValueError, KeyError) as error:
            values.append(str(error))
    return str(values)


def recorded(seed: int) -> tuple[Any, Any, Any]:
    """Run and record a flow; give it, its state, and the recording."""
    chosen: Any = random.Random(seed).choice([plain, unlucky, failing, branching])
    world.begin()
    world.left_out = None
    with MemoryEngine():
        state = chosen(seed, 2, return_state=True)
        state = asyncio.run(state) if asyncio.iscoroutine(state) else state
        recording = record(state)
    world.bodies = 0
    return chosen, state, recording


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_has_not_changed_does_not_differ(seed: int) -> None:
    chosen, state, recording = recorded(seed)
    for backend in ("asyncio", "trio"):
        world.begin()
        run = replay(recording, chosen, backend=backend)
        assert run.state is not None
        assert (run.state.name, run.state.message) == (state.name, state.message)
        assert not state.is_completed() or run.result == state.data
    assert world.bodies == 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_thing_that_is_left_out_is_missed(seed: int) -> None:
    chosen, _, recording = recorded(seed)
    world.left_out = random.Random(seed).randint(1, world.things)
    world.begin()
    with pytest.raises(ReplayDiffers):
        replay(recording, chosen)
    assert world.bodies == 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_recording_of_any_moment(seed: int) -> None:
    """Its replay ends where it does, with nothing in its way."""
    world.moment, world.recording, world.bodies = 1 + seed % 7, None, 0
    try:
        chosen, _, whole = recorded(seed)
    finally:
        world.moment = None
    if world.recording is None:  # there are fewer bodies in it
        return
    for backend in ("asyncio", "trio"):
        world.begin()
        assert replay(world.recording, chosen, backend=backend).state is None
    assert world.bodies == 0
    assert len(world.recording.outcomes) <= len(whole.outcomes)
