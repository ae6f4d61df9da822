"""The kill loop: processes that run flows are killed, and what they leave is compared with what they were told.

    make kill-loop N=200 [SEED=7] [FIRST=0] [KIND=kill]

Every turn is drawn from the seed and its own number, so one that fails is repeated by the line that is printed for
it. The processes of a turn are forked from this one, which has everything imported and nothing open.
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
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
import trio  # noqa: F401 - before the fork

import kill_victim as victim
from callsheet import Engine
from callsheet._engine import invoke  # noqa: F401 - before the fork
from callsheet.testing import check_history
from kill_points import POINTS, Points

HUNG = 60.0


class Turn(msgspec.Struct, kw_only=True):
    """One turn of the loop, as it was drawn."""

    number: int
    level: str
    backend: str
    roots: dict[str, str]  # name: flow
    together: bool
    point: str | None  # else at a random moment
    count: int
    moment: float  # as a part of the time that a whole life takes


def draw(seed: str, number: int) -> Turn:
    """Draw a turn."""
    dice = random.Random(f"{seed}/{number}")
    level = dice.choice(("results", "results", "strict", "relaxed"))
    flows = [one.fn.__name__ for one in victim.FLOWS]
    point = tuple(POINTS)[number // 2 % len(POINTS)] if number % 2 else None
    names = ["sequential"] if level == "relaxed" else dice.sample(flows, k=dice.randint(1, 3))
    return Turn(
        number=number,
        level=level,
        backend=dice.choice(("asyncio", "trio")),
        roots={f"r{index}": name for index, name in enumerate(names)},
        together=dice.random() < 0.5,
        point=point,
        count=dice.randint(1, POINTS.get(point or "", 1) * len(names)),
        moment=dice.random(),
    )


class Place(msgspec.Struct):
    """The files of a turn."""

    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "h.db"

    @property
    def log(self) -> Path:
        return self.folder / "outside.jsonl"

    @property
    def errors(self) -> Path:
        return self.folder / "stderr"


# ---------------------------------------------------------------------------------------- processes


def spawn(place: Place, life: int, points: Points, work: Callable[[], None]) -> int:
    """Fork a process that does some work and ends at once."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        errors = os.open(place.errors, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        points.arm()
        victim.outside.append(victim.Log(place.log, life, points))
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(pid: int, seconds: float = HUNG) -> int | None:
    """Give the exit code of a process (negative: a signal), or `None` where it does not end in time."""
    deadline = time.monotonic() + seconds
    pause = 0.0005
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(0.005, pause * 1.5)
    return None


def end(pid: int) -> None:
    """Kill a process that was started here, and wait for its end."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def first_life(turn: Turn, place: Place) -> None:
    """Run the flows of a turn in the way that was drawn."""
    os.environ.update(CALLSHEET_DATABASE=str(place.database), CALLSHEET_DURABILITY=turn.level)
    roots = {name: getattr(victim, one) for name, one in turn.roots.items()}

    async def in_engine() -> None:
        async with Engine(database=place.database, durability=turn.level):
            await victim.run_roots(roots)

    if turn.together:
        anyio.run(in_engine, backend=turn.backend)
    else:
        victim.run_in_turn(roots, lambda fn, *args: anyio.run(fn, *args, backend=turn.backend))


# ------------------------------------------------------------------------------------------ checking


def promised(line: dict[str, Any], level: str) -> bool:
    """Tell whether what a caller was told is also to survive a kill: docs/guarantees.md."""
    if level == "strict":
        return True
    of_task = line["kind"] == "task" and line["state"] == "COMPLETED"
    return level == "results" and (of_task or line["kind"] == "root")


def check(turn: Turn, place: Place) -> list[str]:
    """Give what is wrong with what a killed process has left."""
    lines = victim.read(place.log, "told")
    if not place.database.exists():
        return ["the history is gone"] if lines else []
    acknowledged = {UUID(line["run"]): line["state"] for line in lines if promised(line, turn.level)}
    found = check_history(place.database, acknowledged=acknowledged)
    wrong = [str(one) for one in found]
    if turn.level == "relaxed":
        wrong += _tail(place, lines)
    return [*wrong, *_invented(place)]


def _tail(place: Place, lines: list[dict[str, Any]]) -> list[str]:
    """Nothing but the last moments may be missing: what is on disk is a prefix of what happened."""
    acknowledged = {UUID(line["run"]): line["state"] for line in lines}
    lost = {one.run_id for one in check_history(place.database, acknowledged=acknowledged)}
    of_tasks = [line for line in lines if line["kind"] == "task"]
    there = [UUID(line["run"]) not in lost for line in of_tasks]
    if there != sorted(there, reverse=True):
        return [f"what is on disk is no prefix: {there}"]
    return []


def _invented(place: Place) -> list[str]:
    """Give the runs that history calls completed and whose effect never happened."""
    did = {line["run"] for line in victim.read(place.log, "did")}
    return [
        f"task run {run_id} has completed, and did nothing" for run_id in completed_tasks(place) if run_id not in did
    ]


def completed_tasks(place: Place) -> set[str]:
    """Give the ids of all completed task runs, without those that track a subflow's run."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(place.database)) as db:
        rows = db.execute(
            "SELECT id FROM run WHERE kind = 1 AND state_type = 3"
            " AND id NOT IN (SELECT parent_task_run_id FROM run WHERE parent_task_run_id IS NOT NULL)"
        ).fetchall()
    return {str(UUID(bytes=row[0])) for row in rows}


# -------------------------------------------------------------------------------------------- turns


def kill_turn(turn: Turn, place: Place, whole: float) -> list[str]:
    """Kill a process at a moment; the next one only opens the history."""
    pid = spawn(place, 0, Points(turn.point, turn.count), lambda: first_life(turn, place))
    if turn.point is None:
        time.sleep(turn.moment * whole)
        end(pid)
        return check(turn, place)
    code = wait_for(pid)
    if code is None:
        end(pid)
        return ["the process hung"]
    counts["killed" if code == -signal.SIGKILL else "ended first"] += 1
    if code not in (0, -signal.SIGKILL):
        return [f"the process failed with {code}"]
    return check(turn, place)


counts: Counter[str] = Counter()
KINDS: dict[str, Callable[[Turn, Place, float], list[str]]] = {"kill": kill_turn}


def whole_life(folder: Path) -> float:
    """Give how long a process takes that nobody kills, in seconds."""
    turn = draw("a whole life", 0)
    place = Place(Path(tempfile.mkdtemp(dir=folder)))
    since = time.monotonic()
    pid = spawn(place, 0, Points(), lambda: first_life(turn, place))
    code = wait_for(pid)
    if code != 0:
        raise SystemExit(f"a process that nobody kills ended with {code}: {place.errors.read_text()}")
    taken = time.monotonic() - since
    if found := check(turn, place):
        raise SystemExit("\n".join(found))
    return taken


def main() -> int:
    """Take turns; the exit code says whether all were clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="turns")
    parser.add_argument("--seed", default="", help="default: a new one, which is printed")
    parser.add_argument("--first", type=int, default=0, help="number of the first turn")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no turn after so many")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    arguments = parser.parse_args()
    seed = arguments.seed or str(random.SystemRandom().randrange(10**6))
    print(f"seed {seed}, turns {arguments.first} to {arguments.first + arguments.n - 1}", flush=True)
    bad = taken = 0
    since = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="callsheet-kill-"))
    gc.freeze()
    whole = whole_life(root)
    for kind in arguments.kind:
        for number in range(arguments.first, arguments.first + arguments.n):
            if time.monotonic() - since > arguments.seconds:
                break
            taken += 1
            turn = draw(seed, number)
            place = Place(Path(tempfile.mkdtemp(prefix=f"{kind}-{number}-", dir=root)))
            wrong = KINDS[kind](turn, place, whole)
            if not wrong:
                shutil.rmtree(place.folder)
                continue
            bad += 1
            print(f"\n{turn}\nfiles: {place.folder}", *wrong, sep="\n  ")
            if place.errors.exists():
                print(place.errors.read_text()[-2000:])
            print(f"repeat: make kill-loop N=1 SEED={seed} FIRST={number} KIND={kind}", flush=True)
    seconds = time.monotonic() - since
    print(f"{taken} turns of {', '.join(arguments.kind)} in {seconds:.1f} s: {bad} bad; {dict(counts)}")
    if not bad:
        shutil.rmtree(root)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
