"""Subflows that run beside their parent's body: submitted, or in a task group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import flow, task
from callsheet.context import FlowRunContext


@task
def one() -> int:
    return 1


@flow
def child(x: int = 1) -> int:
    return x + 1


@flow
async def achild(x: int = 1) -> int:
    await anyio.sleep(0)
    return x + 1


def flow_run() -> Any:
    context = FlowRunContext.get()
    assert context is not None
    return context.flow_run


@pytest.mark.anyio
@pytest.mark.parametrize("definition", [child, achild], ids=["sync", "async"])
async def test_subflows_are_submitted_like_tasks(definition: Any) -> None:
    @flow
    async def outer() -> Any:
        futures = [definition.submit(x) for x in range(3)]
        assert [future.result() for future in futures] == [1, 2, 3]
        state = definition.submit(5, return_state=True)
        assert await state.result() == 6
        assert state.state_details.flow_run_id is not None
        assert futures[0].state.state_details.task_run_id == futures[0].task_run_id
        return await futures[0]

    assert await outer() == 1


@pytest.mark.parametrize("definition", [child, achild], ids=["sync", "async"])
def test_sync_flows_submit_subflows_too(definition: Any) -> None:
    @flow
    def outer() -> Any:
        return [definition.submit(one.submit()).result(), definition.submit(4).result()]

    assert outer() == [2, 5]


def test_a_submitted_subflow_keeps_the_parent_from_ending() -> None:
    order: list[str] = []

    @flow
    async def inner() -> None:
        await anyio.sleep(0.01)
        order.append("inner")

    @flow(on_completion=[lambda flow, run, state: order.append("outer")])
    def outer() -> None:
        inner.submit().add_done_callback(lambda future: order.append("done"))

    outer()
    assert order == ["inner", "done", "outer"]


def test_returned_futures_of_subflows_decide() -> None:
    @flow
    def bad() -> None:
        raise KeyError("bad")

    @flow
    def outer() -> Any:
        return [child.submit(), bad.submit()]

    state = outer(return_state=True)
    assert state.message == "1/2 states failed."
    with pytest.raises(KeyError):
        state.result()


def test_a_flow_is_submitted_only_inside_a_flow_run() -> None:
    with pytest.raises(RuntimeError, match="flow run"):
        child.submit(1)


# ------------------------------------------------------------------------------------- at once


@pytest.mark.anyio
async def test_subflows_may_run_at_the_same_time() -> None:
    both = [anyio.Event(), anyio.Event()]

    @flow
    async def meets(mine: int) -> None:
        both[mine].set()
        await both[1 - mine].wait()

    @flow
    async def outer() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(meets, 0)
            group.start_soon(meets, 1)

    with anyio.fail_after(10):
        await outer()


def test_flows_at_the_same_time_do_not_see_each_other(run_on: Callable[..., Any]) -> None:
    seen: list[tuple[int, Any, Any]] = []

    @flow
    async def root(n: int) -> None:
        before = flow_run().id
        await achild(n)
        seen.append((n, before, flow_run().id))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for n in range(5):
                group.start_soon(root, n)

    run_on(main)
    assert len({before for _, before, _ in seen}) == 5
    assert all(before == after for _, before, after in seen)
