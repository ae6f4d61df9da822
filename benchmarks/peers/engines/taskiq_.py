"""taskiq with its broker in memory: nothing is recorded."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager

from taskiq import InMemoryBroker, SimpleRetryMiddleware
from turn import computing, main, soak, weigh

logging.disable(logging.CRITICAL)  # else a traceback a retry would be timed too
broker = InMemoryBroker(max_async_tasks=100_000, max_stored_results=200_000).with_middlewares(
    SimpleRetryMiddleware(default_retry_count=2)
)
clock = time.perf_counter
failed: set[int] = set()


@broker.task
async def noop(i=0):
    """Do nothing."""


@broker.task
def sync_noop(i=0):
    """Do nothing."""


@broker.task(retry_on_error=True, max_retries=2)
async def flaky(i):
    """Fail at first."""
    if i not in failed:
        failed.add(i)
        raise ValueError("once")


async def _sequential(task, size):
    waits = []
    for i in range(size):
        start = clock()
        await (await task.kiq(i)).wait_result(check_interval=0.0001)
        waits.append(clock() - start)
    return waits


async def _at_once(task, size):
    kicked = await asyncio.gather(*(task.kiq(i) for i in range(size)))
    for result in await asyncio.gather(*(one.wait_result(check_interval=0.01) for one in kicked)):
        result.raise_for_error()


async def sequential(size):
    """Await one task after the other."""
    return await _sequential(noop, size)


async def gather(size):
    """Kick many, then await them."""
    await _at_once(noop, size)


async def sync_called(size):
    """Await one sync task after the other."""
    return await _sequential(sync_noop, size)


async def sync_submitted(size):
    """Kick many sync tasks, then await them."""
    await _at_once(sync_noop, size)


async def retry(size):
    """Have each fail once."""
    failed.clear()
    await _at_once(flaky, size)


async def beside_threads(size):
    """Await one after the other while others want the interpreter."""
    with computing():
        return await sequential(size)


async def held(size):
    """Hold what was kicked, after it has ended."""

    async def ended(size):
        kicked = await asyncio.gather(*(noop.kiq(i) for i in range(size)))
        await asyncio.gather(*(one.wait_result(check_interval=0.01) for one in kicked))
        return kicked

    return await weigh(size, ended)


async def soaked(size):
    """Kick a thousand at a time."""
    return await soak(size, gather)


@asynccontextmanager
async def started():
    """Keep the broker started."""
    await broker.startup()
    yield
    await broker.shutdown()


if __name__ == "__main__":
    main(
        {
            "cold": sequential,
            "sequential": sequential,
            "gather": gather,
            "submit": gather,
            "map": gather,
            "sync_called": sync_called,
            "sync_submitted": sync_submitted,
            "retry": retry,
            "gather_many": gather,
            "submit_many": gather,
            "beside_threads": beside_threads,
            "held": held,
            "soak": soaked,
        },
        around=started,
    )
