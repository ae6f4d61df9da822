"""Locks that several processes share: the manager's side, the same for every place where tickets are kept."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator

from callsheet._clock import monotonic
from callsheet._kernel.host import Host, current_host
from callsheet._kernel.ports import Port
from callsheet._kernel.signals import Once
from callsheet.exceptions import StoreLocked
from callsheet.locking.colours import LocksOfBothColours
from callsheet.locking.office import Answer, Office, office_of
from callsheet.locking.tickets import LEASE, Place
from callsheet.locking.waiting import blocked_loop, off_loop, wait_until, would_hang


class LeasedLockManager(LocksOfBothColours):
    """Base of the managers whose locks are seen by several processes.

    A lock whose process has ended is free at once on the same machine; elsewhere, and where a process is stopped, after
    a lease without a sign of life. A slow holder loses nothing: a thread of its process gives the signs.

    Args:
        place: Where the tickets are.
        lease: Seconds after which a holder without a sign of life counts as dead.
    """

    def __init__(self, place: Place, lease: float = LEASE) -> None:
        if lease <= 0:
            raise ValueError(f"`lease` must be more than 0 seconds, got {lease!r}.")
        self._place = place
        self._lease = lease

    @property
    def _office(self) -> Office:
        return office_of(self._place)

    def release_lock(self, key: str, holder: str) -> None:
        self._office.release(key, holder)

    def _holder_of(self, key: str) -> str | None:
        ticket = self._office.current(key)
        return None if ticket is None else ticket.holder

    # ------------------------------------------------------------------------------------ in any colour

    async def _acquire(
        self, port: Port, key: str, holder: str, acquire_timeout: float | None, hold_timeout: float | None
    ) -> bool:
        office = self._office
        if office.holds(key, holder):
            return True
        deadline = None if acquire_timeout is None else monotonic() + acquire_timeout
        home = current_host()
        loop = blocked_loop(port) if deadline is None else None
        turn = office.join(key, home)
        try:
            if loop is not None and office.is_behind(key, turn, loop):
                raise would_hang(key, "acquire_lock")
            if not await wait_until(port, turn, deadline):
                return False
            for pause in _pauses():
                freed = office.subscribe(key)
                try:
                    if await _Try(office, key, holder, hold_timeout, self._lease, home).make(port):
                        return True
                    if loop is not None and office.is_kept_by(key, loop):
                        raise would_hang(key, "acquire_lock")
                    if deadline is not None and monotonic() >= deadline:
                        return False
                    await _rest(port, freed, pause, deadline)
                finally:
                    office.unsubscribe(key, freed)
            return False
        finally:
            office.leave(key, turn)

    async def _observe(self, port: Port, key: str, timeout: float | None) -> bool:
        office = self._office
        deadline = None if timeout is None else monotonic() + timeout
        loop = blocked_loop(port) if deadline is None else None
        for pause in _pauses():
            freed = office.subscribe(key)
            try:
                if await off_loop(port, lambda: office.current(key)) is None:
                    return True
                if deadline is not None and monotonic() >= deadline:
                    return False
                if loop is not None and office.is_kept_by(key, loop):
                    raise would_hang(key, "wait_for_lock")
                await _rest(port, freed, pause, deadline)
                if freed.is_set:
                    return True
            finally:
                office.unsubscribe(key, freed)
        return False


class _Try:
    """One attempt, perhaps on a thread. If the one who asked has left when it succeeds, the lock is given back."""

    def __init__(
        self, office: Office, key: str, holder: str, hold_timeout: float | None, lease: float, home: Host | None
    ) -> None:
        self._office = office
        self._key = key
        self._holder = holder
        self._terms = (hold_timeout, lease, home)
        self._gate = threading.Lock()
        self._answer: Answer | None = None
        self._left = False

    async def make(self, port: Port) -> bool:
        try:
            return await off_loop(port, self._work)
        except BaseException:
            with self._gate:
                self._left = True
                taken = self._answer is Answer.TAKEN
            if taken:
                self._office.release(self._key, self._holder)
            raise

    def _work(self) -> bool:
        try:
            answer = self._office.attempt(self._key, self._holder, *self._terms)
        except StoreLocked:
            return False  # others write just now
        with self._gate:
            self._answer = answer
            left = self._left
        if left and answer is Answer.TAKEN:
            self._office.release(self._key, self._holder)
        return answer is not Answer.NO


def _pauses() -> Iterator[float]:
    """Give seconds between looks at what other processes do, longer and longer, each random."""
    ceiling = 0.005
    while True:
        yield random.uniform(ceiling / 2, ceiling)
        ceiling = min(ceiling * 1.5, 0.1)


async def _rest(port: Port, freed: Once, pause: float, deadline: float | None) -> None:
    until = monotonic() + pause
    await wait_until(port, freed, until if deadline is None else min(until, deadline))
