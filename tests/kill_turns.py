"""The turns of the kill loop: which processes run, which of them is killed or stopped and when, and what must hold then."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import anyio.to_thread
import msgspec
import trio  # noqa: F401 - before the fork

import kill_victim as victim
from callsheet import Engine
from callsheet._engine import ambient, invoke  # noqa: F401 - before the fork
from callsheet.exceptions import LostOwnership
from callsheet.testing import Promise, check_history
from kill_points import POINTS, POINTS_OF_TAKERS, Points

WAITS = {"suspend": victim.SUSPENDING, "waits": victim.WAITING}
"""Flows of the kinds that wait for the world."""
HUNG = 60.0
LEASE = 0.4


class Moment(msgspec.Struct):
    """When a process is killed: the how-manieth time it comes by a point, or after a part of a whole life's time."""

    point: str | None
    count: int
    part: float


class Turn(msgspec.Struct, kw_only=True):
    """One turn of the loop, as it was drawn. The moments are those at which each process but the last is killed."""

    number: int
    level: str
    backend: str
    roots: dict[str, str]  # name: flow
    together: bool
    moments: tuple[Moment, ...]


def draw(seed: str, number: int, kind: str = "") -> Turn:
    """Draw a turn."""
    dice = random.Random(f"{seed}/{number}")
    level = dice.choice(("results", "results", "strict", "relaxed"))
    if kind in WAITS and level == "relaxed":
        level = "results"
    flows = [one.fn.__name__ for one in WAITS.get(kind, victim.FLOWS)]
    names = ["sequential"] if level == "relaxed" else dice.sample(flows, k=dice.randint(1, min(3, len(flows))))
    return Turn(
        number=number,
        level=level,
        backend=dice.choice(("asyncio", "trio")),
        roots={f"r{index}": name for index, name in enumerate(names)},
        together=dice.random() < 0.5,
        moments=tuple(_moment(dice, number, life, len(names)) for life in range(dice.choice((1, 1, 2, 3)))),
    )


def _moment(dice: random.Random, number: int, life: int, flows: int) -> Moment:
    points = {**POINTS, **POINTS_OF_TAKERS} if life else POINTS
    if life and dice.random() < 0.6:
        points = POINTS_OF_TAKERS
    number += life
    point = tuple(points)[number // 2 % len(points)] if number % 2 else None
    return Moment(point, dice.randint(1, points.get(point or "", 1) * flows), dice.random())


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


# -------------------------------------------------------------------------------------------- lives


def first_life(turn: Turn, place: Place) -> None:
    """Run the flows of a turn in the way that was drawn."""
    roots = {name: getattr(victim, one) for name, one in turn.roots.items()}

    async def in_engine() -> None:
        async with Engine():
            await victim.run_roots(roots)

    set_up(turn, place)
    with fenced_is_told():
        if turn.together:
            anyio.run(in_engine, backend=turn.backend)
        else:
            victim.run_in_turn(roots, lambda fn, *args: anyio.run(fn, *args, backend=turn.backend))


def later_life(turn: Turn, place: Place) -> None:
    """Take up what earlier lives have left, until all of it has ended."""

    async def recovers() -> None:
        async with Engine(flows=victim.FLOWS):
            with anyio.fail_after(HUNG / 2):
                while unfinished(place):
                    await anyio.sleep(0.01)

    set_up(turn, place)
    anyio.run(recovers, backend=turn.backend)


@contextmanager
def fenced_is_told() -> Generator[None, None, None]:
    """Note where callers are told that others have taken their runs over."""
    try:
        yield
    except* LostOwnership:
        victim.log().write("fenced", "")


def set_up(turn: Turn, place: Place) -> None:
    os.environ.update(
        CALLSHEET_SLEEP_SUSPENDS_AFTER_SECONDS=str(victim.LONG_SLEEP),
        CALLSHEET_DATABASE=str(place.database),
        CALLSHEET_DURABILITY=turn.level,
        CALLSHEET_LEASE_SECONDS=str(LEASE),
        CALLSHEET_LOGGING_LEVEL="CRITICAL",
    )


# ---------------------------------------------------------------------------------------- processes


def spawn(place: Place, life: int, work: Callable[[], None], points: Points | None = None) -> int:
    """Fork a process that does some work and ends at once."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        errors = os.open(place.errors, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        points = points or Points()
        points.arm()
        victim.outside.append(victim.Log(place.log, life, points))
        work()
        ambient.shut_down()  # what an interpreter does that ends in order
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


def kill_at(place: Place, life: int, moment: Moment, work: Callable[[], None], whole: float) -> list[str]:
    """Run a process and kill it at a moment; give what is wrong with how it ended."""
    pid = spawn(place, life, work, Points(moment.point, moment.count))
    if moment.point is None:
        time.sleep(moment.part * whole)
        end(pid)
        counts["killed at random moments"] += 1
        return []
    code = wait_for(pid)
    if code is None:
        end(pid)
        return [f"process {life} hung"]
    counts["killed at points" if code == -signal.SIGKILL else "ended before their point"] += 1
    return [] if code in (0, -signal.SIGKILL) else [f"process {life} failed with {code}"]


def run_through(place: Place, life: int, work: Callable[[], None]) -> list[str]:
    """Run a process that nobody kills; give what is wrong with how it ended."""
    pid = spawn(place, life, work)
    code = wait_for(pid)
    if code is None:
        end(pid)
        return [f"process {life} hung"]
    return [] if code == 0 else [f"process {life} failed with {code}"]


# ------------------------------------------------------------------------------------------ checking


def rows(place: Place, sql: str) -> list[Any]:
    """Ask the history, beside whoever uses it."""
    if not place.database.exists():
        return []
    with closing(sqlite3.connect(place.database, timeout=20)) as db:
        return db.execute(sql).fetchall()


def unfinished(place: Place) -> list[Any]:
    """Give the flow runs that have not ended."""
    return rows(place, "SELECT name FROM run WHERE kind = 0 AND state_type NOT IN (3, 4, 5, 6)")


def promised(line: dict[str, Any], level: str) -> bool:
    """Tell whether what a caller was told is also to survive a kill: docs/guarantees.md."""
    if level == "strict":
        return True
    of_task = line["kind"] == "task" and line["state"] == "COMPLETED"
    return level == "results" and (of_task or line["kind"] == "root")


def check(turn: Turn, place: Place, *, recovered: bool = False) -> list[str]:
    """Give what is wrong with what processes have left that were killed, or with what others have made of it."""
    lines = victim.read(place.log, "told")
    if not place.database.exists():
        return ["the history is gone"] if lines else []
    acknowledged = {UUID(line["run"]): line["state"] for line in lines if promised(line, turn.level)}
    found = check_history(place.database, acknowledged=acknowledged)
    wrong = [str(one) for one in found if recovered or one.promise is not Promise.OWNED_BY_THE_LIVING]
    if turn.level == "relaxed" and not recovered:
        wrong += _tail(place, lines)
    return [*wrong, *_invented(place)]


def _tail(place: Place, lines: list[dict[str, Any]]) -> list[str]:
    """Nothing but the last moments may be missing: what is on disk is a prefix of what happened."""
    acknowledged = {UUID(line["run"]): line["state"] for line in lines}
    found = check_history(place.database, acknowledged=acknowledged)
    lost = {one.run_id for one in found if one.promise is Promise.ACKNOWLEDGED}
    wrong: list[str] = []
    for life in {line["life"] for line in lines}:
        there = [UUID(line["run"]) not in lost for line in lines if (line["kind"], line["life"]) == ("task", life)]
        if there != sorted(there, reverse=True):
            wrong.append(f"what is on disk of process {life} is no prefix: {there}")
    return wrong


_TASKS = (
    "SELECT id FROM run WHERE kind = 1 AND state_type = 3"
    " AND id NOT IN (SELECT parent_task_run_id FROM run WHERE parent_task_run_id IS NOT NULL)"
)
_RECORDED = "SELECT run_id FROM outcome WHERE recorded"


def _invented(place: Place) -> list[str]:
    """Give the runs that history calls completed and whose effect never happened."""
    did = {line["run"] for line in victim.read(place.log, "did")}
    completed = {str(UUID(bytes=row[0])) for row in rows(place, _TASKS)}
    return [f"task run {run_id} has completed, and did nothing" for run_id in completed - did]


def finished_keys(place: Place) -> set[str]:
    """Give the calls whose outcome is on record. Those of a flow with retries do not count: it calls them again."""
    recorded = {str(UUID(bytes=row[0])) for row in rows(place, _RECORDED)}
    begun = {line["run"]: line["key"] for line in victim.read(place.log, "begin")}
    return {key for run, key in begun.items() if run in recorded}


def ran_again(turn: Turn, place: Place, life: int, finished: set[str]) -> list[str]:
    """Give the calls that were finished before a process began, and which it ran all the same."""
    calls_again = tuple(name + "/" for name, one in turn.roots.items() if getattr(victim, one).retries)
    return [
        f"{line['key']} was finished, and process {line['life']} ran it again"
        for line in victim.read(place.log, "begin")
        if line["life"] >= life and line["key"] in finished and not line["key"].startswith(calls_again)
    ]


def went_on(turn: Turn, place: Place, lives: int) -> list[str]:
    """Give what did not go on to its end, or went on too often, once everything that was left was taken up."""
    states = dict(rows(place, "SELECT id, state_type FROM run WHERE kind = 0 AND parent_id IS NULL"))
    wrong = [f"flow run {UUID(bytes=one)} has ended as {state}" for one, state in states.items() if state != 3]
    begun = Counter(line["key"] for line in victim.read(place.log, "begin"))
    failed = Counter(line["key"] for line in victim.read(place.log, "failed"))
    again = {name for name, one in turn.roots.items() if getattr(victim, one).retries}
    for key, times in begun.items():
        allowed = failed[key] + lives + (key.split("/")[0] in again)
        if times > allowed:
            wrong.append(f"{key} began {times} times, in {lives} processes, and failed {failed[key]} times")
    did = {line["key"] for line in victim.read(place.log, "did")}
    started = {name for name in turn.roots if any(key.startswith(name + "/") for key in begun)}
    if len(states) >= len(started):
        for name in started:
            wanted = {name + rest for rest in EXPECTED[turn.roots[name]]}
            wrong += [f"{key} was never done" for key in sorted(wanted - did)]
    return wrong


# -------------------------------------------------------------------------------------------- turns

counts: Counter[str] = Counter()
EXPECTED: dict[str, set[str]] = {}
"""What each flow does, as a process has shown that nobody killed."""


def learn(folder: Path) -> float:
    """Run each flow once in a process that nobody kills; give how long such a process takes, in seconds."""
    taken: list[float] = []
    for one in victim.FLOWS:
        turn = msgspec.structs.replace(draw("learn", 0), roots={"r": one.fn.__name__}, level="results")
        place = Place(Path(tempfile.mkdtemp(dir=folder)))
        since = time.monotonic()
        wrong = run_through(place, 0, lambda turn=turn, place=place: first_life(turn, place))
        taken.append(time.monotonic() - since)
        if wrong := [*wrong, *check(turn, place, recovered=True)]:
            errors = place.errors.read_text() if place.errors.exists() else ""
            raise SystemExit("\n".join(["Without any kill:", *wrong, errors]))
        EXPECTED[one.fn.__name__] = {line["key"].removeprefix("r") for line in victim.read(place.log, "did")}
    return sorted(taken)[len(taken) // 2]


def kill(turn: Turn, place: Place, whole: float) -> list[str]:
    """Kill a process; the next one only opens the history."""
    wrong = kill_at(place, 0, turn.moments[0], lambda: first_life(turn, place), whole)
    return wrong or check(turn, place)


def recover(turn: Turn, place: Place, whole: float) -> list[str]:
    """Kill a process, and maybe those that take up what it has left; the last one takes it to its end."""
    finished: set[str] = set()
    for life, moment in enumerate(turn.moments):
        work = later_life if life else first_life
        wrong = kill_at(place, life, moment, lambda work=work: work(turn, place), whole) or check(turn, place)
        wrong += ran_again(turn, place, life, finished)
        finished = finished_keys(place)
        if wrong or not place.database.exists():
            return wrong
    life = len(turn.moments)
    wrong = run_through(place, life, lambda: later_life(turn, place)) or check(turn, place, recovered=True)
    return [*wrong, *ran_again(turn, place, life, finished), *went_on(turn, place, life + 1)]


def wake(turn: Turn, place: Place, whole: float) -> list[str]:
    """Stop a process, have another one take up its runs, and wake it."""
    stopped = spawn(place, 0, lambda: first_life(turn, place))
    time.sleep(turn.moments[0].part * whole)
    os.kill(stopped, signal.SIGSTOP)
    try:
        listed = rows(place, "SELECT 1 FROM sqlite_master WHERE name = 'engine'")
    except sqlite3.OperationalError:  # it was stopped while it made the file, which nobody else can enter then
        listed = []
    if not listed:
        end(stopped)
        return []
    finished = finished_keys(place)
    taker = spawn(place, 1, lambda: later_life(turn, place))
    code = wait_for(taker, 10 * LEASE)
    os.kill(stopped, signal.SIGCONT)  # before the other one has ended, if it waits for a transaction to end
    codes = [wait_for(stopped), wait_for(taker) if code is None else code]
    wrong: list[str] = []
    for name, pid, ended in zip(("stopped", "taking"), (stopped, taker), codes, strict=True):
        if ended is None:
            end(pid)
        if ended != 0:
            wrong.append(f"the {name} process ended with {ended}")
    counts["fenced"] += bool(victim.read(place.log, "fenced"))
    again = [one for one in ran_again(turn, place, 1, finished) if "process 1" in one]
    return [*wrong, *check(turn, place, recovered=True), *again, *went_on(turn, place, 3)]
