"""The cancel scope of a run: how its deadline, its cancellation and its parent's end reach the body."""

from __future__ import annotations

from typing import Any

from callsheet._kernel.signals import Once
from callsheet.exceptions import Signal

DEADLINE = "deadline"
CANCEL = "cancel"
PARENT = "parent"
TERMINATE = "terminate"
SIGNAL = "signal"
FENCED = "fenced"
SUSPEND = "suspend"


class Interrupted(Signal):
    """Raised in a body whose scope, or an outer run's scope, has ended. Made without arguments in a thread."""


class RunScope(Once):
    """Set when the run must leave; `reason` says why. One for every run, from its first wait to its last.

    On a loop an anyio scope is attached while the body runs, and is cancelled along; a thread looks at the
    flag whenever it calls the engine, and is woken from its waits.
    """

    __slots__ = ("_host", "_loop_scope", "reason")

    def __init__(self) -> None:
        Once.__init__(self)
        self.reason: str | None = None
        self._loop_scope: Any = None
        self._host: Any = None

    def cancel(self, reason: str) -> None:
        """End the scope, from any thread. The first reason stands."""
        if self.reason is not None:
            return
        self.reason = reason
        self.set()
        loop_scope, host = self._loop_scope, self._host
        if loop_scope is not None:
            if host.is_here():
                loop_scope.cancel()
            else:
                host.post(loop_scope.cancel)

    @property
    def is_ending(self) -> bool:
        """Tell on its loop whether the scope has ended, also by a deadline that nobody has noted yet."""
        loop_scope = self._loop_scope
        return self.reason is not None or (loop_scope is not None and self._host.is_here() and loop_scope.cancel_called)

    def attach(self, loop_scope: Any, host: Any) -> None:
        """Have an entered anyio scope cancelled along with this one."""
        self._host = host
        self._loop_scope = loop_scope
        if self.reason is not None:
            loop_scope.cancel()

    def detach(self) -> None:
        """Forget the anyio scope: it is being left."""
        self._loop_scope = None

    def check(self) -> None:
        """Leave here if the scope has ended.

        Raises:
            Interrupted: the run must leave.
        """
        if self.reason is not None:
            raise Interrupted
