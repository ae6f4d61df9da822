"""Watching a run: every event once, in order, until the run has ended."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import msgspec
import pytest

from callsheet import Engine, flow, get_run_logger, pause_flow_run, resume_flow_run, task, watch
from callsheet._engine.ambient import ambient_core
from callsheet._engine.watching import Tree
from callsheet._model.kinds import Kind
from callsheet.events import Event, LogEvent, StateEvent
from callsheet.exceptions import NotPausedError, ObjectNotFound
from callsheet.runtime import flow_run
from callsheet.transactions import transaction
from harness import own_threads
from waits_helpers import PATIENCE, assert_in_order, keys, line, lines, program, recorded, states

pytestmark = pytest.mark.anyio


@task
def double(x: int) -> int:
    get_run_logger().info("doubling %s", x)
    return 2 * x


@task(retries=1)
def second_time_lucky(counter: list[int]) -> None:
    counter.append(1)
    if len(counter) < 2:
        raise ValueError("not yet")


@flow
def inner(n: int) -> None:
    double.map(range(n)).wait()


async def all_of(run_id: Any, cursor: str | None = None) -> list[Event]:
    return [event async for event in watch(run_id, cursor)]


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


async def joined(thread: threading.Thread) -> None:
    await anyio.to_thread.run_sync(thread.join)


async def test_a_run_that_has_ended() -> None:
    @flow(on_completion=[lambda *_: get_run_logger().info("the hook")])
    async def outer() -> None:
        double(1)
        inner(2)
        second_time_lucky([])

    state = await outer(return_state=True)
    run_id = state.state_details.flow_run_id
    events = await all_of(run_id)
    assert states(events) == recorded(run_id)
    assert_in_order(events)
    assert lines(events)[:1] == ["doubling 1"]
    assert "the hook" in lines(events)
    assert {event.kind for event in events if isinstance(event, StateEvent)} == {Kind.FLOW, Kind.TASK}
    (last,) = [event for event in events if isinstance(event, StateEvent) and event.run_id == run_id and event.is_final]
    assert last.timestamp == state.timestamp
    assert await all_of(str(run_id)) == events


async def test_a_run_that_is_alive() -> None:
    """Every event, also what is written while somebody reads; the end ends the iteration."""
    started, go_on = threading.Event(), threading.Event()
    found: list[UUID] = []

    @flow(on_completion=[lambda *_: get_run_logger().info("the hook")])
    def outer() -> None:
        found.append(UUID(flow_run.id))
        started.set()
        for n in range(5):
            inner(n)
            double(n)
        go_on.wait(PATIENCE)
        inner(3)

    thread = in_thread(outer)
    await anyio.to_thread.run_sync(started.wait)
    events: list[Event] = []
    async for event in watch(found[0]):
        events.append(event)
        if isinstance(event, StateEvent) and event.run_id == found[0] and event.name == "Running":
            go_on.set()
    await joined(thread)
    assert states(events) == recorded(found[0])
    assert_in_order(events)
    assert max(keys(events).values()) == 1
    assert len([said for said in lines(events) if said.startswith("doubling")]) == 18
    assert "the hook" in lines(events)


async def test_an_async_flow_on_the_same_loop() -> None:
    watched: list[Event] = []

    @flow
    async def outer() -> None:
        group.start_soon(look, UUID(flow_run.id))
        for n in range(20):
            await anyio.to_thread.run_sync(double.submit(n).wait)

    async def look(run_id: UUID) -> None:
        watched.extend(await all_of(run_id))

    async with anyio.create_task_group() as group:
        state = await outer(return_state=True)
    assert states(watched) == recorded(state.state_details.flow_run_id)
    assert_in_order(watched)


@pytest.mark.parametrize("durability", ["off", "relaxed"])
async def test_a_history_in_memory(durability: str) -> None:
    async with Engine(database=":memory:", durability=durability):
        state = await flow(_outer_in_memory)(return_state=True)
        events = await all_of(state.state_details.flow_run_id)
        assert [event.name for event in events if isinstance(event, StateEvent)].count("Completed") == 3


async def _outer_in_memory() -> None:
    double(1)
    double(2)


async def test_what_changes_after_its_end_is_given_at_the_end() -> None:
    @flow
    async def outer() -> None:
        with pytest.raises(ValueError, match="undo"), transaction():
            double.with_options(name="undone")(1)
            raise ValueError("undo")
        double(2)

    state = await outer(return_state=True)
    events = await all_of(state.state_details.flow_run_id)
    assert states(events) == recorded(state.state_details.flow_run_id)


async def test_a_task_run_is_watched_by_itself() -> None:
    future_of: list[Any] = []

    @flow
    async def outer() -> None:
        future_of.append(double.submit(1))
        double(2)

    await outer()
    events = await all_of(future_of[0].task_run_id)
    assert [event.name for event in events if isinstance(event, StateEvent)] == ["Pending", "Running", "Completed"]
    assert lines(events) == ["doubling 1"]


async def test_a_run_of_another_process(tmp_path: Path) -> None:
    source = """
import sys
from callsheet import flow, task, get_run_logger
from callsheet.runtime import flow_run
@task
def step(n):
    get_run_logger().info("step %s", n)
@flow(on_completion=[lambda *_: get_run_logger().info("the hook")])
def work():
    print(flow_run.id, flush=True)
    for n in range(30):
        step(n)
    sys.stdin.readline()
    step.map(range(30, 60)).wait()
work()
"""
    with program(tmp_path / "work.py", source) as process:
        run_id = UUID(await anyio.to_thread.run_sync(line, process))
        events: list[Event] = []
        async for event in watch(run_id):
            events.append(event)
            if isinstance(event, LogEvent) and event.message == "step 29":
                process.stdin.write("go on\n")
                process.stdin.flush()
        assert await anyio.to_thread.run_sync(process.wait) == 0
    assert states(events) == recorded(run_id)
    assert_in_order(events)
    assert sorted(said for said in lines(events) if said.startswith("step")) == sorted(f"step {n}" for n in range(60))
    assert "the hook" in lines(events)


async def test_going_on_from_a_cursor() -> None:
    """Left after any event, and gone on with elsewhere: together it is everything, once."""

    @flow
    async def outer() -> None:
        for n in range(3):
            double(n)
        inner(4)

    state = await outer(return_state=True)
    run_id = state.state_details.flow_run_id
    whole = await all_of(run_id)
    for count in random.sample(range(len(whole) + 1), 6):
        watching, first = watch(run_id), list[Event]()
        for _ in range(count):
            first.append(await anext(watching))
        assert first + await all_of(run_id, watching.cursor) == whole


async def test_a_cursor_of_a_cursor_while_the_run_lives() -> None:
    steps = [threading.Event() for _ in range(4)]
    found: list[UUID] = []

    @flow
    def outer() -> None:
        found.append(UUID(flow_run.id))
        for step in steps:
            double(len(found))
            step.wait(PATIENCE)

    thread = in_thread(outer)
    while not found:
        await anyio.sleep(0.001)
    events: list[Event] = []
    cursor: str | None = None
    for step in steps:  # up to the log line of each task, and a new reader for each
        watching = watch(found[0], cursor)
        async for event in watching:
            events.append(event)
            if isinstance(event, LogEvent):
                break
        cursor = watching.cursor
        step.set()
    events += await all_of(found[0], cursor)
    await joined(thread)
    assert states(events) == recorded(found[0])
    assert max(keys(events).values()) == 1
    assert_in_order(events)


async def test_leaving_early_leaves_nothing_behind() -> None:
    """Neither a reader nor its thread nor a place among those who follow the journal."""
    journal = ambient_core().journal
    others = len(journal._outside._listeners)

    @flow
    async def outer() -> None:
        double(1)
        before = own_threads()
        async for _ in watch(flow_run.id):
            break
        with anyio.move_on_after(0.2):
            async for _ in watch(flow_run.id):
                pass
        assert own_threads() == before

    await outer()
    assert journal._followers == ()
    assert len(journal._outside._listeners) == others


async def test_waiting_for_news_is_not_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    read = Tree.read

    async def counted(self: Tree, reader: Any) -> Any:
        looks.append(1)
        return await read(self, reader)

    monkeypatch.setattr(Tree, "read", counted)

    @flow
    async def asks() -> None:
        group.start_soon(look, UUID(flow_run.id))
        await pause_flow_run(timeout=PATIENCE)

    async def look(run_id: UUID) -> None:
        async for event in watch(run_id):
            if isinstance(event, StateEvent) and event.name == "Paused":
                looks.clear()
                group.start_soon(later, run_id)

    async def later(run_id: UUID) -> None:
        await anyio.sleep(0.5)
        assert len(looks) <= 1
        while True:
            try:
                return await resume_flow_run(run_id)
            except NotPausedError:
                await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        await asks()


async def test_nobody_has_this_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callsheet.events.RECORDED_WITHIN", 0.01)
    with pytest.raises(ObjectNotFound, match="no run with the id"):
        await anext(watch(uuid4()))


@pytest.mark.parametrize("cursor", ["", "nonsense", "AAAA"])
async def test_a_cursor_that_is_none(cursor: str) -> None:
    with pytest.raises(ValueError, match="no cursor of a watched run"):
        watch(uuid4(), cursor)


async def test_events_are_plain_data() -> None:
    @flow
    async def outer() -> None:
        double(1)

    state = await outer(return_state=True)
    events = await all_of(state.state_details.flow_run_id)
    text = msgspec.json.encode(events)
    assert msgspec.json.decode(text, type=list[Event]) == events
    with pytest.raises(AttributeError):
        events[0].message = "changed"  # type: ignore[misc]
