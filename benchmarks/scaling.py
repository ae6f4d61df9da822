"""What one task run costs in flows of many sizes, and among many flows at once; and how much of the file it takes.

`python -m benchmarks scaling` measures and prints; with `--keep` the page of the docs shows it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.apart import apart
from benchmarks.measure import Row
from callsheet import Engine, flow, task

TASKS: Final = (100, 1_000, 10_000, 100_000)  # in one flow
FLOWS: Final = (1, 10, 100, 1_000)  # at once
EACH: Final = 10  # tasks in each of these
LEVELS: Final = ("results", "relaxed")
ALLOWED: Final = 0.25
_ENOUGH: Final = 5_000  # tasks of a turn: small sizes are repeated
_TURNS: Final = 3

Costs = dict[str, dict[str, float]]


@task
async def noop(i: int) -> None:
    """Do nothing."""


@flow
async def sequential(size: int) -> None:
    """Await one task after the other."""
    for i in range(size):
        await noop(i)


@flow
async def mapped(size: int) -> None:
    """Map as many, a thousand at a time: what is kept of so many futures is another matter."""
    for first in range(0, size, 1_000):
        noop.map(range(min(1_000, size - first))).result()


async def at_once(flows: int) -> None:
    """Run so many flows of ten tasks."""
    await asyncio.gather(*(sequential(EACH) for _ in range(flows)))


async def _cost(work: Callable[[int], Awaitable[object]], size: int, tasks: int, most: int) -> tuple[float, float]:
    """Give microseconds a task run: by the clock, and of the processor. The median of several, warmed up."""
    await work(size if tasks <= 1_000 else 100)
    walls, processors = [], []
    for _ in range(max(1, min(25, most // tasks))):
        wall, processor = time.perf_counter(), time.process_time()
        await work(size)
        walls.append((time.perf_counter() - wall) / tasks * 1e6)
        processors.append((time.process_time() - processor) / tasks * 1e6)
    return statistics.median(walls), statistics.median(processors)


def _bytes(database: Path) -> float:
    """Give how much of the file a task run takes, with its share of every index."""
    import sqlite3

    with sqlite3.connect(database) as db:
        size = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
        runs = db.execute("SELECT count(*) FROM run WHERE kind = 1").fetchone()[0]
    db.close()
    return size / runs


async def here(level: str, share: float) -> dict[str, Any]:
    """Measure one level in this process; `share` makes everything smaller."""
    home = Path(os.environ["CALLSHEET_HOME"])
    most = round(_ENOUGH * share)
    shapes: dict[str, Costs] = {"sequential": {}, "map": {}, "flows": {}}
    works: list[tuple[str, Callable[[int], Awaitable[object]], tuple[int, ...], int]] = [
        ("sequential", sequential, TASKS, 1), ("map", mapped, TASKS, 1), ("flows", at_once, FLOWS, EACH),
    ]  # fmt: skip
    for name, work, sizes, each in works:
        turns: dict[int, list[tuple[float, float]]] = {max(1, round(size * share)): [] for size in sizes}
        for _ in range(_TURNS):  # the sizes take turns: a machine that becomes slow does so for all of them
            for size, taken in turns.items():
                async with Engine(database=home / f"{name}-{size}.db", durability=level):  # type: ignore[arg-type]
                    taken.append(await _cost(work, size, size * each, most))
        for size, taken in turns.items():
            wall, processor = (statistics.median(part) for part in zip(*taken, strict=True))
            shapes[name][str(size)] = {"wall": round(wall, 1), "processor": round(processor, 1)}
    largest = max(1, round(TASKS[-1] * share))
    return {**shapes, "bytes": round(_bytes(home / f"sequential-{largest}.db"))}


def measure(share: float = 1.0) -> dict[str, Any]:
    """Measure every level in a process of its own: a ratio is within one level."""
    found: dict[str, Any] = {}
    for level in LEVELS:
        found[level] = apart("benchmarks.scaling", "--here", level, "--share", str(share), level=level)
    return found


def spread(costs: Costs, clock: str = "processor") -> float:
    """Say by how much the dearest size is dearer than the middle one, or the cheapest cheaper, whichever is more."""
    values = [one[clock] for one in costs.values()]
    middle = statistics.median(values)
    return max(max(values) / middle - 1, 1 - min(values) / middle)


def table(found: dict[str, Any]) -> Iterator[str]:
    """Give the lines of tables in Markdown."""
    titles = {
        "sequential": "tasks one after the other, in one flow of",
        "map": "tasks mapped, in one flow of",
        "flows": "flows of 10 tasks at once",
    }
    for shape, title in titles.items():
        sizes = list(found[LEVELS[0]][shape])
        yield f"| {title} | " + " | ".join(f"{int(size):,}" for size in sizes) + " | spread |"
        yield "|---" * (len(sizes) + 2) + "|"
        for level in LEVELS:
            costs = found[level][shape]
            cells = [f"{one['wall']:.0f} ({one['processor']:.0f})" for one in costs.values()]
            yield f"| {level} | " + " | ".join(cells) + f" | ± {spread(costs):.0%} |"
        yield ""
    yield "Microseconds a task run by the clock, in brackets those of the processor; the spread is that of the processor's."
    yield ""
    yield (
        "Bytes of the file a task run, indexes included: "
        + ", ".join(f"{found[level]['bytes']:,} ({level})" for level in LEVELS)
        + "."
    )


def rows(_: int) -> list[Row]:
    """Give the spread of each shape, and the bytes."""
    found = measure(float(os.environ.get("CALLSHEET_BENCH_SHARE", "1")))
    rows = []
    for level in LEVELS:
        for shape in ("sequential", "map", "flows"):
            by = spread(found[level][shape])
            name = f"cost of a task run by size, {shape}, {level}"
            rows.append(Row(name, f"± {by:.0%}", "", None, f"± {ALLOWED:.0%}", by <= ALLOWED))
    taken = found["results"]["bytes"]
    rows.append(Row("bytes of the file a task run", f"{taken:,} B", "", None, "≤ 1,024 B", taken <= 1024))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Measure, and print or keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="have the page of the docs show it")
    parser.add_argument("--share", type=float, default=1.0, help="multiplies all sizes: small, to see whether it works")
    parser.add_argument("--here", choices=LEVELS, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.here:
        print(json.dumps(asyncio.run(here(asked.here, asked.share))))
        return 0
    found = measure(asked.share)
    print("\n".join(table(found)))
    if asked.keep:
        from benchmarks import page

        page.keep("scaling", found)
        page.write()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
