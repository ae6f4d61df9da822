"""What this engine is to reach beside others, in one run: so many times as good, at least."""

from __future__ import annotations

from typing import Final, NamedTuple


class Target(NamedTuple):
    """`ours` is to be at least `times` as good as `other` at a workload (below 1: at most so many times as slow)."""

    workload: str
    ours: str
    other: str
    times: float


_DEFAULT: Final = "callsheet"
_RELAXED: Final = "callsheet-relaxed"

TARGETS: Final = (
    Target("sequential", _RELAXED, "prefect", 100),
    Target("sequential", _RELAXED, "taskiq", 10),
    Target("sequential", _RELAXED, "asyncio", 1 / 10),
    Target("sequential", _DEFAULT, "dbos", 25),
    Target("sequential", _DEFAULT, "asyncio", 1 / 16),
    Target("map", _RELAXED, "prefect", 80),
    Target("map", _DEFAULT, "dbos", 30),
    Target("map", _RELAXED, "taskiq", 0.8),
    Target("map", _RELAXED, "anyio", 1 / 3),
    Target("flows", _RELAXED, "prefect", 200),
    Target("flows", _DEFAULT, "dbos", 8),
    Target("flows_at_once", _RELAXED, "prefect", 1000),
    Target("flows_at_once", _DEFAULT, "dbos", 12),
    Target("sync_called", _RELAXED, "prefect", 50),
    Target("sync_called", _DEFAULT, "dbos", 10),
    Target("sync_submitted", _RELAXED, "prefect", 40),
    Target("sync_submitted", _DEFAULT, "dbos", 10),
    Target("retry", _RELAXED, "prefect", 100),
    Target("retry", _DEFAULT, "dbos", 40),
    Target("web", _RELAXED, "prefect", 500),
    Target("cold", _DEFAULT, "prefect", 40),
    Target("import", _DEFAULT, "prefect", 12),
)
