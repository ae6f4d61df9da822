"""What other processes commit: who wants to hear of it, and when it is time to look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from callsheet._clock import machine
from callsheet._store.protocol import Store
from callsheet.exceptions import StoreError

LOOK_OUTSIDE: Final = 0.1
"""Seconds between looks whether other processes have committed anything, while somebody wants to know."""


class Outside:
    """Tells listeners that other processes have committed something. Looked at by the journal's thread only.

    Args:
        store: where they commit.
        ring: wakes the journal's thread.
    """

    def __init__(self, store: Store, ring: Callable[[], None]) -> None:
        self._store = store
        self._ring = ring
        self._is_told = store.engines.on_news(self._hear)  # so that there is no need to look
        self._heard = False
        self._listeners: tuple[tuple[Callable[[], None], Callable[[], bool] | None], ...] = ()
        self._look_again = 0.0

    def add(self, listener: Callable[[], None], wanted: Callable[[], bool] | None = None) -> None:
        """Tell a listener from now on, for as long as `wanted()` holds. The caller holds the journal's gate."""
        self._listeners = (*self._listeners, (listener, wanted))

    def remove(self, listener: Callable[[], None]) -> None:
        """Tell it no more. The caller holds the journal's gate."""
        self._listeners = tuple(one for one in self._listeners if one[0] != listener)

    def rest(self) -> float | None:
        """Give the seconds until the next look; `None` where nobody listens."""
        if not any(wanted is None or wanted() for _, wanted in self._listeners):
            return None
        if self._is_told:
            return 0.0 if self._heard else None
        return max(0.0, self._look_again - machine.monotonic())

    def _hear(self) -> None:
        self._heard = True
        self._ring()

    def look(self) -> list[Callable[[], None]]:
        """Give those who are to be told now: none, most of the time."""
        if self.rest() != 0.0:
            return []
        self._heard = False
        self._look_again = machine.monotonic() + LOOK_OUTSIDE
        try:
            if not self._store.changed_outside():
                return []
        except StoreError:  # the next commit says what is wrong
            return []
        return [listener for listener, wanted in self._listeners if wanted is None or wanted()]
