"""Every kind of turn of the kill loop. Here: flows that wait for the world, calls under run keys, and two engines at once."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import UUID

import anyio
import msgspec

import kill_victim as victim
from callsheet import Engine
from kill_turns import (
    EXPECTED,
    HUNG,
    LEASE,
    Place,
    Turn,
    check,
    counts,
    end,
    fenced_is_told,
    finished_keys,
    kill,
    kill_at,
    ran_again,
    recover,
    rows,
    run_through,
    set_up,
    spawn,
    unfinished,
    wait_for,
    wake,
    went_on,
)

_SUSPENDED: Final = "SELECT id FROM run WHERE kind = 0 AND state_type = 7 AND state_name = 'Suspended' AND due_at > {}"
_SIGNALLED: Final = (
    "SELECT run.id FROM run JOIN definition ON definition.id = run.definition_id"
    " WHERE run.kind = 0 AND run.state_type NOT IN (3, 4, 5, 6) AND definition.key LIKE '%signalled'"
)
_FAR: Final = (
    60_000_000  # microseconds: suspensions that somebody is to end have a longer time limit, sleeps a shorter one
)


async def until_all_has_ended(place: Place) -> None:
    with anyio.fail_after(HUNG / 2):
        while unfinished(place):
            await anyio.sleep(0.01)


# ------------------------------------------------------------------------------- waiting for the world

EXPECTED.update(
    suspending={"/0", "/1", "/2"},
    sync_suspending={"/0", "/1"},
    sleeping={"/before", "/between", "/after"},
    signalled={"/first1", "/both3"},
    sync_signalled={"/[1, 2]"},
)


def waiting_life(turn: Turn, place: Place, *, begins: bool) -> None:
    """Run flows that wait for the world, or take them up, and be the world, until all of it has ended."""
    roots = {name: getattr(victim, one) for name, one in turn.roots.items() if begins}

    def ids(sql: str) -> list[str]:
        return [str(UUID(bytes=row[0])) for row in rows(place, sql)]

    async def world() -> None:
        while True:
            far = time.time_ns() // 1000 + _FAR
            await victim.attend(ids(_SUSPENDED.format(far)), ids(_SIGNALLED))
            await anyio.sleep(0.005)

    async def lives() -> None:
        async with Engine(flows=(*victim.SUSPENDING, *victim.WAITING)), anyio.create_task_group() as group:
            group.start_soon(world)
            await victim.run_roots(roots)
            await until_all_has_ended(place)
            group.cancel_scope.cancel()

    set_up(turn, place)
    anyio.run(lives, backend=turn.backend)


def wait(turn: Turn, place: Place, whole: float) -> list[str]:
    """Kill processes whose flows are suspended, sleep, or wait for signals; the last one takes them to their end."""
    finished: set[str] = set()
    for life, moment in enumerate(turn.moments):
        work = partial(waiting_life, turn, place, begins=not life)
        wrong = kill_at(place, life, moment, work, 3 * whole) or check(turn, place)
        wrong += ran_again(turn, place, life, finished)
        finished = finished_keys(place)
        if wrong or not place.database.exists():
            return wrong
    life = len(turn.moments)
    last = partial(waiting_life, turn, place, begins=False)
    wrong = run_through(place, life, last) or check(turn, place, recovered=True)
    return [*wrong, *ran_again(turn, place, life, finished), *went_on(turn, place, life + 1)]


# --------------------------------------------------------------------------------------------- run keys


def keyed_life(turn: Turn, place: Place) -> None:
    """Call the flows of a turn under run keys."""
    roots = {name: getattr(victim, one) for name, one in turn.roots.items()}
    set_up(turn, place)
    victim.run_keyed(roots, lambda fn, *args: anyio.run(fn, *args, backend=turn.backend))


def keyed(turn: Turn, place: Place, whole: float) -> list[str]:
    """Kill processes that call flows under run keys, while another one calls the same; each flow runs once."""
    work = partial(keyed_life, turn, place)
    rival = spawn(place, RIVAL, work)
    wrong: list[str] = []
    for life, moment in enumerate(turn.moments):
        wrong += kill_at(place, life, moment, work, whole)
    code = wait_for(rival)
    if code is None:
        end(rival)
    if code != 0:
        wrong.append(f"the process beside ended with {code}")
    wrong += run_through(place, RIVAL + 1, work) or check(turn, place, recovered=True)
    begun = len(rows(place, "SELECT 1 FROM run WHERE kind = 0 AND parent_id IS NULL"))
    if begun != len(turn.roots):
        wrong.append(f"{len(turn.roots)} flows were called under a key, and {begun} runs of them were begun")
    return [*wrong, *went_on(turn, place, len(turn.moments) + 2)]


RIVAL: Final = 10


# ------------------------------------------------------------------------------------ two engines at once


def sharing_life(turn: Turn, place: Place, names: list[str]) -> None:
    """Run some flows in an engine that also takes up those of the other one, until all have ended."""
    roots = {name: getattr(victim, turn.roots[name]) for name in names}

    async def shares() -> None:
        async with Engine(flows=victim.FLOWS):
            with fenced_is_told():
                await victim.run_roots(roots)
            await until_all_has_ended(place)

    set_up(turn, place)
    anyio.run(shares, backend=turn.backend)


def share(turn: Turn, place: Place, whole: float) -> list[str]:
    """Run two engines on one history, and stop one of them for about as long as its lease."""
    turn = msgspec.structs.replace(
        turn, roots={f"{which}{name}": one for which in "ab" for name, one in turn.roots.items()}
    )
    mine, others = ([name for name in turn.roots if name[0] == which] for which in "ab")
    stopped, other = (
        spawn(place, life, partial(sharing_life, turn, place, names)) for life, names in enumerate((mine, others))
    )
    dice = random.Random(turn.number)
    for _ in turn.moments:
        time.sleep(dice.random() * whole)
        os.kill(stopped, signal.SIGSTOP)
        time.sleep(LEASE * dice.choice((0.5, 1.5, 2.5)))
        os.kill(stopped, signal.SIGCONT)
    wrong: list[str] = []
    for name, pid in (("stopped", stopped), ("other", other)):
        code = wait_for(pid)
        if code is None:
            end(pid)
        if code != 0:
            wrong.append(f"the {name} process ended with {code}")
    counts["fenced"] += bool(victim.read(place.log, "fenced"))
    return [*wrong, *check(turn, place, recovered=True), *went_on(turn, place, 2 + len(turn.moments))]


KINDS: Final[dict[str, Callable[[Turn, Place, float], list[str]]]] = {
    "kill": kill,
    "recover": recover,
    "wake": wake,
    "suspend": wait,
    "waits": wait,
    "keyed": keyed,
    "share": share,
}
