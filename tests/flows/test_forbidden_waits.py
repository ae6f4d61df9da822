"""`CALLSHEET_BLOCKING_WAITS=error`: async code that would wait by blocking is told so."""

from __future__ import annotations

import pytest

from callsheet import flow, task
from callsheet.exceptions import BlockingWaitError
from callsheet.settings import temporary_settings


@task
async def slow() -> int:
    import anyio

    await anyio.sleep(0)
    return 3


@flow
async def blocking() -> int:
    return slow.submit().result()


@flow
async def awaiting() -> int:
    return await slow.submit()


@pytest.mark.anyio
async def test_blocking_waits_in_async_code_can_be_forbidden():
    assert await blocking() == 3
    with temporary_settings({"CALLSHEET_BLOCKING_WAITS": "error"}):
        with pytest.raises(BlockingWaitError, match="CALLSHEET_BLOCKING_WAITS=error"):
            await blocking()
        assert await awaiting() == 3


def test_sync_code_may_wait_all_the_same():
    @flow
    def plain() -> int:
        return slow.submit().result()

    with temporary_settings({"CALLSHEET_BLOCKING_WAITS": "error"}):
        assert plain() == 3
