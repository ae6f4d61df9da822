"""Sleeps and signals of runs that were cut off and taken up again: what was decided once stays so."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from pydantic import ValidationError

from callsheet import flow, send_signal, sleep, sleep_until, task, wait_signal
from callsheet._engine import sleeping
from callsheet.exceptions import SignalTimeout
from callsheet.runtime import flow_run
from reviving_helpers import Doings, Lives, doings, lives
from waits_helpers import PATIENCE

__all__ = ["doings", "lives"]


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note until when bodies would sleep, and let them go on."""
    noted: list[int] = []

    async def instead(until: int, *_: Any) -> None:
        noted.append(until)

    monkeypatch.setattr(sleeping, "_wait_until", instead)
    return noted


WAYS = [
    pytest.param(lambda n: sleep(n * 3600), id="for"),
    pytest.param(lambda n: sleep_until(datetime.now(UTC) + timedelta(hours=n)), id="until"),
]


@pytest.mark.parametrize("wait", WAYS)
def test_the_moment_of_waking_up_stays(doings: Doings, moments: list[int], wait: Callable[[int], None]) -> None:
    """Also where it is computed anew."""

    @flow
    def night() -> None:
        for n in range(3):
            wait(n)
            if n == 1:
                doings.cut()

    night()
    first = moments[:]
    moments.clear()
    doings.again(night)
    assert moments[:2] == first[:2]
    assert moments[2] > first[2]


def test_a_sleep_that_was_cut_off_in_the_middle(doings: Doings, monkeypatch: pytest.MonkeyPatch) -> None:
    noted: list[int] = []

    async def cut(until: int, *_: Any) -> None:
        noted.append(until)
        doings.cut()

    monkeypatch.setattr(sleeping, "_wait_until", cut)

    @flow
    def night() -> None:
        sleep(3600)
        doings.done.append("awake")

    night()
    doings.again(night)
    assert noted[0] == noted[1]
    assert doings.done == ["awake"]


def test_branches_that_sleep(doings: Doings, moments: list[int], run_on: Any) -> None:
    hours = range(1, 6)

    @flow
    async def nights() -> None:
        async with anyio.create_task_group() as group:
            for n in hours:
                group.start_soon(sleep, 3600 * n)
        doings.cut()

    run_on(nights)
    first = sorted(moments)
    moments.clear()
    doings.again(nights)
    assert sorted(moments) == first


def test_another_attempt_sleeps_anew(doings: Doings, moments: list[int]) -> None:
    attempts: list[int] = []

    @flow(retries=1)
    def night() -> None:
        sleep(3600)
        attempts.append(1)
        if len(attempts) in {1, 3}:
            doings.cut()
            raise ValueError("again")

    night()
    assert moments[0] < moments[1]
    doings.again(night)
    assert moments[2] == moments[0]
    assert moments[3] > moments[1]


@task
def note(doings: Doings, what: Any) -> Any:
    doings.done.append(what)
    return what


def test_signals_that_were_taken_are_given_again_and_no_others(doings: Doings) -> None:
    @flow
    def order() -> list[Any]:
        for n in range(4):
            if doings.was_cut:
                break
            send_signal(flow_run.id, "n", n)
            send_signal(flow_run.id, "other", -n)
        got = []
        for n in range(4):
            got.append(note(doings, wait_signal("n", int)))
            if n == 1:
                doings.cut()
        got.append(wait_signal("other", int))
        return got

    assert order() == [0, 1, 2, 3, 0]
    run = doings.again(order)
    assert run.state.result() == [0, 1, 2, 3, 0]
    assert doings.done == [2, 3]


def test_one_that_was_taken_but_not_used(doings: Doings) -> None:
    @flow
    def order() -> int:
        if not doings.was_cut:
            send_signal(flow_run.id, "n", 1)
            send_signal(flow_run.id, "n", 2)
        first = wait_signal("n", int)
        doings.cut()
        return note(doings, first)

    order()
    assert doings.again(order).state.result() == 1
    assert doings.done == [1]


def test_branches_that_wait(doings: Doings, run_on: Any) -> None:
    @flow
    async def order() -> dict[str, int]:
        got: dict[str, int] = {}

        async def one(name: str) -> None:
            got[name] = await wait_signal(name, int)

        if not doings.was_cut:
            for n, name in enumerate("abc"):
                await send_signal(flow_run.id, name, n)
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(one, name)
        doings.cut()
        return got

    first = run_on(order)
    assert doings.again(order).state.result() == first == {"a": 0, "b": 1, "c": 2}


def test_a_time_out_is_decided_once(doings: Doings) -> None:
    """A signal that comes after it is for the next wait, in each life."""

    @flow
    def order() -> str:
        with pytest.raises(SignalTimeout):
            wait_signal("paid", str, timeout=0.01)
        if not doings.was_cut:
            send_signal(flow_run.id, "paid", "late")
        doings.cut()
        return wait_signal("paid", str, timeout=PATIENCE)

    assert order() == "late"
    assert doings.again(order).state.result() == "late"


def test_the_end_of_a_wait_stays(doings: Doings, monkeypatch: pytest.MonkeyPatch) -> None:
    from callsheet._engine import signalling

    ends: list[int | None] = []

    async def cut(self: Any) -> None:
        ends.append(self.until)
        doings.cut()

    monkeypatch.setattr(signalling._Waiting, "through", cut)

    @flow
    def order() -> None:
        with pytest.raises(SignalTimeout):
            wait_signal("paid", timeout=3600)

    order()
    assert doings.again(order).state.is_completed()
    assert ends[0] == ends[1]


def test_what_does_not_fit_does_not_fit_again(doings: Doings) -> None:
    @flow
    def order() -> int:
        if not doings.was_cut:
            send_signal(flow_run.id, "n", "three")
            send_signal(flow_run.id, "n", 4)
        with pytest.raises(ValidationError):
            wait_signal("n", int)
        doings.cut()
        return wait_signal("n", int)

    order()
    assert doings.again(order).state.result() == 4


def test_another_attempt_in_another_life(doings: Doings, lives: Lives) -> None:
    """It begins with the first signal, whoever took it."""
    attempts: list[int] = []

    @flow(retries=1)
    def order() -> list[int]:
        if not attempts:
            for n in range(3):
                send_signal(flow_run.id, "n", n)
        got = [wait_signal("n", int)]
        doings.cut()
        got.append(wait_signal("n", int))
        attempts.append(1)
        if len(attempts) in {1, 3}:
            raise ValueError("again")
        return [*got, wait_signal("n", int)]

    assert order() == [0, 1, 2]
    assert doings.again(order).state.result() == [0, 1, 2]
    assert len(attempts) == 4
