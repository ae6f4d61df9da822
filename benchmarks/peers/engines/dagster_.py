"""Dagster, in this process, with an instance on SQLite: jobs of ops, which cannot be awaited."""

from __future__ import annotations

import logging
import os
import time
from functools import cache
from pathlib import Path

import dagster
from dagster import DagsterInstance, In, Nothing, RetryPolicy
from turn import main

clock = time.perf_counter
failed: set[tuple[str, str]] = set()


@dagster.op(ins={"start": In(Nothing)})
def noop():
    """Do nothing."""


@dagster.op(ins={"start": In(Nothing)}, retry_policy=RetryPolicy(max_retries=1, delay=0))
def flaky(context):
    """Fail at first."""
    key = (context.run_id, context.op.name)
    if key not in failed:
        failed.add(key)
        raise ValueError("once")


@cache
def chained(size):
    """Give a job of ops that follow each other."""

    @dagster.job
    def job():
        last = noop.alias("n0")()
        for i in range(1, size):
            last = noop.alias(f"n{i}")(start=last)

    return job


@cache
def wide(size, op=noop):
    """Give a job of ops that need nothing."""

    @dagster.job
    def job():
        for i in range(size):
            op.alias(f"n{i}")()

    return job


def _run(job):
    if not job.execute_in_process(instance=instance).success:
        raise RuntimeError("The job failed.")


def sync_called(size):
    """Run ops that follow each other."""
    _run(chained(size))


async def sequential(size):
    """Run ops that follow each other."""
    _run(chained(size))


async def gather(size):
    """Run ops that need nothing."""
    _run(wide(size))


async def flows(size):
    """Run one job after the other."""
    waits = []
    for _ in range(size):
        start = clock()
        _run(wide(1))
        waits.append(clock() - start)
    return waits


async def retry(size):
    """Have each fail once."""
    _run(wide(size, flaky))


async def cold(size):
    """Run the first job."""
    _run(wide(size))


if __name__ == "__main__":
    home = Path(os.environ["DAGSTER_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    logging.disable(logging.INFO)
    with DagsterInstance.get() as instance:
        main(
            {
                "cold": cold,
                "sequential": sequential,
                "gather": gather,
                "flows": flows,
                "sync_called": sync_called,
                "chain": sequential,
                "retry": retry,
            }
        )
