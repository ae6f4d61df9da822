"""Long runs: many processes on one history with rolling restarts, and one process that runs a million tasks.

    make soak [SECONDS=3600] [RUNS=1000000]
    python tests/soak.py --processes 8 --flows 50 --seconds 60 --runs 0

Each of the processes runs its flows at the same time, and again, until it is replaced by another one: killed, or asked to
leave. Every five minutes the history is judged and a new one begun. Every figure is printed; what is not flat, lost, or done twice makes the exit code 1.
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
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

import anyio
import msgspec

import kill_victim as victim
from callsheet import Engine, flow, task
from kill_turns import Place, Turn, check, draw, end, rows, spawn, unfinished, wait_for

ROUND = 300.0
"""Seconds for which processes share a history; then it is judged, and another one begun."""

# ------------------------------------------------------------------------------------------ figures


class Figures(msgspec.Struct):
    """What a process uses; of several, the one that uses most."""

    done: int
    seconds: float
    memory: float  # MB
    threads: int
    files: int
    database: float  # MB


def figures(done: int, since: float, database: Path, pids: Sequence[int]) -> Figures:
    """Measure processes and their history, and print it."""
    homes = [Path("/proc", str(pid)) for pid in pids]
    page = os.sysconf("SC_PAGE_SIZE") / 1e6
    size = sum(file.stat().st_size for file in database.parent.glob(f"{database.name}*") if file.is_file())
    found = Figures(
        done,
        time.monotonic() - since,
        max(int((home / "statm").read_text("ascii").split()[1]) * page for home in homes),
        max(len(os.listdir(home / "task")) for home in homes),
        max(len(os.listdir(home / "fd")) for home in homes),
        size / 1e6,
    )
    print(
        f"{found.done:>9} done {found.seconds:7.1f} s {found.memory:7.1f} MB {found.threads:3} threads"
        f" {found.files:3} files {found.database:8.1f} MB of history",
        flush=True,
    )
    return found


def grown(seen: Sequence[Figures], memory: float, others: int) -> list[str]:
    """Give what is not flat, from a fifth of the way to the end; `memory` in MB, and threads and files, may differ so much."""
    if len(seen) < 5:
        return []
    early, late = seen[len(seen) // 5], seen[-1]
    wrong: list[str] = []
    if late.memory > early.memory * 1.1 + memory:
        wrong.append(f"memory grows: {early.memory:.1f} MB, then {late.memory:.1f} MB")
    if late.threads > early.threads + others or late.files > early.files + others:
        wrong.append(f"threads or files grow: {early}, then {late}")
    if late.database * early.done > 1.2 * early.database * late.done:
        wrong.append(f"each run takes more room: {early}, then {late}")
    return wrong


# ------------------------------------------------------------------------------------ many processes


def serve(place: Place, turn: Turn, life: int, flows: int) -> None:
    """Run flows, some at a time, until the parent says stop; take up what killed processes have left."""
    os.environ.update(
        CALLSHEET_DATABASE=str(place.database), CALLSHEET_DURABILITY=turn.level, CALLSHEET_LOGGING_LEVEL="CRITICAL"
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

    since = time.monotonic()
    seen: list[Figures] = []

    def start() -> tuple[int, int]:
        life = next(lives)
        backend = dice.choice(("asyncio", "trio"))
        one = msgspec.structs.replace(turn, backend=backend)
        return life, spawn(place, life, lambda: serve(place, one, life, flows))

    alive = [start() for _ in range(number)]
    while time.monotonic() < since + seconds:
        time.sleep(min(seconds / (number + 2), 10.0))  # also in a minute each is replaced once
        seen.append(figures(_told(place), since, place.database, [pid for _, pid in alive]))
        life, pid = alive.pop(0)
        if dice.random() < 0.5:
            killed.add(life)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        else:
            (place.folder / f"leave-{life}").touch()
            wrong += _ended(life, pid)
        alive.append(start())
    (place.folder / "stop").touch()
    for life, pid in alive:
        wrong += _ended(life, pid)
    wrong += check(turn, place, recovered=True)
    wrong += [f"not finished: {row}" for row in unfinished(place)]
    fenced = {line["life"] for line in victim.read(place.log, "fenced")}
    wrong += [*_twice(place, killed | fenced), *_lost(place)]
    if "locked" in place.errors.read_text():
        wrong.append(place.errors.read_text()[-2000:])
    print(
        f"{number} processes x {flows} flows, {next(lives) - number} replaced ({len(killed)} of them killed),"
        f" {len(fenced)} taken for dead and told so,"
        f" {time.monotonic() - since:.0f} s: {_told(place)} flows, {len(victim.read(place.log, 'did'))} tasks"
    )
    # The first processes have not yet lived as long as later ones do. A flow run that is taken up alone reads with a thread
    # and a connection of its own, and SQLite keeps a file open that a process still has locks on.
    return [*wrong, *grown(seen[number:], memory=20.0, others=flows)]


def _ended(life: int, pid: int) -> list[str]:
    """Wait for a process that ends by itself; give what is wrong with its end."""
    code = wait_for(pid, 120)
    if code is None:
        end(pid)
    return [] if code == 0 else [f"process {life} ended with {code}" if code else f"process {life} does not end"]


def _told(place: Place) -> int:
    """Give how many flow runs have ended before their callers' eyes."""
    with place.log.open("rb") as file:
        return sum(b'"kind": "root"' in line for line in file)


def _lost(place: Place) -> Iterator[str]:
    """Give the flow runs that have not come to their end, and the calls that never were done."""
    for run, state in rows(place, "SELECT id, state_type FROM run WHERE kind = 0 AND state_type <> 3"):
        yield f"flow run {UUID(bytes=run)} has ended as {state}"
    did = {line["key"] for line in victim.read(place.log, "did")}
    for line in victim.read(place.log, "told"):
        if line["kind"] == "root":
            missing = {f"{line['key']}/{number}" for number in range(8)} - did
            yield from (f"{key} was never done" for key in sorted(missing))


def _twice(place: Place, gone: set[int]) -> Iterator[str]:
    """Give the calls that were done twice and were begun by a process that was neither killed nor taken for dead."""
    did = victim.read(place.log, "did")
    times = Counter(line["key"] for line in did)
    for line in did:
        key = line["key"]
        if times[key] > 1 and int(key.split("-")[0]) not in gone:
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
                    gc.collect()
                    seen.append(figures(done, since, database, [os.getpid()]))

    anyio.run(main, backend=backend)
    return grown(seen, memory=5.0, others=0)


def _rounds(seconds: float) -> Iterator[float]:
    """Divide a time: what a history holds is judged in memory, with some 4 kB for each run."""
    while seconds > 0:
        yield min(seconds, ROUND)
        seconds -= ROUND


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
    for number, seconds in enumerate(_rounds(arguments.seconds)):
        (folder := root / str(number)).mkdir()
        wrong += processes(arguments.processes, arguments.flows, seconds, folder, f"{seed}/{number}")
        if wrong:
            break
        shutil.rmtree(folder)
    if arguments.runs:
        (root / "runs").mkdir()
        wrong += million(arguments.runs, root / "runs" / "h.db", "asyncio")
    print(*wrong[:50], sep="\n")
    if not wrong:
        shutil.rmtree(root)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
