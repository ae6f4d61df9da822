"""Ray, local, with one core. Tasks are sync; async work is done by an actor."""

from __future__ import annotations

import asyncio
import time

import ray
from turn import STATE, main

clock = time.perf_counter


@ray.remote
def sync_noop(i):
    """Do nothing."""


@ray.remote(max_retries=1, retry_exceptions=True)
def flaky(path):
    """Fail at first."""
    if not path.exists():
        path.touch()
        raise ValueError("once")


@ray.remote(max_concurrency=1000)
class Actor:
    """Does async work."""

    async def noop(self, i):
        """Do nothing."""


async def sequential(size):
    """Await one call after the other."""
    waits = []
    for i in range(size):
        start = clock()
        await actor.noop.remote(i)
        waits.append(clock() - start)
    return waits


async def gather(size):
    """Await many at once."""
    await asyncio.gather(*(actor.noop.remote(i) for i in range(size)))


def sync_called(size):
    """Get one task after the other."""
    for i in range(size):
        ray.get(sync_noop.remote(i))


def sync_submitted(size):
    """Start many, then get them."""
    ray.get([sync_noop.remote(i) for i in range(size)])


async def chain(size):
    """Let each take the future of the one before."""
    last = sync_noop.remote(0)
    for _ in range(size - 1):
        last = sync_noop.remote(last)
    await last


async def retry(size):
    """Have each fail once."""
    now = time.time_ns()
    await asyncio.gather(*(flaky.remote(STATE / f"{now}-{i}") for i in range(size)))


if __name__ == "__main__":
    ray.init(
        num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False, _temp_dir=str(STATE / "r"),
        object_store_memory=200 << 20,
    )  # fmt: skip
    actor = Actor.options(num_cpus=0).remote()
    try:
        main(
            {
                "cold": sequential,
                "sequential": sequential,
                "gather": gather,
                "submit": gather,
                "map": gather,
                "sync_called": sync_called,
                "sync_submitted": sync_submitted,
                "chain": chain,
                "retry": retry,
            }
        )
    finally:
        ray.shutdown()
