"""The journal on the stage of the simulations: moments that no test on a real clock can choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from callsheet._clock import machine
from callsheet._kernel.journal import Journal
from callsheet._model.kinds import Durability
from callsheet._store.memory import MemoryStore
from callsheet.testing.stage import perform
from store_helpers import at, logged

T = TypeVar("T")
STEPS = 2_000


def played(play: Callable[[], Awaitable[T]], seed: int = 0) -> T:
    """What an async function gives on a stage; it fails where something goes round in circles there."""
    return perform(play, seed, STEPS)


def test_the_thread_does_not_go_round_until_the_clock_says_more_than_a_second() -> None:
    """One way of adding up said that a second was over, and the other one that it was not."""
    begins = 23.004
    since = 1000.0 + begins  # what the stage's clock says then
    now = since - begins + (begins + 1.0)
    assert now - since < 1.0
    assert since + 1.0 - now <= 0.0

    async def play() -> int:
        journal = Journal(MemoryStore(), Durability.RELAXED, gather=0.0, sync_interval=1.0)
        journal.start()
        await trio.sleep(begins)
        assert machine.monotonic() == since
        position = journal.put(logged(None, None, at(0), "m"))
        assert journal.flush_here(position)
        await trio.sleep(5)
        return journal.committed

    assert played(play) == 1
