"""Signs of life: when one is due, whoever gives it, and how long runs may start after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from callsheet._kernel import lease as lease_module
from callsheet._kernel.lease import Lease

SECONDS = 8.0


class Row:
    """The row of an engine, in a store in which nothing happens by itself."""

    is_entered = True

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._told: Callable[[float], None] | None = None
        self.is_due = self.is_held = False

    def when_renewed(self, callback: Callable[[float], None]) -> None:
        self._told = callback

    def touch(self) -> None:
        self.is_due = True

    def commit(self) -> None:
        """Do what the next transaction does, whoever makes it."""
        if self.is_due:
            self.is_due = False
            assert self._told is not None
            self._told(self._now())

    def renew(self) -> bool:
        self.touch()
        if not self.is_held:
            self.commit()
        return not self.is_held


class World:
    """A lease, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.in_use = True
        self.granted: list[float] = []
        self.row = Row(lambda: self.now)
        self.lease = Lease(self.row, SECONDS, lambda: self.in_use, self.granted.append)  # type: ignore[arg-type]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    class Time:
        monotonic = staticmethod(lambda: made.now)

    monkeypatch.setattr(lease_module, "machine", Time)
    return made


def test_one_is_due_at_once_and_then_four_times_in_a_lease(world: World) -> None:
    assert world.lease.rest() == 0
    assert world.lease.renew() is True
    assert (world.lease.rest(), world.lease.is_fresh, world.granted) == (SECONDS / 4, True, [SECONDS])
    world.now += SECONDS / 4
    assert world.lease.rest() == 0
    world.now += SECONDS
    assert not world.lease.is_fresh


def test_none_is_due_where_nobody_counts_on_the_engine(world: World) -> None:
    world.in_use = False
    assert world.lease.rest() is None


def test_one_that_did_not_get_through_counts_for_nothing(world: World) -> None:
    world.row.is_held = True
    assert world.lease.renew() is None
    assert (world.lease.rest(), world.lease.is_fresh, world.granted) == (0, False, [])


def test_one_that_goes_with_the_transaction_of_a_run_counts(world: World) -> None:
    """Of an engine that is so busy that each sign of life goes with a run, the journal's thread has none to give."""
    for _ in range(9):
        world.lease.vouch()
        world.now += 0.1
        world.row.commit()
        world.now += SECONDS / 4
        assert world.lease.is_fresh
        assert world.granted.pop() == SECONDS
    assert world.granted == []


def test_one_that_is_asked_for_again_and_again_is_given_all_the_same(world: World) -> None:
    """Whoever asks for one need not commit anything."""
    world.lease.renew()
    given = 0
    for _ in range(100):
        world.now += SECONDS / 16
        world.lease.vouch()
        if world.lease.rest() == 0:
            given += bool(world.lease.renew())
        assert world.lease.is_fresh
    assert given >= 100 // 16


def test_a_first_run_starts_at_once(world: World) -> None:
    world.in_use = False
    world.lease.vouch()
    assert world.granted == [SECONDS]
    world.now += 2 * SECONDS
    world.lease.vouch()  # the first one was refused, or not even made
    assert world.granted == [SECONDS, SECONDS]


def test_who_cannot_tell_how_long_it_slept_gives_one_at_once(world: World) -> None:
    world.lease.renew()
    world.lease.lapse()
    assert (world.lease.rest(), world.lease.is_fresh) == (0, False)


def test_a_transaction_that_took_longer_than_the_lease_grants_nothing(world: World) -> None:
    told: list[Any] = []
    world.row.when_renewed(told.append)
    world.lease._seen(world.now - SECONDS - 1)
    assert world.granted == [-1]
    assert not world.lease.is_fresh
