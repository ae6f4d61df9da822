"""The kill loop: processes that run flows are killed, and what they leave is compared with what they were told.

    make kill-loop N=200 [SEED=7] [FIRST=0] [KIND=kill]

Every turn is drawn from the seed and its own number, so one that fails is repeated by the line that is printed for
it. The processes of a turn are forked from this one, which has everything imported and nothing open.
"""

from __future__ import annotations

import argparse
import gc
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from kill_kinds import KINDS
from kill_turns import Place, counts, draw, learn


def arguments_of_command() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="turns of each kind")
    parser.add_argument("--seed", default="", help="default: a new one, which is printed")
    parser.add_argument("--first", type=int, default=0, help="number of the first turn")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no turn after so many")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=list(KINDS))
    return parser.parse_args()


def take_turn(kind: str, seed: str, number: int, whole: float, root: Path) -> bool:
    """Take one turn; tell whether it was clean. What is wrong is printed, and its files stay."""
    turn = draw(seed, number, kind)
    place = Place(Path(tempfile.mkdtemp(prefix=f"{kind}-{number}-", dir=root)))
    wrong = KINDS[kind](turn, place, whole)
    if not wrong:
        shutil.rmtree(place.folder)
        return True
    print(f"\n{kind}: {turn}\nfiles: {place.folder}", *wrong, sep="\n  ")
    if place.errors.exists():
        print(place.errors.read_text()[-2000:])
    print(f"repeat: make kill-loop N=1 SEED={seed} FIRST={number} KIND={kind}", flush=True)
    return False


def main() -> int:
    """Take turns; the exit code says whether all were clean."""
    arguments = arguments_of_command()
    seed = arguments.seed or str(random.SystemRandom().randrange(10**6))
    print(f"seed {seed}, turns {arguments.first} to {arguments.first + arguments.n - 1}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="callsheet-kill-"))
    gc.freeze()
    since = time.monotonic()
    whole = learn(root)
    taken = bad = 0
    for kind in arguments.kind:
        for number in range(arguments.first, arguments.first + arguments.n):
            if time.monotonic() - since > arguments.seconds:
                break
            taken += 1
            bad += not take_turn(kind, seed, number, whole, root)
    seconds = time.monotonic() - since
    print(f"{taken} turns of {', '.join(arguments.kind)} in {seconds:.1f} s: {bad} bad; {dict(counts)}")
    if not bad:
        shutil.rmtree(root)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
