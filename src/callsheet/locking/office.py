"""The locks that this process holds in one place: taken, kept alive, given back.

An office has one daemon thread while it holds anything. The thread renews every lock four times a lease, ends those whose
time is over, and closes the office when there is nothing left to do. Bodies that compute or block do not hold it up.
"""

from __future__ import annotations

import atexit
import itertools
import os
import threading
import time
from collections import deque
from contextlib import suppress
from enum import Enum
from typing import Final, cast

from callsheet._kernel.host import Host
from callsheet._kernel.signals import Once
from callsheet._kernel.threads import start_thread
from callsheet._store import proofs
from callsheet.exceptions import StoreError, StoreUnavailable
from callsheet.locking.protocol import not_held
from callsheet.locking.tickets import Place, Ticket
from callsheet.logging.loggers import engine_log

_LOG: Final = engine_log("callsheet.locking")
_LINGER: Final = 0.1  # seconds; a lock that is taken again and again needs no new thread each time
_SHORT: Final = 0.5  # seconds of patience for what is tried again anyhow
_LONG: Final = 60.0  # … and for a release, which is not


class Answer(Enum):
    """What an attempt came to."""

    NO = 0
    TAKEN = 1
    HAD = 2  # the holder has it already


class _Held:
    __slots__ = ("beats_at", "expires", "home", "not_before", "ticket")

    def __init__(self, ticket: Ticket, expires: float | None, home: Host | None) -> None:
        self.home = home  # the loop whose code has it
        self.ticket = ticket
        self.expires = expires
        self.beats_at = time.monotonic() + ticket.lease / 4
        self.not_before = 0.0  # what failed is tried again a little later

    @property
    def due(self) -> float:
        due = self.beats_at if self.expires is None else min(self.beats_at, self.expires)
        return max(due, self.not_before)


class _Turn(Once):
    __slots__ = ("home",)

    def __init__(self, home: Host | None) -> None:
        super().__init__()
        self.home = home


class Office:
    """What one process has to do with the locks of one place. Methods block on the disk; call them off the loop."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._gate = threading.Lock()
        self._changed = threading.Condition(self._gate)
        self._mine: set[str] = set()  # tokens of what is held, or just being taken
        self._held: dict[str, _Held] = {}
        self._watches: dict[str, proofs.Watch] = {}
        self._waiters: dict[str, list[Once]] = {}
        self._queues: dict[str, deque[_Turn]] = {}
        self._owner: proofs.Proof | None = None
        self._is_tended = False

    # ---------------------------------------------------------------------------------------- asking

    def holds(self, key: str, holder: str) -> bool:
        """Tell without the disk whether this process holds a lock under a name."""
        held = self._held.get(key)
        return held is not None and held.ticket.holder == holder and not _is_over(held)

    def current(self, key: str) -> Ticket | None:
        """Give the ticket of a lock whose holder is not known to be dead, or `None`."""
        self._expire(key)
        ticket = self.place.read(key)
        if ticket is None:
            self._watches.pop(key, None)
            return None
        return None if self._is_dead(key, ticket) else ticket

    def _is_dead(self, key: str, ticket: Ticket) -> bool:
        with self._gate:
            if self._owner is not None and ticket.owner == self._owner.name:
                return ticket.token not in self._mine
        if proofs.is_gone(self.place.owners, ticket.machine, ticket.owner):
            return True
        with self._gate:
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = proofs.Watch()
            return watch.look((ticket.token, ticket.beat), ticket.lease)

    # ----------------------------------------------------------------------------- taking, giving back

    def attempt(
        self, key: str, holder: str, hold_timeout: float | None, lease: float, home: Host | None = None
    ) -> Answer:
        """Take a lock if it is free, or if its holder is dead.

        Raises:
            StoreError: The place refuses.
        """
        self._expire(key)
        found = self.place.read(key)
        dead = found is not None and self._is_dead(key, found)
        if found is not None and not dead:
            return Answer.HAD if found.holder == holder else Answer.NO
        ticket = self._new_ticket(holder, lease)
        expires = None if hold_timeout is None else time.monotonic() + hold_timeout
        taken = False
        try:
            taken = self.place.swap(key, found, ticket, _SHORT)
        finally:
            with self._gate:
                if taken:
                    lost = self._held.get(key)  # it was ours before, and somebody removed it
                    if lost is not None:
                        self._mine.discard(lost.ticket.token)
                    self._held[key] = _Held(ticket, expires, home)
                    self._watches.pop(key, None)
                else:
                    self._mine.discard(ticket.token)
                self._changed.notify()
        if taken and found is not None:
            _LOG.warning("Took over the lock %r: its holder %r gave no sign of life.", key, found.holder)
        return Answer.TAKEN if taken else Answer.NO

    def release(self, key: str, holder: str) -> None:
        """Give a lock back.

        Raises:
            ValueError: That holder does not hold it.
            StoreError: The place refuses.
        """
        self._expire(key)
        self._give_back(key, holder)

    def _give_back(self, key: str, holder: str) -> None:
        ticket = self.place.read(key)
        while ticket is not None and ticket.holder == holder:
            if self.place.swap(key, ticket, None, _LONG):
                self._drop(key, ticket.token)
                return
            ticket = self.place.read(key)  # it was renewed just now
        with self._gate:
            held = self._held.get(key)
        if held is not None and held.ticket.holder == holder:
            self._drop(key, held.ticket.token)  # it was taken over
        raise not_held(key, holder)

    def _new_ticket(self, holder: str, lease: float) -> Ticket:
        with self._gate:
            if self._owner is None:
                self._owner = self._prove()
            ticket = Ticket(holder=holder, owner=self._owner.name, machine=self._owner.machine, lease=lease)
            self._mine.add(ticket.token)
            if not self._is_tended:
                self._is_tended = True
                self.place.stay_open()
                start_thread(self._tend, "callsheet-locks", stands=True)
        return ticket

    def _prove(self) -> proofs.Proof:
        try:
            return proofs.Proof(self.place.owners)
        except OSError as error:
            raise StoreUnavailable(
                f"Locks cannot be kept beside '{self.place.owners}' ({error.strerror or error}). Give this user write "
                "access to that folder, or name another one."
            ) from error

    def _drop(self, key: str, token: str) -> None:
        with self._gate:
            held = self._held.get(key)
            if held is not None and held.ticket.token == token:
                del self._held[key]
            self._mine.discard(token)
            self._watches.pop(key, None)
            waiters = list(self._waiters.get(key, ()))
            self._changed.notify()
        for waiter in waiters:
            waiter.set()

    def _expire(self, key: str) -> None:
        held = self._held.get(key)
        if held is not None and _is_over(held):
            with suppress(ValueError):
                self._give_back(key, held.ticket.holder)

    # --------------------------------------------------------------------------------------- waiting

    def is_kept_by(self, key: str, loop: Host) -> bool:
        """Tell whether code of a loop holds a lock until it releases it."""
        held = self._held.get(key)
        return held is not None and held.home is loop and held.expires is None

    def is_behind(self, key: str, turn: Once, loop: Host) -> bool:
        """Tell whether code of a loop stands in line before a turn."""
        with self._gate:
            before = itertools.takewhile(lambda other: other is not turn, self._queues[key])
            return any(other.home is loop for other in before)

    def join(self, key: str, home: Host | None) -> Once:
        """Stand in line for a lock; what is given is set when it is this one's turn to try."""
        turn = _Turn(home)
        with self._gate:
            queue = self._queues.setdefault(key, deque())
            queue.append(turn)
            first = len(queue) == 1
        if first:
            turn.set()
        return turn

    def leave(self, key: str, turn: Once) -> None:
        """Leave the line; the next one may try."""
        with self._gate:
            queue = self._queues[key]
            queue.remove(cast("_Turn", turn))
            follower = queue[0] if queue else None
            if not queue:
                del self._queues[key]
        if follower is not None and not follower.is_set:
            follower.set()

    def subscribe(self, key: str) -> Once:
        """Give what is set when this process gives the lock back."""
        freed = Once()
        with self._gate:
            self._waiters.setdefault(key, []).append(freed)
        return freed

    def unsubscribe(self, key: str, freed: Once) -> None:
        """Forget a waiter."""
        with self._gate:
            waiters = self._waiters[key]
            waiters.remove(freed)
            if not waiters:
                del self._waiters[key]

    # ----------------------------------------------------------------------------- the thread's work

    def close_if_idle(self) -> None:
        """Take the proof of life away where this process holds nothing, and close what is open; it is the end."""
        self.place.close()
        with self._gate:
            owner, self._owner = (None, self._owner) if self._mine else (self._owner, None)
        if owner is not None:
            owner.close()

    def _tend(self) -> None:
        while True:
            with self._gate:
                if not self._mine:
                    if self._changed.wait(_LINGER) or self._mine:
                        continue
                    self._is_tended = False
                    owner, self._owner = self._owner, None
                    break
                due = min((held.due for held in self._held.values()), default=None)
                rest = None if due is None else due - time.monotonic()
                if rest is None or rest > 0:
                    self._changed.wait(rest)
                now = time.monotonic()
                ripe = [(key, held) for key, held in self._held.items() if held.due <= now]
            for key, held in ripe:
                self._renew(key, held)
        self.place.close()
        with self._gate:
            if self._is_tended:  # by a thread that was started meanwhile
                self.place.stay_open()
        if owner is not None:
            owner.close()

    def _renew(self, key: str, held: _Held) -> None:
        try:
            if _is_over(held):
                self._expire(key)
                return
            fresh = held.ticket.next()
            held.beats_at = time.monotonic() + fresh.lease / 4
            if self.place.swap(key, held.ticket, fresh, _SHORT):
                held.ticket = fresh
                return
        except (StoreError, OSError) as error:
            held.not_before = time.monotonic() + held.ticket.lease / 20
            held.beats_at = held.not_before
            _LOG.warning("The lock %r could not be renewed, and will be tried again: %s", key, error)
            return
        with self._gate:
            lost = self._held.get(key) is held
        if lost:
            _LOG.warning("The lock %r of %r was released or taken over by another process.", key, held.ticket.holder)
            self._drop(key, held.ticket.token)


def _is_over(held: _Held) -> bool:
    return held.expires is not None and time.monotonic() >= held.expires


_offices: dict[str, Office] = {}
_opening = threading.Lock()


def office_of(place: Place) -> Office:
    """Give this process's office for a place."""
    with _opening:
        office = _offices.get(place.name)
        if office is None:
            office = _offices[place.name] = Office(place)
        return office


def _after_fork() -> None:
    global _opening
    _opening = threading.Lock()
    _offices.clear()  # what they hold belongs to the parent, and so do their threads


os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _close_all() -> None:
    for office in list(_offices.values()):
        office.close_if_idle()
