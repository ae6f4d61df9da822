"""Whole trees of runs of both colours, that end and that are cancelled in the middle."""

from __future__ import annotations

import anyio
import pytest

from callsheet import flow, task

DEPTH = 4
NODES = 2**DEPTH


@task
def leaf(x: int) -> int:
    return x


@task
async def aleaf(x: int) -> int:
    await anyio.sleep(0)
    return x


@task
def node(n: int) -> int:
    if n == 0:
        return 1
    return sum(future.result() for future in [anode.submit(n - 1), node.submit(n - 1), aleaf.submit(0)])


@task
async def anode(n: int) -> int:
    if n == 0:
        return 1
    first, second, third = node.submit(n - 1), anode.submit(n - 1), leaf.submit(0)
    return first.result() + await second + third.result()


def test_a_tree_under_a_sync_flow() -> None:
    @flow
    def outer() -> list[int]:
        return [future.result() for future in [anode.submit(DEPTH), node.submit(DEPTH)]]

    assert outer() == [NODES, NODES]


@pytest.mark.anyio
async def test_a_tree_under_an_async_flow() -> None:
    @flow
    async def outer() -> list[int]:
        return [future.result() for future in [anode.submit(DEPTH), node.submit(DEPTH)]]

    with anyio.fail_after(30):
        assert await outer() == [NODES, NODES]


@pytest.mark.anyio
@pytest.mark.parametrize("milliseconds", [1, 4, 9, 16])
async def test_a_tree_that_is_cancelled_somewhere(milliseconds: int) -> None:
    @flow
    async def outer() -> list[int]:
        return [future.result() for future in [anode.submit(DEPTH), node.submit(DEPTH)]]

    with anyio.fail_after(30):
        with anyio.move_on_after(milliseconds / 1000):
            await outer()
        assert await outer() == [NODES, NODES]
