"""What a forked child must forget: connections and threads of its parent."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forgetful(Protocol):
    """Something that holds what only its own process may use."""

    def forget_after_fork(self) -> None:
        """Let go of it without closing it."""
        ...


_alive: WeakSet[Forgetful] = WeakSet()
_kept: list[object] = []


def remember(what: Forgetful) -> None:
    """Call `what.forget_after_fork()` in every child that is forked while it lives."""
    _alive.add(what)


def leak(connection: object | None) -> None:
    """Keep a connection of the parent from ever being closed: closing would empty and remove the parent's log."""
    if connection is None:
        return
    _kept.append(connection)
    try:
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))  # also at interpreter shutdown
    except (ImportError, AttributeError):
        return


def _forget() -> None:
    for what in list(_alive):
        what.forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
