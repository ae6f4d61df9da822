"""The pytest plugin: an engine and a clock for one test. Nothing of the engine is imported before a test asks for them.

A project that has a fixture of one of these names keeps its own: pytest lets what is defined nearer to a test win.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from callsheet.testing import MemoryEngine, VirtualTime


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[MemoryEngine]:
    """Give a fresh engine in memory: `engine.history` tells what happened, `engine.crash()` kills and restarts it."""
    from callsheet.testing import MemoryEngine

    time: Any = request.getfixturevalue("virtual_clock") if "virtual_clock" in request.fixturenames else None
    with MemoryEngine(clock=getattr(time, "clock", None)) as made:
        yield made


@pytest.fixture
def virtual_clock(request: pytest.FixtureRequest) -> Iterator[VirtualTime]:
    """Have an asynchronous test live in virtual time; in a plain one, `virtual_clock.run(flow, …)` runs a flow in it."""
    from callsheet.testing import VirtualTime

    time, item = VirtualTime(), request.node
    test: Any = item.obj
    if not inspect.iscoroutinefunction(test):
        yield time
        return
    item.obj = time.around(test)
    try:
        yield time
    finally:
        item.obj = test
