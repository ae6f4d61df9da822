"""How long commits have been failing, and whether those who wait should be told."""

from __future__ import annotations

from typing import Final

from callsheet._clock import machine
from callsheet._store import mishaps
from callsheet.exceptions import LostOwnership, StoreClosed, StoreError, StoreLocked, StoreNotADatabase, StoreTooNew
from callsheet.logging.loggers import engine_log

TOLD_AFTER: Final = 30.0
"""Seconds for which callers wait while commits fail, at most: a full disk may be tidied up, one that was taken away come back."""
_HOPELESS = (StoreTooNew, StoreNotADatabase, StoreClosed, LostOwnership)
_logger = engine_log("callsheet.journal")


class Trouble:
    """What is wrong with a place, since when, and whether it is for good. Used by whoever commits, one at a time.

    Args:
        location: the place, for people.
        deadline: seconds after which waiters are told.
    """

    def __init__(self, location: str, deadline: float) -> None:
        self._location = location
        self._deadline = deadline
        self._since: float | None = None
        self.degraded: StoreError | None = None
        self.failure: StoreError | None = None

    @property
    def hopeless(self) -> bool:
        """Tell whether trying again soon cannot help."""
        return isinstance(self.degraded, _HOPELESS)

    @property
    def only_held(self) -> bool:
        """Tell whether nothing is wrong but that another process is at it."""
        return self.degraded is None or isinstance(self.degraded, StoreLocked)

    def why_closed(self) -> StoreError:
        """Give what whoever comes too late is told."""
        lost = self.failure
        if isinstance(lost, LostOwnership):
            return lost.with_traceback(None)
        return StoreClosed(f"The journal of the history in '{self._location}' is closed.")

    def failed(self, error: StoreError) -> None:
        """Note a commit that failed."""
        now = machine.monotonic()
        self._since = since = self._since or now
        if self.degraded is None:
            _logger.warning(
                "History is not being saved just now and is kept in memory: %s It is tried again; whoever waits for it does so "
                "for up to %g s.",
                error,
                self._deadline,
            )
        self.degraded = error
        if self.hopeless:
            self.failure = error
        elif now - since >= self._deadline:
            if self.failure is None:
                _logger.error(
                    "History has not been saved for %.0f s, and nobody waits for it any more: what runs goes on and is kept in "
                    "memory until it can be saved, or this process ends. It is tried again. %s",
                    now - since,
                    error,
                )
            self.failure = error

    def held(self) -> None:
        """Note that another process holds the place; an error only when it goes on for too long."""
        now = machine.monotonic()
        self._since = since = self._since or now
        if now - since >= self._deadline:
            self.failed(mishaps.held(self._location, now - since))

    def over(self) -> None:
        """Note a commit that succeeded."""
        self._since = None
        if self.degraded is not None:
            _logger.warning(
                "History is being saved again in '%s'; nothing that waited for it was lost.", self._location
            )
            self.degraded = self.failure = None
