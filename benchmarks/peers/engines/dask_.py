"""Dask's distributed scheduler: one worker with two threads in this process."""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager

from distributed import Client, LocalCluster
from turn import main, weigh

logging.disable(logging.CRITICAL)  # else a traceback a retry would be timed too
clock = time.perf_counter
failed: set[tuple[float, int]] = set()
clients = []


def sync_noop(i):
    """Do nothing."""


async def noop(i):
    """Do nothing."""


def flaky(key):
    """Fail at first."""
    if key not in failed:
        failed.add(key)
        raise ValueError("once")


async def _sequential(function, size):
    waits = []
    for i in range(size):
        start = clock()
        await clients[0].submit(function, i, pure=False)
        waits.append(clock() - start)
    return waits


async def sequential(size):
    """Await one task after the other."""
    return await _sequential(noop, size)


async def sync_called(size):
    """Await one sync task after the other."""
    return await _sequential(sync_noop, size)


async def submit(size):
    """Submit many."""
    client = clients[0]
    await client.gather([client.submit(noop, i, pure=False) for i in range(size)])


async def mapped(size):
    """Map many."""
    await clients[0].gather(clients[0].map(noop, range(size), pure=False))


async def sync_submitted(size):
    """Submit many sync tasks."""
    await clients[0].gather(clients[0].map(sync_noop, range(size), pure=False))


async def chain(size):
    """Let each take the future of the one before."""
    client = clients[0]
    last = client.submit(sync_noop, 0, pure=False)
    for _ in range(size - 1):
        last = client.submit(sync_noop, last, pure=False)
    await last


async def diamond(size):
    """Let one be followed by many, and all of them by one."""
    client = clients[0]
    top = client.submit(sync_noop, 0, pure=False)
    middle = [client.submit(sync_noop, top, pure=False) for _ in range(size - 2)]
    await client.submit(sync_noop, middle, pure=False)


async def retry(size):
    """Have each fail once."""
    now = clock()
    await clients[0].gather(clients[0].map(flaky, [(now, i) for i in range(size)], retries=1, pure=False))


async def held(size):
    """Hold the futures of tasks that have ended, with what the scheduler in this process keeps of them."""

    async def ended(size):
        futures = clients[0].map(noop, range(size), pure=False)
        await clients[0].gather(futures)
        return futures

    return await weigh(size, ended)


@asynccontextmanager
async def cluster():
    """Keep a cluster and a client."""
    async with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, asynchronous=True,
            silence_logs="ERROR",
        ) as local,
        Client(local, asynchronous=True) as client,
    ):  # fmt: skip
        clients.append(client)
        yield


async def cold(size):
    """Run the first task of a new cluster."""
    async with cluster():
        await sequential(size)


if __name__ == "__main__":
    main(
        {
            "cold": cold,
            "sequential": sequential,
            "gather": submit,
            "submit": submit,
            "map": mapped,
            "sync_called": sync_called,
            "sync_submitted": sync_submitted,
            "chain": chain,
            "diamond": diamond,
            "retry": retry,
            "held": held,
        },
        around=cluster,
    )
