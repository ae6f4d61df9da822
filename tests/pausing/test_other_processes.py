"""Resuming and suspending flow runs from another process on the same history."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, field_validator

from callsheet import flow, pause_flow_run, suspend_flow_run
from elsewhere import other, until
from past import states_of
from pausing_helpers import PATIENCE, Resumer, resume_elsewhere, resumer

__all__ = ["resumer"]


class Even(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("odd numbers are not wanted")
        return n


@pytest.mark.parametrize("poll_interval", [10_000, 0.05])
def test_a_resumption_is_noticed(resumer: Resumer, poll_interval: float) -> None:
    """Long before the next poll."""

    @flow
    def asks() -> int:
        return pause_flow_run(wait_for_input=int, timeout=PATIENCE, poll_interval=poll_interval)

    resumer.does(lambda: resumer.said.append(resume_elsewhere(resumer.next_pause(), '{"value": 3}')))
    state = asks(return_state=True)
    assert state.data == 3
    assert states_of(state) == ["Pending", "Running", "Paused", "Running", "Completed"]
    resumer.join()
    assert resumer.said == [""]


def test_on_every_loop(resumer: Resumer, run_on: Any) -> None:
    @flow
    async def asks() -> None:
        await pause_flow_run(timeout=PATIENCE, poll_interval=10_000)

    resumer.does(lambda: resume_elsewhere(resumer.next_pause()))
    assert run_on(asks) is None


def test_the_schema_is_checked_there_and_the_type_here(resumer: Resumer) -> None:
    @flow
    def asks() -> int:
        return pause_flow_run(wait_for_input=Even, timeout=PATIENCE, poll_interval=10_000).n

    def answer() -> None:
        run_id = resumer.next_pause()
        resumer.said.append(resume_elsewhere(run_id, '{"n": "x"}'))
        resumer.said.append(resume_elsewhere(run_id, '{"n": 3}'))  # fits the schema, not the type
        resumer.said.append(resume_elsewhere(resumer.next_pause(), '{"n": 4}'))

    resumer.does(answer)
    state = asks(return_state=True)
    resumer.join()
    assert state.data == 4
    assert resumer.said[0].startswith("RuntimeError Cannot resume this run: Run input validation error: 'n'")
    assert resumer.said[1:] == ["", ""]
    assert states_of(state) == ["Pending", "Running", "Paused", "Running", "Paused", "Running", "Completed"]


def test_a_run_of_another_process_is_suspended_and_leaves_at_its_next_task() -> None:
    with other(
        """
from callsheet import Engine

@task
async def step(number):
    say("step", number)

@flow
async def long():
    say("run", flow_run.id)
    for number in range(10_000):
        await step(number)
        await asyncio.sleep(0.01)

async def main():
    async with Engine(flows=[long]):
        say("end", (await long(return_state=True)).name)

asyncio.run(main())
"""
    ) as process:
        run_id = UUID(process.next("run"))
        process.next("step")
        until(lambda: states_of(run_id))
        suspend_flow_run(flow_run_id=run_id)
        said = process.end()
    assert said[-1] == "end Suspended"
    assert states_of(run_id)[-1] == "Suspended"
    with pytest.raises(RuntimeError, match="cannot be suspended"):
        suspend_flow_run(flow_run_id=run_id)
