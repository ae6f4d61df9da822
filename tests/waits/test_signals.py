"""Signals to flow runs: kept, in order, typed, each given once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import pytest
from pydantic import BaseModel, ValidationError

from callsheet import Engine, flow, send_signal, task, wait_signal
from callsheet._engine import signalling
from callsheet._engine.ambient import ambient_core
from callsheet._engine.core import Core
from callsheet.exceptions import ObjectNotFound, RunNotLive, SignalTimeout
from callsheet.input import filter_flow_run_input
from callsheet.runtime import flow_run
from callsheet.waits import asend_signal, await_signal
from waits_helpers import PATIENCE, line, program


class Payment(BaseModel):
    amount: int
    by: str = "somebody"


@dataclass
class Moment:
    at: datetime


class Waits:
    """Tells of each run that begins to wait for a signal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run_ids: list[UUID] = []
        self.waiting = threading.Semaphore(0)
        expect = Core.expect

        def expects(core: Core, ring: Callable[[], None], *, expected: bool) -> None:
            expect(core, ring, expected=expected)
            if expected:
                self.run_ids.append(UUID(flow_run.id))
                self.waiting.release()

        monkeypatch.setattr(Core, "expect", expects)

    def next(self) -> UUID:
        assert self.waiting.acquire(timeout=PATIENCE)
        return self.run_ids.pop(0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    return Waits(monkeypatch)


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_sync_flow_is_woken_at_once(waits: Waits) -> None:
    """By the engine, not by the next look."""

    @flow
    def order() -> Payment:
        return wait_signal("paid", Payment)

    thread = in_thread(lambda: send_signal(waits.next(), "paid", {"amount": 3}))
    assert order() == Payment(amount=3)
    thread.join()


@pytest.mark.anyio
async def test_an_async_flow(waits: Waits) -> None:
    @flow
    async def order() -> Payment:
        return await wait_signal("paid", Payment, timeout=PATIENCE)

    async def pay() -> None:
        run_id = await anyio.to_thread.run_sync(waits.next)
        await send_signal(str(run_id), "paid", Payment(amount=3, by="me"))

    async with anyio.create_task_group() as group:
        group.start_soon(pay)
        assert await order() == Payment(amount=3, by="me")


def test_they_are_kept_and_come_in_order() -> None:
    @flow
    def order() -> list[int]:
        for n in range(10):
            send_signal(flow_run.id, "n", n)
            send_signal(flow_run.id, "n.of-another", -n)
            send_signal(flow_run.id, "n-1", -n)
        return [wait_signal("n", int) for _ in range(10)]

    assert order() == list(range(10))


@pytest.mark.anyio
async def test_branches_that_wait_at_once_get_one_each() -> None:
    @flow
    async def order() -> set[int]:
        got: set[int] = set()

        async def one() -> None:
            got.add(await await_signal("n", int))

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(one)
            for n in range(8):
                await send_signal(flow_run.id, "n", n)
        return got

    assert await order() == set(range(8))


def test_other_runs_get_nothing_of_it(waits: Waits) -> None:
    @flow
    def order() -> str:
        return wait_signal("word", str)

    results: dict[UUID, str] = {}

    def one() -> None:
        state = order(return_state=True)
        results[state.state_details.flow_run_id] = state.data

    threads = [in_thread(one) for _ in range(3)]
    run_ids = [waits.next() for _ in threads]
    for run_id in run_ids:
        send_signal(run_id, "word", str(run_id))
    for thread in threads:
        thread.join()
    assert results == {run_id: str(run_id) for run_id in run_ids}


@pytest.mark.parametrize(
    ("kind", "sent", "got"),
    [
        (Any, {"a": [1, None]}, {"a": [1, None]}),
        (int, "3", 3),
        (list[int], [1, "2"], [1, 2]),
        (int | None, None, None),
        (Payment, {"amount": 1}, Payment(amount=1)),
        (Moment, {"at": "2026-01-01T00:00:00"}, Moment(datetime(2026, 1, 1))),
        (datetime, datetime(2026, 1, 1), datetime(2026, 1, 1)),
    ],
)
def test_values_are_validated(kind: Any, sent: Any, got: Any) -> None:
    @flow
    def order() -> Any:
        send_signal(flow_run.id, "it", sent)
        return wait_signal("it", kind, timeout=PATIENCE)

    assert order() == got


def test_what_does_not_fit_is_used_up() -> None:
    @flow
    def order() -> int:
        send_signal(flow_run.id, "n", "three")
        send_signal(flow_run.id, "n", 4)
        with pytest.raises(ValidationError, match="valid integer"):
            wait_signal("n", int)
        return wait_signal("n", int)

    assert order() == 4


def test_none_came_in_time() -> None:
    @flow
    def order() -> str:
        with pytest.raises(TimeoutError, match=r"No signal 'paid' came within 0\.01 seconds"):
            wait_signal("paid", timeout=0.01)
        send_signal(flow_run.id, "paid", "late")
        return wait_signal("paid", timeout=0)

    assert order() == "late"
    assert issubclass(SignalTimeout, TimeoutError)


def test_another_attempt_begins_with_the_first_one() -> None:
    """Its body does everything again, and what was approved stays approved."""
    attempts: list[int] = []

    @flow(retries=1)
    def order() -> list[int]:
        if not attempts:
            for n in range(3):
                send_signal(flow_run.id, "n", n)
        got = [wait_signal("n", int) for _ in range(2)]
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("again")
        return [*got, wait_signal("n", int)]

    assert order() == [0, 1, 2]


def test_what_was_taken_can_still_be_seen() -> None:
    @flow
    def order() -> None:
        send_signal(flow_run.id, "n", 1)
        wait_signal("n")
        assert filter_flow_run_input("signal:n:") == []
        (taken,) = filter_flow_run_input("signal-taken:n:")
        assert (taken.value, taken.sender) == ("1", f"callsheet.flow-run.{flow_run.id}")

    order()


def test_a_cancelled_wait_takes_nothing() -> None:
    @flow(timeout_seconds=0.05)
    def order() -> None:
        wait_signal("paid", timeout=PATIENCE)

    state = order(return_state=True)
    assert state.name == "TimedOut"
    assert ambient_core().expecting == ()


@pytest.mark.anyio
async def test_a_wait_that_is_given_up_takes_nothing() -> None:
    @flow
    async def order() -> int:
        with anyio.move_on_after(0.01):
            await wait_signal("n", int)
        await send_signal(flow_run.id, "n", 3)
        return await wait_signal("n", int)

    assert await order() == 3


@pytest.mark.anyio
@pytest.mark.parametrize("durability", ["off", "results"])
async def test_a_history_in_memory(durability: str) -> None:
    @flow
    async def order() -> int:
        await send_signal(flow_run.id, "n", 3)
        return await wait_signal("n", int)

    async with Engine(database=":memory:", durability=durability):
        assert await order() == 3


@pytest.mark.anyio
async def test_where_nothing_is_kept(tmp_path: Path) -> None:
    @flow
    async def order() -> None:
        await wait_signal("n", int)

    async with Engine(database=tmp_path / "h.db", durability="off"):
        with pytest.raises(RuntimeError, match="At durability 'off' nothing is kept"):
            await order()


SEND = """
import json, sys, time
from callsheet import send_signal
for text in sys.stdin:
    name, value = json.loads(text)
    send_signal(sys.argv[1], name, value)
    print(time.time(), flush=True)
"""

WAIT = """
import sys, time
from callsheet import flow, wait_signal
from callsheet.runtime import flow_run
@flow
def order():
    print(flow_run.id, flush=True)
    for _ in range(3):
        print(wait_signal("n", int), time.time(), flush=True)
order()
"""


def test_another_process_sends(waits: Waits, tmp_path: Path) -> None:
    @flow
    def order() -> list[int]:
        return [wait_signal("n", int) for _ in range(3)]

    def sends() -> None:
        with program(tmp_path / "send.py", SEND, waits.next()) as process:
            for n in range(3):
                process.stdin.write(f'["n", {n}]\n')
                process.stdin.flush()
                line(process)

    thread = in_thread(sends)
    assert order() == [0, 1, 2]
    thread.join()


def test_another_process_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is woken by the commit, long before it would look again; and its id may be known before its record is."""
    with program(tmp_path / "wait.py", WAIT) as process:
        run_id = line(process)
        for n in range(3):
            sent = time.time()
            send_signal(run_id, "n", n)
            got, at = line(process).split()
            assert int(got) == n
            assert float(at) - sent < signalling._LOOK_AGAIN / 2
        assert process.wait(PATIENCE) == 0


def test_a_run_that_has_ended() -> None:
    @flow
    def order() -> None:
        pass

    run_id = order(return_state=True).state_details.flow_run_id
    with pytest.raises(RunNotLive, match="has ended in the state 'Completed'"):
        send_signal(run_id, "paid")


def test_nobody_has_this_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callsheet._engine.history.RECORDED_WITHIN", 0.01)
    with pytest.raises(ObjectNotFound):
        send_signal(uuid4(), "paid")


@pytest.mark.parametrize("name", ["", "a:b", "a b", "ä"])
def test_names(name: str) -> None:
    @flow
    def order() -> None:
        with pytest.raises(ValueError, match="Names of signals"):
            send_signal(flow_run.id, name)
        with pytest.raises(ValueError, match="Names of signals"):
            wait_signal(name)

    order()


def test_only_bodies_of_flows_wait() -> None:
    with pytest.raises(RuntimeError, match="in the body of a flow"):
        wait_signal("n")

    @task
    def waits_in_a_task() -> None:
        wait_signal("n")

    @flow
    def outer(what: Any) -> None:
        what()

    with pytest.raises(RuntimeError, match="not in tasks"):
        outer(waits_in_a_task)

    @flow
    def no_type() -> None:
        wait_signal("n", type=3)

    with pytest.raises(TypeError, match="3 is not a type that a signal can have"):
        no_type()


@pytest.mark.anyio
async def test_a_subflow_waits_for_its_own(waits: Waits) -> None:
    @flow
    async def inner() -> int:
        return await wait_signal("n", int)

    @flow
    async def outer() -> int:
        return await inner()

    async def sends() -> None:
        await asend_signal(await anyio.to_thread.run_sync(waits.next), "n", 1)

    async with anyio.create_task_group() as group:
        group.start_soon(sends)
        assert await outer() == 1
