"""What async code forgets to await is told by Python, once for each call and by the name that was called."""

from __future__ import annotations

import gc
import warnings
from typing import Any
from uuid import uuid4

import pytest

from callsheet import flow, send_signal, sleep, task
from callsheet.flow_runs import cancel_flow_run, wait_for_flow_run
from callsheet.states import Completed, get_state_result

CALLS: dict[str, Any] = {
    "get_state_result": lambda: Completed(data=1).result(),
    "State.aresult": lambda: Completed(data=1).aresult(),
    "cancel_flow_run": lambda: cancel_flow_run(uuid4()),
    "wait_for_flow_run": lambda: wait_for_flow_run(uuid4()),
    "send_signal": lambda: send_signal(uuid4(), "go"),
    "sleep": lambda: sleep(0),
}


def warned() -> list[str]:
    """Do every call, drop what it gives, and give what Python says of each."""
    said: list[str] = []
    for call in CALLS.values():
        gc.collect()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
            gc.collect()
        said += [str(one.message) for one in caught]
    return said


EXPECTED = [f"coroutine '{name}' was never awaited" for name in CALLS]


@pytest.mark.anyio
async def test_outside_of_runs() -> None:
    assert warned() == EXPECTED


@pytest.mark.anyio
async def test_inside_of_runs() -> None:
    @task
    async def forgets() -> list[str]:
        return warned()

    @flow
    async def around() -> list[list[str]]:
        return [warned(), await forgets()]

    assert await around() == [EXPECTED, EXPECTED]


@pytest.mark.anyio
async def test_what_is_awaited_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        state: Any = Completed(data=1)
        assert await state.result() == await get_state_result(state) == 1
        gc.collect()
    assert caught == []
