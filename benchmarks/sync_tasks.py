"""A sync flow that calls 1,000 sync no-op tasks, in a program without an event loop."""

from __future__ import annotations

from benchmarks.measure import Row, in_turn_sync
from callsheet import flow, task

COUNT = 1_000
AT_LEAST = 3_000


def nothing() -> None:
    """Do nothing, without an engine."""


@task
def noop() -> None:
    """Do nothing."""


@flow
def one_by_one() -> None:
    """Call many tasks in turn."""
    for _ in range(COUNT):
        noop()


def plain() -> None:
    """Call many functions in turn."""
    for _ in range(COUNT):
        nothing()


def rows(rounds: int) -> list[Row]:
    """Give tasks a second."""
    ours, floor = in_turn_sync(rounds, one_by_one, plain)
    rate = COUNT / ours
    return [
        Row(
            "sync flow calling 1,000 sync no-op tasks",
            f"{rate:,.0f} /s",
            f"{COUNT / floor:,.0f} /s",
            ours / floor,
            f"≥ {AT_LEAST:,} /s",
            rate >= AT_LEAST,
        )
    ]
