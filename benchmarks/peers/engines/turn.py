"""One turn of one workload, inside of an engine's own environment: the standard library only.

A script of an engine names its workloads; each does its work for a size, and may give the waiting time of every
single piece. The work is done once small, to warm up, then measured.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

STATE = Path(os.environ.get("BENCH_STATE", "."))
VARIANT = os.environ.get("BENCH_VARIANT", "")
UNSUPPORTED = 3
PATIENCE = 0.05  # seconds after which the history is asked
_WARM = 10


def memory_mb(field: str) -> float:
    """Read a field of this kind from the kernel (Linux): ``VmHWM`` is the peak, ``VmRSS`` what is resident now."""
    with Path("/proc/self/status").open() as status:
        return next((int(line.split()[1]) / 1024 for line in status if line.startswith(f"{field}:")), 0.0)


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


async def _once(work: Callable[[int], Any], size: int) -> Any:
    done = work(size)
    return await done if inspect.isawaitable(done) else done


async def _measured(work: Callable[[int], Any], size: int, recorded: Callable[[], int] | None) -> dict[str, Any]:
    """Suspends only where the work does."""
    await _once(work, min(size, _WARM))
    before = 0 if recorded is None else recorded()
    _forget_peak()
    cpu, start = time.process_time(), time.perf_counter()
    waits = await _once(work, size)
    took = time.perf_counter() - start
    found: dict[str, Any] = {"seconds": took, "cpu": time.process_time() - cpu, "peak_mb": memory_mb("VmHWM")}
    if recorded is not None:
        found["before"] = before
    if waits:
        waits.sort()
        found["p50"], found["p99"] = waits[len(waits) // 2], waits[int(len(waits) * 0.99)]
    return found


def main(
    workloads: dict[str, Callable[[int], Any]],
    *,
    around: Callable[[], Any] | None = None,
    recorded: Callable[[], int] | None = None,
    serve: Callable[[int], None] | None = None,
) -> None:
    """Do what the command line says: ``WORKLOAD SIZE``, or ``serve PORT``.

    Args:
        workloads: What this engine can do. Plain functions named ``sync…`` are called where no event loop runs.
        around: Makes an async context manager in which async work is done (a cluster, a broker, an engine).
        recorded: Counts the tasks that the engine's history knows to be done.
        serve: Runs a web service on a port.
    """
    name, size = sys.argv[1], int(sys.argv[2])
    if name == "serve" and serve is not None:
        serve(size)
        return
    work = workloads.get(name)
    if work is None:
        raise SystemExit(UNSUPPORTED)

    if name == "cold":
        asyncio.run(_once(work, size))
        return

    async def turn() -> dict[str, Any]:
        if around is None:
            return await _measured(work, size, recorded)
        async with around():
            return await _measured(work, size, recorded)

    if inspect.iscoroutinefunction(work) or not name.startswith("sync"):
        found = asyncio.run(turn())
    else:
        found = _stepped(_measured(work, size, recorded))
    if recorded is not None:
        time.sleep(PATIENCE)
        found["recorded"] = recorded() - found.pop("before")
    print(json.dumps(found))


def _stepped(steps: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    try:
        steps.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("This work must not wait for an event loop.")
