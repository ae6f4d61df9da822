"""The task run that stands for a subflow in its parent ends as the subflow does."""

from __future__ import annotations

import anyio
import pytest

from callsheet import flow, get_client, task
from callsheet.exceptions import CancelledRun
from callsheet.states import State


async def tracked(state: State[None]) -> tuple[str, str]:
    """Give the names of the final states of a subflow and of its tracker."""
    async with get_client() as client:
        run = await client.read_flow_run(state.state_details.flow_run_id)
        assert run.parent_task_run_id is not None
        tracker = await client.read_task_run(run.parent_task_run_id)
    assert run.state_name is not None
    assert tracker.state_name is not None
    return run.state_name, tracker.state_name


@pytest.mark.anyio
async def test_a_swallowed_cancellation_is_cancelled_for_both() -> None:
    ended: list[str] = []

    @task
    async def forever() -> None:
        try:
            begun.set()
            await anyio.sleep_forever()
        finally:
            ended.append("child")

    @flow(retries=2)
    async def stubborn() -> str:
        child = forever.submit()
        try:
            await child
        except BaseException:
            ended.append("subflow")
        return "all is well"

    @flow
    async def parent() -> None:
        future = stubborn.submit()
        await begun.wait()
        async with get_client() as client:
            run_id = future.state.state_details.flow_run_id
            await client.set_flow_run_state(run_id, State(type="CANCELLING"))
        with pytest.raises(CancelledRun):
            await future
        states.append(future.state)

    begun = anyio.Event()
    states: list[State[None]] = []
    await parent()
    assert sorted(ended) == ["child", "subflow"]
    assert await tracked(states[0]) == ("Cancelled", "Cancelled")


@pytest.mark.anyio
async def test_bad_parameters_fail_both() -> None:
    @flow
    async def sub(x: int) -> int:
        return x

    @flow
    async def parent() -> State[int]:
        return await sub("no number", return_state=True)  # type: ignore[call-overload,no-any-return]

    state = await parent(return_state=True)
    assert await tracked(state.data) == ("Failed", "Failed")
