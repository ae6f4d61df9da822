"""What is measured, and whom it is measured beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Engine:
    """Somebody who does the work. Without requirements it runs in this very environment."""

    name: str
    script: str
    module: str  # what its programs import
    package: str  # whose version is reported
    requirements: tuple[str, ...] = ()
    variant: str = ""  # handed to its script
    slow: bool = True  # does the small size of a workload


@dataclass(frozen=True)
class Workload:
    """Something to do: so many times, or a tenth as often or less by the slow ones."""

    name: str
    title: str
    size: int
    small: int
    per_second: bool = True


ENGINES: Final = {
    engine.name: engine
    for engine in (
        Engine("callsheet", "callsheet_", "callsheet", "callsheet", variant="results", slow=False),
        Engine("callsheet-relaxed", "callsheet_", "callsheet", "callsheet", variant="relaxed", slow=False),
        Engine("asyncio", "floors", "asyncio", "", variant="asyncio", slow=False),
        Engine("anyio", "floors", "anyio", "anyio", variant="anyio", slow=False),
        Engine("trio", "floors", "trio", "trio", variant="trio", slow=False),
        Engine("sqlite", "floors", "sqlite3", "", variant="sqlite", slow=False),
        # The web framework is pinned because newer ones keep this server from starting.
        Engine("prefect", "prefect_", "prefect", "prefect", ("prefect", "fastapi==0.139.0")),
        Engine("prefect-3.1.5", "prefect_", "prefect", "prefect", ("prefect==3.1.5", "importlib_metadata")),
        Engine("dbos", "dbos_", "dbos", "dbos", ("dbos", "fastapi", "uvicorn")),
        Engine("taskiq", "taskiq_", "taskiq", "taskiq", ("taskiq", "fastapi", "uvicorn"), slow=False),
        Engine("dask", "dask_", "distributed", "distributed", ("dask[distributed]",)),
        Engine("ray", "ray_", "ray", "ray", ("ray",)),
        Engine("dagster", "dagster_", "dagster", "dagster", ("dagster",)),
    )
}
OURS: Final = ("callsheet", "callsheet-relaxed")
FLOORS: Final = ("asyncio", "anyio", "trio", "sqlite")
PEERS: Final = tuple(name for name, engine in ENGINES.items() if engine.requirements)

WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload("import", "import the package", 1, 1, per_second=False),
        Workload("cold", "cold script: one flow, one task, nothing there yet", 1, 1, per_second=False),
        Workload("sequential", "tasks awaited one after the other", 3_000, 200),
        Workload("gather", "1,000 tasks at once, by gather", 1_000, 1_000),
        Workload("submit", "1,000 tasks submitted, then waited for", 1_000, 1_000),
        Workload("map", "10,000 tasks mapped (1,000 by the slow ones)", 10_000, 1_000),
        Workload("flows", "flows that do nothing, one after the other", 500, 50),
        Workload("flows_at_once", "200 flows that do nothing, at once", 200, 200),
        Workload("sync_called", "sync tasks called in a sync flow", 3_000, 200),
        Workload("sync_submitted", "sync tasks submitted in a sync flow", 1_000, 200),
        Workload("retry", "tasks that fail once and are retried at once, by gather", 1_000, 200),
        Workload("persisted", "tasks whose results are kept, one after the other", 1_000, 100),
        Workload("chain", "a chain: each task takes the last one's future", 1_000, 200),
        Workload("diamond", "a diamond: one task, its followers, and one that takes them all", 10_000, 1_000),
        Workload("beside_threads", "tasks one after the other while two threads compute", 300, 50),
        Workload("web", "requests to an endpoint that awaits a flow of 3 tasks, 32 connections", 0, 0),
    )
}
