"""What is measured, and whom it is measured beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Unit = Literal["per second", "seconds", "bytes"]


@dataclass(frozen=True)
class Workload:
    """Something to do, so many times; fewer times by the slow engines, whose pieces cost the same however many there are."""

    name: str
    title: str
    size: int
    small: int
    unit: Unit = "per second"
    limit: float = 60.0  # seconds that a turn may take
    once: bool = False  # not repeated round by round
    flows: bool = False  # pieces are flow runs, not task runs

    @property
    def per_second(self) -> bool:
        """Whether more is better."""
        return self.unit == "per second"


@dataclass(frozen=True)
class Engine:
    """Somebody who does the work. Without requirements it runs in this very environment."""

    name: str
    script: str
    imports: str  # what its programs begin with
    package: str  # whose version is reported
    requirements: tuple[str, ...] = ()
    variant: str = ""  # handed to its script
    slow: bool = True  # does the small size of a workload
    server: bool = False  # its script knows `server`, which its turns share
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])  # where neither size is right for it
    limits: Mapping[str, float] = field(default_factory=dict[str, float])  # where it needs longer: seconds
    only: tuple[str, ...] = ()  # workloads; nothing: all that it can do
    enough: float = 8.0  # seconds that its turns at one workload may have taken before it gets no further one

    def size(self, workload: Workload) -> int:
        """Say how often it does a workload."""
        return self.sizes.get(workload.name, workload.small if self.slow else workload.size)

    def limit(self, workload: Workload) -> float:
        """Say how many seconds its turn may take, when nothing else runs on the machine."""
        return self.limits.get(workload.name, workload.limit)


# One piece of these takes 10 ms to 1 s with that server, so that the sizes of others would take an hour.
_PREFECT: Final = {
    "sequential": 100, "gather": 300, "submit": 50, "map": 500, "flows": 20, "flows_at_once": 100, "sync_called": 100,
    "sync_submitted": 100, "retry": 100, "persisted": 50, "chain": 50, "diamond": 100, "beside_threads": 20, "held": 100,
}  # fmt: skip

ENGINES: Final = {
    engine.name: engine
    for engine in (
        Engine("callsheet", "callsheet_", "from callsheet import flow, task", "callsheet", variant="results", slow=False),
        Engine("callsheet-relaxed", "callsheet_", "from callsheet import flow, task", "callsheet", variant="relaxed", slow=False),
        Engine("asyncio", "floors", "import asyncio", "", variant="asyncio", slow=False),
        Engine("anyio", "floors", "import anyio", "anyio", variant="anyio", slow=False),
        Engine("trio", "floors", "import trio", "trio", variant="trio", slow=False),
        Engine("sqlite", "floors", "import sqlite3", "", variant="sqlite", slow=False),
        Engine(
            "prefect", "prefect_", "from prefect import flow, task", "prefect",
            # The web framework is pinned because newer ones keep this server from starting.
            ("prefect", "fastapi==0.139.0"), server=True, sizes=_PREFECT, limits={"flows_at_once": 240, "cold": 120}, enough=20,
        ),
        Engine(
            "prefect-3.1.5", "prefect_", "from prefect import flow, task", "prefect",
            # What it was released beside: it names no upper limits, and newer ones keep its server from starting.
            (
                "prefect==3.1.5", "importlib_metadata", "fastapi==0.115.6", "starlette==0.41.3", "pydantic==2.10.4",
                "sqlalchemy==2.0.36", "aiosqlite==0.20.0", "anyio==4.7.0", "uvicorn==0.34.0",
            ),
            server=True, sizes={**_PREFECT, "flows_at_once": 30, "gather": 100, "map": 200}, limits={"flows_at_once": 120, "cold": 120},
            only=("import", "cold", "sequential", "gather", "map", "flows", "flows_at_once", "sync_called", "retry"),
        ),
        Engine("dbos", "dbos_", "from dbos import DBOS", "dbos", ("dbos", "fastapi", "uvicorn")),
        # It polls for results, so its tasks one after the other are as slow as those of the slow.
        Engine(
            "taskiq", "taskiq_", "from taskiq import InMemoryBroker", "taskiq", ("taskiq",), slow=False, sizes={"sequential": 500, "sync_called": 500}
        ),
        Engine("dask", "dask_", "from distributed import Client, LocalCluster", "distributed", ("dask[distributed]",)),
        Engine("ray", "ray_", "import ray", "ray", ("ray",)),
        Engine("dagster", "dagster_", "import dagster", "dagster", ("dagster",), sizes={"gather": 200, "flows": 20}),
    )
}  # fmt: skip
OURS: Final = ("callsheet", "callsheet-relaxed")
FLOORS: Final = ("asyncio", "anyio", "trio", "sqlite")
PEERS: Final = tuple(name for name, engine in ENGINES.items() if engine.requirements)

WORKLOADS: Final = {
    workload.name: workload
    for workload in (
        Workload("import", "import what a program begins with", 1, 1, "seconds"),
        Workload("cold", "cold script: one flow, one task, nothing there yet", 1, 1, "seconds"),
        Workload("sequential", "tasks awaited one after the other", 3_000, 200),
        Workload("gather", "1,000 tasks at once, by gather", 1_000, 1_000),
        Workload("submit", "1,000 tasks submitted, then waited for", 1_000, 1_000),
        Workload("gather_many", "10,000 tasks at once, by gather", 10_000, 0),
        Workload("submit_many", "10,000 tasks submitted, then waited for", 10_000, 0),
        Workload("map", "10,000 tasks mapped (1,000 by the slow ones)", 10_000, 1_000),
        Workload("flows", "flows that do nothing, one after the other", 500, 50, flows=True),
        Workload("flows_at_once", "200 flows that do nothing, at once", 200, 200, flows=True),
        Workload("sync_called", "sync tasks called in a sync flow", 3_000, 200),
        Workload("sync_submitted", "sync tasks submitted in a sync flow", 1_000, 200),
        Workload("retry", "tasks that fail once and are retried at once, by gather", 1_000, 200),
        Workload("persisted", "tasks whose results are kept, one after the other", 1_000, 100),
        Workload("chain", "a chain: each task takes the last one's future", 1_000, 200),
        Workload("diamond", "a diamond: one task, its followers, and one that takes them all", 10_000, 1_000),
        Workload("beside_threads", "tasks one after the other while two threads compute", 300, 50),
        Workload("web", "requests to an endpoint that awaits a flow of 3 tasks, 32 connections", 0, 0),
        Workload(
            "held", "memory of a task run that has ended and is held by its future", 10_000, 1_000, "bytes", once=True
        ),
        Workload("recovery", "tasks left by a killed process, from the first that runs again to the last", 2_000, 500),
        Workload("soak", "100,000 tasks in one flow, a thousand at once", 100_000, 0, limit=120, once=True),
    )
}
