"""The journal on the stage of the simulations: moments that no test on a real clock can choose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
import trio

from callsheet._clock import machine
from callsheet._kernel.driver import driven
from callsheet._kernel.journal import Journal
from callsheet._kernel.spawning import Flag, threads
from callsheet._model.kinds import Durability
from callsheet._model.records import Entry, Refusal
from callsheet._store.memory import MemoryStore
from callsheet.exceptions import StoreClosed
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


def test_nobody_looks_for_news_that_are_told() -> None:
    """In memory nobody else commits: who wants to hear of others costs no look ten times a second."""

    async def play() -> float:
        journal = Journal(MemoryStore(), Durability.RELAXED)
        journal.start()
        journal.watch(lambda: None)
        await trio.sleep(10_000)
        return machine.monotonic()

    assert played(play) == 11_000


class SlowToSync(MemoryStore):
    """A memory store whose disk takes its time when something is to survive a power loss."""

    def try_commit(self, entries: Sequence[Entry], *, sync: bool = False, settled: int = 0) -> list[Refusal] | None:
        if sync:
            machine.sleep(0.3)
        return super().try_commit(entries, sync=sync, settled=settled)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_accepted_while_it_closes_is_committed(seed: int) -> None:
    """At any moment of closing, also while it writes to the disk for the last time, a put is taken and kept, or refused."""

    async def play() -> tuple[int, set[str], bool]:
        store = SlowToSync()
        journal = Journal(store, Durability.RELAXED)
        journal.start()
        taken: set[str] = set()
        refused: list[str] = []

        async def put() -> None:
            for n in range(60):
                try:
                    journal.put(logged(None, None, at(n), str(n)))
                except StoreClosed:
                    refused.append(str(n))
                else:
                    taken.add(str(n))
                await trio.sleep(0.01)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(put)
            await trio.sleep(0.05)
            closed, lost = threads.flag(), list[bool]()

            def close() -> None:
                lost.append(bool(journal.close()))
                closed.set()

            threads.start(close, "closing")
            await driven(_waited(closed))
        kept = {record.message for _, record in store.logs()}
        assert taken == kept
        return len(refused), taken, lost[0]

    refused, taken, lost = played(play, seed)
    assert not lost
    assert taken
    assert refused


async def _waited(flag: Flag) -> None:
    flag.wait()
