"""One-shot conditions that any thread may set and any kind of waiter may wait for."""

from __future__ import annotations

from collections.abc import Callable


class Once:
    """Becomes set once, from any thread, and then calls everybody who subscribed, in the setter's thread.

    Subscribers must be quick and must not raise: they wake somebody up, nothing else. Relies on the atomicity
    of `list.append` and `list.pop`, so that neither side needs a lock: a subscriber that comes while the flag
    is being set is called by whichever side takes it out of the list.
    """

    __slots__ = ("_subscribers", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._subscribers: list[Callable[[], object]] = []

    def set(self) -> None:
        """Set the flag and wake everybody up. Setting twice is fine."""
        self.is_set = True
        self._drain()

    def subscribe(self, wake: Callable[[], object]) -> None:
        """Have `wake` called once the flag is set; at once if it is."""
        self._subscribers.append(wake)
        if self.is_set:
            self._drain()

    def unsubscribe(self, wake: Callable[[], object]) -> None:
        """Forget a waiter that went away."""
        if not self._subscribers:
            return  # the usual case: it was set, and everybody was woken
        try:
            self._subscribers.remove(wake)
        except ValueError:
            pass

    def _drain(self) -> None:
        subscribers = self._subscribers
        while subscribers:
            try:
                wake = subscribers.pop(0)
            except IndexError:
                return
            try:
                wake()
            except BaseException:  # the others are to be woken all the same
                self._drain()
                raise
