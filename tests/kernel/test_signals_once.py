"""One-shot conditions and the scopes of runs that are built on them."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from callsheet._kernel.host import current_host
from callsheet._kernel.scopes import CANCEL, DEADLINE, Interrupted, RunScope
from callsheet._kernel.signals import Once


def test_everybody_is_called_once() -> None:
    once, called = Once(), []
    once.subscribe(lambda: called.append(1))
    once.subscribe(lambda: called.append(2))
    assert (once.is_set, called) == (False, [])
    once.set()
    once.set()
    assert (once.is_set, called) == (True, [1, 2])


def test_who_comes_late_is_called_at_once() -> None:
    once, called = Once(), []
    once.set()
    once.subscribe(lambda: called.append(1))
    assert called == [1]


def test_who_went_away_is_not_called() -> None:
    once, called = Once(), []

    def wake() -> None:
        called.append(1)

    once.subscribe(wake)
    once.unsubscribe(wake)
    once.unsubscribe(wake)
    once.set()
    assert called == []


def test_subscribers_may_subscribe_and_set() -> None:
    once, called = Once(), []

    def wake() -> None:
        called.append("outer")
        once.set()
        once.subscribe(lambda: called.append("inner"))

    once.subscribe(wake)
    once.set()
    assert called == ["outer", "inner"]


def test_nobody_is_forgotten_between_threads() -> None:
    for _ in range(200):
        once, called = Once(), []
        barrier = threading.Barrier(3)

        def set_it(once: Once = once, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            once.set()

        def subscribe(once: Once = once, barrier: threading.Barrier = barrier, called: list[Any] = called) -> None:
            barrier.wait()
            once.subscribe(lambda: called.append(1))

        threads = [threading.Thread(target=target) for target in (set_it, set_it, subscribe)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert called == [1]


# -------------------------------------------------------------------------------------------- scopes


def test_the_first_reason_stands() -> None:
    scope = RunScope()
    scope.check()
    scope.cancel(DEADLINE)
    scope.cancel(CANCEL)
    assert (scope.is_set, scope.reason) == (True, DEADLINE)
    with pytest.raises(Interrupted):
        scope.check()


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.anyio
async def test_an_attached_scope_of_the_loop_is_cancelled_along(elsewhere: bool) -> None:
    scope, host = RunScope(), current_host()
    with anyio.CancelScope() as loop_scope:
        scope.attach(loop_scope, host)
        if elsewhere:
            await anyio.to_thread.run_sync(scope.cancel, CANCEL)
        else:
            scope.cancel(CANCEL)
        await anyio.sleep_forever()
    assert loop_scope.cancelled_caught


@pytest.mark.anyio
async def test_a_scope_that_has_ended_already_is_attached_as_cancelled() -> None:
    scope, host = RunScope(), current_host()
    scope.cancel(CANCEL)
    with anyio.CancelScope() as loop_scope:
        scope.attach(loop_scope, host)
        await anyio.sleep_forever()
    assert loop_scope.cancelled_caught


@pytest.mark.anyio
async def test_a_detached_scope_is_left_alone() -> None:
    scope, host = RunScope(), current_host()
    with anyio.CancelScope() as loop_scope:
        scope.attach(loop_scope, host)
        scope.detach()
        scope.cancel(CANCEL)
        await anyio.sleep(0)
    assert not loop_scope.cancel_called


def test_one_that_raises_keeps_the_others_not_from_being_woken() -> None:
    once = Once()
    woken: list[int] = []

    def spoil() -> None:
        raise ValueError("spoilt")

    once.subscribe(lambda: woken.append(1))
    once.subscribe(spoil)
    once.subscribe(lambda: woken.append(2))
    with pytest.raises(ValueError, match="spoilt"):
        once.set()
    assert woken == [1, 2]
