"""Long runs: many processes on one history with rolling restarts, and one process that runs a million tasks.

    make soak [SECONDS=3600] [RUNS=1000000]

Every figure is printed; what is not flat, lost, or done twice makes the exit code 1.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec

import kill_victim as victim
from callsheet import Engine, flow, task
from kill_turns import LEASE, Place, Turn, check, draw, spawn, unfinished, wait_for

# ------------------------------------------------------------------------------------ many processes


def serve(place: Place, turn: Turn, life: int, flows: int) -> None:
    """Run flows, some at a time, until the parent says stop; take up what killed processes have left."""
    os.environ.update(
        CALLSHEET_DATABASE=str(place.database),
        CALLSHEET_DURABILITY=turn.level,
        CALLSHEET_LEASE_SECONDS=str(10 * LEASE),
        CALLSHEET_LOGGING_LEVEL="CRITICAL",
    )
    stop = place.folder / "stop"
    leave = place.folder / f"leave-{life}"

    async def main() -> None:
        batch = 0
        async with Engine(flows=victim.FLOWS):
            while not (stop.exists() or leave.exists()):
                await victim.run_roots({f"{life}-{batch}-{n}": victim.sequential for n in range(flows)})
                batch += 1
            with anyio.fail_after(60):
                while stop.exists() and unfinished(place):
                    await anyio.sleep(0.05)

    anyio.run(main, backend=turn.backend)


def processes(number: int, flows: int, seconds: float, folder: Path, seed: str) -> list[str]:
    """Have processes share a history, and replace one after the other, by a kill or in order; give what is wrong."""
    turn = msgspec.structs.replace(draw(seed, 0), level="results", roots={})
    place = Place(folder)
    dice = random.Random(seed)
    lives = iter(range(10**6))
    killed: set[int] = set()
    wrong: list[str] = []

    def start() -> tuple[int, int]:
        life = next(lives)
        backend = dice.choice(("asyncio", "trio"))
        one = msgspec.structs.replace(turn, backend=backend)
        return life, spawn(place, life, lambda: serve(place, one, life, flows))

    alive = [start() for _ in range(number)]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(min(seconds / 4, 10.0))
        life, pid = alive.pop(0)
        if dice.random() < 0.5:
            killed.add(life)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        else:
            (place.folder / f"leave-{life}").touch()
            if (code := wait_for(pid)) != 0:
                wrong.append(f"process {life} ended with {code}")
        alive.append(start())
    (place.folder / "stop").touch()
    for life, pid in alive:
        if (code := wait_for(pid, 120)) != 0:
            wrong.append(f"process {life} ended with {code}")
    wrong += check(turn, place, recovered=True)
    wrong += [f"not finished: {row}" for row in unfinished(place)]
    wrong += _twice(place, killed)
    if "locked" in place.errors.read_text():
        wrong.append(place.errors.read_text()[-2000:])
    roots = victim.read(place.log, "told")
    done = sum(line["kind"] == "root" for line in roots)
    tasks = len(victim.read(place.log, "did"))
    print(f"{number} processes, {next(lives) - number} replaced ({len(killed)} killed): {done} flows, {tasks} tasks")
    return wrong


def _twice(place: Place, killed: set[int]) -> Iterator[str]:
    """Give the calls that were done twice without a kill in between."""
    did = victim.read(place.log, "did")
    times = Counter(line["key"] for line in did)
    for line in did:
        key = line["key"]
        if times[key] > 1 and int(key.split("-")[0]) not in killed:
            yield f"{key} was done {times[key]} times"


# -------------------------------------------------------------------------------------- many runs


@task
async def add(x: int) -> int:
    return x + 1


@flow
async def adds(upto: int) -> int:
    for x in range(upto - 10):
        await add(x)
    return sum([await future for future in add.map(range(10))])


class Figures(msgspec.Struct):
    """What a process uses."""

    runs: int
    seconds: float
    memory: float  # MB
    threads: int
    files: int
    database: float  # MB


def figures(runs: int, since: float, database: Path) -> Figures:
    """Measure this process, and print it."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    size = sum(file.stat().st_size for file in database.parent.glob(f"{database.name}*") if file.is_file())
    found = Figures(
        runs,
        time.monotonic() - since,
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        threading.active_count(),
        len(os.listdir("/proc/self/fd")),
        size / 1e6,
    )
    print(
        f"{found.runs:>9} runs {found.seconds:7.1f} s {found.memory:7.1f} MB {found.threads:3} threads"
        f" {found.files:3} files {found.database:8.1f} MB of history",
        flush=True,
    )
    return found


def million(runs: int, database: Path, backend: str) -> list[str]:
    """Run tasks one after the other and beside each other; give what grows."""
    seen: list[Figures] = []
    each = 1000

    async def main() -> None:
        since = time.monotonic()
        async with Engine(database):
            for done in range(each, runs + 1, each):
                await adds(each)
                if done % max(each, runs // 10) == 0:
                    seen.append(figures(done, since, database))

    anyio.run(main, backend=backend)
    early, late = seen[len(seen) // 5], seen[-1]
    wrong: list[str] = []
    if late.memory > early.memory * 1.1 + 5:
        wrong.append(f"memory grows: {early.memory:.1f} MB, then {late.memory:.1f} MB")
    if late.threads > early.threads or late.files > early.files:
        wrong.append(f"threads or files grow: {early}, then {late}")
    if late.database / late.runs > 1.2 * early.database / early.runs:
        wrong.append(f"each run takes more room: {early}, then {late}")
    return wrong


def main() -> int:
    """Do both; the exit code says whether all was well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--flows", type=int, default=50, help="that a process runs at the same time")
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", default="")
    arguments = parser.parse_args()
    seed = arguments.seed or str(random.SystemRandom().randrange(10**6))
    root = Path(tempfile.mkdtemp(prefix="callsheet-soak-"))
    print(f"seed {seed}, files in {root}", flush=True)
    wrong: list[str] = []
    if arguments.seconds:
        wrong += processes(arguments.processes, arguments.flows, arguments.seconds, root, seed)
    if arguments.runs:
        (root / "runs").mkdir()
        wrong += million(arguments.runs, root / "runs" / "h.db", "asyncio")
    print(*wrong[:50], sep="\n")
    if not wrong:
        shutil.rmtree(root)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
