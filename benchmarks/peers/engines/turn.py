"""One turn of one workload, inside of an engine's own environment: the standard library only.

A script of an engine names its workloads; each does its work for a size, and may give the waiting time of every
single piece, or figures by name. The work is done once small, to warm up, then measured.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STATE = Path(os.environ.get("BENCH_STATE", "."))
VARIANT = os.environ.get("BENCH_VARIANT", "")
UNSUPPORTED = 3
PATIENCE = 0.05  # seconds after which the history is asked
DRAIN = 20.0  # seconds that a history is given to become complete
IDLE = 5.0  # seconds without any progress after which it is given up
COMPUTING = 2  # threads
SOAK_STEP = 1_000
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


async def soak(size: int, some: Callable[[int], Coroutine[Any, Any, Any]]) -> dict[str, Any]:
    """Do many pieces, a thousand at once, and watch the memory after each tenth."""
    resident = []
    for done in range(SOAK_STEP, size + 1, SOAK_STEP):
        await some(SOAK_STEP)
        if done % (size // 10) == 0:
            gc.collect()
            resident.append(round(memory_mb("VmRSS"), 1))
    return {"resident_mb": resident}


async def weigh(size: int, make: Callable[[int], Any]) -> dict[str, float]:
    """Say how many bytes each piece holds that has ended and is held by what it was handed out as.

    Counted by Python's own allocator, when everything that is no longer needed has been let go.
    """
    await _once(make, _WARM)
    gc.collect()
    tracemalloc.start()
    held = await _once(make, size)
    await asyncio.sleep(0.5)
    gc.collect()
    whole = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held is not None
    return {"bytes": whole / size}


@contextmanager
def computing() -> Iterator[None]:
    """Have threads that want the interpreter all the time."""
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    threads = [threading.Thread(target=compute) for _ in range(COMPUTING)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def kill_when_ready(*arguments: str) -> None:
    """Run this very script as another process, and kill it as soon as it says that it is ready, by a file."""
    ready = STATE / "ready"
    process = subprocess.Popen([sys.executable, sys.argv[0], *arguments])
    while not ready.exists():
        if process.poll() is not None:
            raise SystemExit("The process that was to be killed has ended.")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


async def _once(work: Callable[[int], Any], size: int) -> Any:
    done = work(size)
    return await done if inspect.isawaitable(done) else done


def wait_for(count: Callable[[], int], wanted: int) -> float | None:
    """Wait until so many are on record: the seconds that it took, or nothing where they do not come."""
    start = changed = time.perf_counter()
    last = -1
    while (now := time.perf_counter()) - start < DRAIN and now - changed < IDLE:
        found = count()
        if found >= wanted:
            return now - start
        if found != last:
            last, changed = found, now
        time.sleep(0.01)
    return None


async def _measured(work: Callable[[int], Any], size: int, recorded: Callable[[], int] | None) -> dict[str, Any]:
    """Suspends only where the work does."""
    start = 0 if recorded is None else recorded()
    await _once(work, warm := min(size, _WARM))
    if recorded is not None:
        wait_for(recorded, start + warm)
    before = 0 if recorded is None else recorded()
    gc.collect()
    _forget_peak()
    cpu, since = time.process_time(), time.perf_counter()
    gave = await _once(work, size)
    took = time.perf_counter() - since
    found: dict[str, Any] = {"seconds": took, "cpu": time.process_time() - cpu, "peak_mb": memory_mb("VmHWM")}
    if recorded is not None:
        found["before"] = before
    if isinstance(gave, dict):
        found |= gave
    elif gave:
        gave.sort()
        found["p50"], found["p99"] = gave[len(gave) // 2], gave[int(len(gave) * 0.99)]
    return found


def main(
    workloads: dict[str, Callable[[int], Any]],
    *,
    around: Callable[[], Any] | None = None,
    recorded: Callable[[str], Callable[[], int] | None] | None = None,
    serve: Callable[[int], None] | None = None,
    others: dict[str, Callable[[int], Any]] | None = None,
) -> None:
    """Do what the command line says: ``WORKLOAD SIZE``, or ``serve PORT``.

    Args:
        workloads: What this engine can do. Plain functions named ``sync…`` are called where no event loop runs.
        around: Makes an async context manager in which async work is done (a cluster, a broker, an engine).
        recorded: Gives, for the name of a workload, what counts the pieces that the engine's history knows to be done.
        serve: Runs a web service on a port.
        others: Verbs that are no workloads: a server that turns share, a process that is to be killed.
    """
    name, size = sys.argv[1], int(sys.argv[2])
    verbs = {**(others or {}), **({} if serve is None else {"serve": serve})}
    if name in verbs:
        verbs[name](size)
        return
    work = workloads.get(name)
    if work is None:
        raise SystemExit(UNSUPPORTED)

    if name == "cold":
        asyncio.run(_once(work, size))
        return
    if name == "recovery":  # measures itself: it begins with the death of another process
        print("\n" + json.dumps(work(size)), flush=True)
        return
    count = None if recorded is None or name == "held" else recorded(name)

    async def turn() -> dict[str, Any]:
        if around is None:
            return await _measured(work, size, count)
        async with around():
            return await _measured(work, size, count)

    if inspect.iscoroutinefunction(work) or not name.startswith("sync"):
        found = asyncio.run(turn())
    else:
        found = _stepped(_measured(work, size, count))
    if count is not None:
        _ask_history(found, count, size)
    print("\n" + json.dumps(found), flush=True)  # a line of its own, whatever else prints


def _ask_history(found: dict[str, Any], count: Callable[[], int], size: int) -> None:
    """Say what the history has a moment later, and how long it takes until it has everything."""
    before = found.pop("before")
    time.sleep(PATIENCE)
    found["recorded"] = min(size, count() - before)
    late = wait_for(count, before + size)
    if late is None:
        found["busy"] = True
    else:
        found["complete"] = found["seconds"] + late + (PATIENCE if found["recorded"] < size else 0)


def _stepped(steps: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    try:
        steps.send(None)
    except StopIteration as stop:
        return stop.value
    raise RuntimeError("This work must not wait for an event loop.")
