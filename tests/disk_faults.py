"""Flows on a disk that fails: every n-th write or sync, in a process each; what was acknowledged must be there.

    make disk-faults N=500 [SEED=7] [FIRST=0]

A turn is drawn from the seed and its number, and is repeated by the line that is printed for one that fails.
"""

from __future__ import annotations

import argparse
import gc
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import kill_victim as victim
from callsheet._store.sqlite import SqliteStore
from callsheet.exceptions import StoreError
from faulty_disk import KINDS, LIFTED_AFTER, disk
from kill_turns import EXPECTED, Place, Turn, check, draw, end, first_life, learn, spawn, wait_for, went_on

struck: Counter[str] = Counter()
MOST = {"failed sync": 12}
"""How many syncs, and otherwise writes, a process has, about."""


def fault(turn: Turn, place: Place, kind: str, number: int, made: bool) -> list[str]:
    """Run flows on a disk that fails once, maybe with a history that was made before; give what is wrong then."""
    gone_on = "off" not in kind

    def work() -> None:
        if made:
            store = SqliteStore(place.database)
            store.open()
            store.close()
        disk.arm(kind, number)
        try:
            first_life(turn, place)
        except* StoreError:
            if victim.log().lines("begin"):
                raise
            time.sleep(2 * LIFTED_AFTER)
            first_life(turn, place)  # the file could not be opened, and its user was told
        if disk.struck:
            (place.folder / "struck").touch()

    pid = spawn(place, 0, work)
    code = wait_for(pid)
    if code is None:
        end(pid)
        return ["the process hung"]
    struck[kind] += code == -signal.SIGKILL or (place.folder / "struck").exists()
    if code != 0 and (gone_on or code != -signal.SIGKILL):
        return [f"the process failed with {code}"]
    with closing(sqlite3.connect(place.database)) as db:
        found = [row[0] for row in db.execute("PRAGMA integrity_check")]
    wrong = [] if found == ["ok"] else found
    wrong += check(turn, place, recovered=gone_on)
    return wrong + went_on(turn, place, 1) if gone_on else wrong


def take_turn(seed: str, number: int, root: Path) -> bool:
    """Take one turn; tell whether it was clean."""
    dice = random.Random(f"disk/{seed}/{number}")
    turn = draw(f"disk/{seed}", number)
    kind = KINDS[number % len(KINDS)]
    moment = dice.randint(1, MOST.get(kind, 120))
    place = Place(Path(tempfile.mkdtemp(prefix=f"disk-{number}-", dir=root)))
    wrong = fault(turn, place, kind, moment, dice.random() < 0.8)
    if not wrong:
        shutil.rmtree(place.folder)
        return True
    print(f"\n{kind} {moment}: {turn}\nfiles: {place.folder}", *wrong, sep="\n  ")
    if place.errors.exists():
        print(place.errors.read_text()[-3000:])
    print(f"repeat: make disk-faults N=1 SEED={seed} FIRST={number}", flush=True)
    return False


def main() -> int:
    """Take turns; the exit code says whether all were clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200)
    parser.add_argument("--seed", default="")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no turn after so many")
    arguments = parser.parse_args()
    seed = arguments.seed or str(random.SystemRandom().randrange(10**6))
    root = Path(tempfile.mkdtemp(prefix="callsheet-disk-"))
    gc.freeze()
    disk.install()
    since = time.monotonic()
    learn(root)
    taken = bad = 0
    for number in range(arguments.first, arguments.first + arguments.n):
        if time.monotonic() - since > arguments.seconds:
            break
        taken += 1
        bad += not take_turn(seed, number, root)
    print(f"seed {seed}: {taken} turns in {time.monotonic() - since:.1f} s, {bad} bad; struck: {dict(struck)}")
    assert victim.FLOWS and EXPECTED
    if not bad:
        shutil.rmtree(root)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
