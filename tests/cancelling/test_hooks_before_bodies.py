"""Cancelling runs that are in code of the user's before or between their attempts: hooks, and conditions of retries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import anyio
import pytest

from callsheet import flow, task
from callsheet.exceptions import CancelledRun
from callsheet.flow_runs import cancel_flow_run
from callsheet.runtime import flow_run
from callsheet.task_runs import cancel_task_run
from elsewhere import other, until
from past import states_of

PATIENCE = 50.0  # seconds; only ever waited for by a test that fails


class Hanging:
    """A hook, or a condition, that never ends by itself."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = 0
        self.run_id: Any = None
        self.on_entry: Callable[[], object] = lambda: None

    async def hook(self, definition: Any, run: Any, state: Any) -> None:
        self.run_id = run.id
        self.entered.set()
        self.on_entry()
        try:
            await anyio.sleep_forever()
        finally:
            self.left += 1

    def cancel_when_entered(self, cancel: Any = cancel_flow_run) -> threading.Thread:
        """Have it cancelled from another thread."""

        def wait() -> None:
            assert self.entered.wait(PATIENCE)
            cancel(self.run_id)

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


class Flows:
    """Flows with hooks that note what was called."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.hanging = hanging = Hanging()
        say = self.log.append
        self.hooks: dict[str, Any] = {
            "on_running": [hanging.hook, lambda *_: say("another hook")],
            "on_cancellation": [lambda flow, run, state: say(state.name)],
            "on_failure": [lambda *_: say("failed")],
        }

    def plain(self) -> Any:
        @flow(**self.hooks, retries=2)
        def plain() -> None:
            self.log.append("body")

        return plain

    def awaited(self) -> Any:
        @flow(**self.hooks, retries=2)
        async def awaited() -> None:
            self.log.append("body")

        return awaited

    def check(self, run_id: UUID) -> None:
        assert self.log == ["Cancelled"]
        assert self.hanging.left == 1
        assert states_of(run_id) == ["Pending", "Running", "Cancelling", "Cancelled"]


@pytest.mark.anyio
async def test_a_hook_of_an_async_flow_is_interrupted() -> None:
    flows = Flows()
    thread = flows.hanging.cancel_when_entered()
    with anyio.fail_after(PATIENCE):
        state = await flows.awaited()(return_state=True)
    thread.join()
    assert state.name == "Cancelled"
    flows.check(state.state_details.flow_run_id)


def test_a_hook_of_a_sync_flow_is_interrupted() -> None:
    flows = Flows()
    thread = flows.hanging.cancel_when_entered()
    state = flows.plain()(return_state=True)
    thread.join()
    assert state.name == "Cancelled"
    flows.check(state.state_details.flow_run_id)


@pytest.mark.anyio
@pytest.mark.parametrize("colour", ["plain", "awaited"])
async def test_a_hook_of_a_subflow_is_interrupted_with_the_flow_around_it(colour: str) -> None:
    flows = Flows()
    inner = getattr(flows, colour)()

    @flow
    async def outer() -> None:
        called = inner()  # a sync one waits here
        if colour == "awaited":
            await called

    def cancel(run_id: Any) -> None:
        cancel_flow_run(outer_id[0])

    outer_id: list[Any] = []
    outer.on_running(lambda flow, run, state: outer_id.append(run.id))
    thread = flows.hanging.cancel_when_entered(cancel)
    with anyio.fail_after(PATIENCE):
        state = await outer(return_state=True)
    thread.join()
    assert state.name == "Cancelled"
    assert states_of(outer_id[0]) == ["Pending", "Running", "Cancelling", "Cancelled"]
    assert flows.log == ["Cancelled"]
    assert flows.hanging.left == 1


@pytest.mark.anyio
async def test_a_hook_that_does_not_heed_the_order_is_followed_by_no_body() -> None:
    ran: list[str] = []

    async def heedless(definition: Any, run: Any, state: Any) -> None:
        order = cancel_flow_run(run.id)
        with anyio.CancelScope(shield=True):
            await order
        ran.append("hook")

    @flow(on_running=[heedless])
    async def cut() -> None:
        ran.append("body")

    with anyio.fail_after(PATIENCE):
        assert (await cut(return_state=True)).name == "Cancelled"
    assert ran == ["hook"]


@pytest.mark.anyio
async def test_an_error_of_a_hook_is_still_its_own() -> None:
    async def broken(definition: Any, run: Any, state: Any) -> None:
        await anyio.sleep(0)
        raise ValueError("of the hook")

    @flow(on_running=[broken])
    async def goes_on() -> int:
        return 3

    assert await goes_on() == 3


@pytest.mark.anyio
async def test_cancellation_from_outside_goes_through_a_hook() -> None:
    hanging = Hanging()

    @flow(on_running=[hanging.hook])
    async def cut() -> None:
        raise AssertionError("the body was called")

    with anyio.CancelScope() as scope:
        hanging.on_entry = scope.cancel
        await cut()
    assert scope.cancelled_caught
    assert hanging.left == 1
    assert states_of(hanging.run_id)[-1] in ("Cancelled", "Crashed")


# ------------------------------------------------------------------------------------- between attempts


@pytest.mark.anyio
@pytest.mark.parametrize("timed_out", [False, True])
@pytest.mark.parametrize("colour", ["plain", "awaited"])
async def test_a_condition_of_a_retry_is_interrupted(colour: str, timed_out: bool) -> None:
    hanging, attempts = Hanging(), 0
    seconds = 0.05 if timed_out else None

    @task(retries=3, retry_condition_fn=hanging.hook, timeout_seconds=seconds)
    def plain() -> None:
        nonlocal attempts
        attempts += 1
        if timed_out:
            while True:
                time.sleep(0.001)
        raise ValueError("again")

    @task(retries=3, retry_condition_fn=hanging.hook, timeout_seconds=seconds)
    async def awaited() -> None:
        nonlocal attempts
        attempts += 1
        if timed_out:
            await anyio.sleep_forever()
        raise ValueError("again")

    @flow
    async def around() -> str:
        future = (plain if colour == "plain" else awaited).submit()
        with pytest.raises(CancelledRun):
            await future
        return future.state.name

    thread = hanging.cancel_when_entered(cancel_task_run)
    with anyio.fail_after(PATIENCE):
        assert await around() == "Cancelled"
    thread.join()
    assert (attempts, hanging.left) == (1, 1)
    assert states_of(hanging.run_id)[-1] == "Cancelled"


@pytest.mark.anyio
async def test_a_condition_of_a_retry_is_interrupted_with_the_flow() -> None:
    hanging = Hanging()

    @task(retries=3, retry_condition_fn=hanging.hook)
    async def fails() -> None:
        raise ValueError("again")

    @flow
    async def around() -> None:
        ids.append(flow_run.id)
        await fails()

    ids: list[Any] = []
    thread = hanging.cancel_when_entered(lambda _: cancel_flow_run(ids[0]))
    with anyio.fail_after(PATIENCE):
        assert (await around(return_state=True)).name == "Cancelled"
    thread.join()
    assert hanging.left == 1
    assert states_of(hanging.run_id)[-1] == "Cancelled"


# --------------------------------------------------------------------------------------- other processes


@pytest.mark.parametrize("colour", ["def", "async def"])
def test_a_hook_in_another_process_is_interrupted(colour: str) -> None:
    program = f"""
async def hangs(flow, run, state):
    say("hangs", run.id)
    await asyncio.sleep(3600)

@flow(on_running=[hangs], on_cancellation=[hook])
{colour} outer():
    say("body")

end = outer(return_state=True)
say("end", (end if {colour == "def"} else asyncio.run(end)).name)
"""
    with other(program) as process:
        run_id = UUID(process.next("hangs"))
        until(lambda: states_of(run_id))
        cancel_flow_run(run_id)
        assert process.next("end") == "Cancelled"
        assert "body" not in process.seen
        assert process.seen[-2] == "hook outer Cancelled"
    assert states_of(run_id) == ["Pending", "Running", "Cancelling", "Cancelled"]
