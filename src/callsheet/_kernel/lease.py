"""An engine's hold on its root runs: signs of life while there are any.

Others must see the same beat for a full lease, on their own clocks, before they take the engine for dead. Four beats
are due in that time. Where nothing is alive there is nothing to take, and nothing is written.

A process that was stopped for long does not know it when it wakes. So nothing starts in an engine whose last sign of
life is older than its lease, until the next one got through, or was refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from callsheet._clock import machine

if TYPE_CHECKING:
    from callsheet._store.protocol import Engines

_NEVER: Final = float("-inf")


class Lease:
    """Says when the next sign of life is due, and gives it. Used by any thread.

    Args:
        engines: of the store.
        seconds: the lease.
        in_use: tells whether others may count on this engine: its runs are alive, or it takes up those of others.
        grant: is told for how many seconds from now runs may start.
    """

    def __init__(
        self, engines: Engines, seconds: float, in_use: Callable[[], bool], grant: Callable[[float], None]
    ) -> None:
        self.seconds = seconds
        self._engines = engines
        self._in_use = in_use
        self._grant = grant
        self._renewed = _NEVER
        self._asked: float | None = None  # since when a sign of life is to go with the next transaction
        engines.when_renewed(self._seen)

    def vouch(self) -> None:
        """Make sure, before a root run begins, that a sign of life is no older than those of engines at work.

        It goes into the same transaction as the run, or into one before. If that takes long, the journal's thread does
        not wait for it; nor does it wait longer because somebody asks once more.
        """
        now = machine.monotonic()
        if now - self._renewed >= self.seconds / 4:
            if self._asked is None:
                self._asked = now
                self._engines.touch()
            if not self._in_use():
                self._grant(self.seconds)

    def _seen(self, since: float) -> None:
        """Hear that a sign of life is committed, by whichever transaction; it is as old as `since`."""
        self._renewed, self._asked = since, None
        self._grant(self.seconds - (machine.monotonic() - since))

    @property
    def is_fresh(self) -> bool:
        """Tell whether this engine itself has got a sign of life through within the lease."""
        return machine.monotonic() - self._renewed < self.seconds

    def rest(self) -> float | None:
        """Give the seconds until the next sign of life is due; `None` where none is."""
        if not (self._engines.is_entered and self._in_use()):
            return None
        since = self._renewed if self._asked is None else self._asked
        return max(0.0, since + self.seconds / 4 - machine.monotonic())

    def lapse(self) -> None:
        """Have the next sign of life be due at once."""
        self._renewed, self._asked = _NEVER, None

    def renew(self) -> bool | None:
        """Give a sign of life; `None` where another process holds the place just now.

        Raises:
            LostOwnership: Others have taken this engine for dead.
            StoreError: The place refuses.
        """
        return self._engines.renew() or None
