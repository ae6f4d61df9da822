"""The event loops that tests run on, and the names by which the engine's threads and tasks are known."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
import pytest

OWN_PREFIX = "callsheet"  # every thread and every backend task that the engine starts has such a name


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    return loop


BACKENDS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]
if sys.platform != "win32":
    BACKENDS.insert(1, pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"))
if sys.version_info >= (3, 12):
    BACKENDS.insert(1, pytest.param(("asyncio", {"use_uvloop": False, "loop_factory": _eager_loop}), id="eager"))


def own_threads() -> list[str]:
    """Name the threads of the engine that are alive."""
    return sorted(t.name for t in threading.enumerate() if t.name.startswith(OWN_PREFIX))


def own_tasks() -> list[str]:
    """Name the tasks of the engine that are alive on the running loop."""
    names = (info.name or "" for info in anyio.get_running_tasks())
    return sorted(name for name in names if name.startswith(OWN_PREFIX))


def ever_longer(reached: Callable[[], object], *, first: float = 0.05) -> Iterator[float]:
    """Give deadlines to try, each ten times the one before, until a body got as far as the test needs.

    A deadline that no quick machine waits for long passes on a busy one before the body has got anywhere.
    """
    for seconds in (first, 10 * first, 100 * first):
        yield seconds
        if reached():
            return
    raise AssertionError(f"not even {100 * first} seconds were enough")


@contextmanager
def without_gc() -> Iterator[None]:
    """Keep the garbage collector out of tests that throw exceptions into whatever runs.

    It calls Python functions wherever it happens to run (Hypothesis installs one that lasts as long as the
    process), and what is raised there goes no further: Python tells of it as unraisable and drops it.
    """
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Watch:
    """A thread that calls for help when what was begun does not end in time.

    It sleeps until the first moment at which it may have to, so that beginning and ending wakes nobody.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due = self._wakes = math.inf
        self._help: Callable[[], object] | None = None
        self._process = 0

    def begin(self, seconds: float, help: Callable[[], object]) -> None:
        """Have `help` called in so many seconds, unless `end` is called before."""
        with self._changed:
            self._due, self._help = time.monotonic() + seconds, help
            if self._process != os.getpid():
                self._process, self._wakes = os.getpid(), self._due
                threading.Thread(target=self._look, name="watch of tests", daemon=True).start()
            elif self._due < self._wakes:
                self._changed.notify()

    def end(self) -> None:
        """What was begun has ended."""
        with self._changed:
            self._due, self._help = math.inf, None

    def _look(self) -> None:
        while True:
            with self._changed:
                help = self._help
                left = self._due - time.monotonic()
                if left > 0:
                    self._wakes = self._due
                    self._changed.wait(None if left == math.inf else left)
                    continue
                self._due, self._help = math.inf, None
            assert help is not None
            help()
