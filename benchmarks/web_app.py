"""The service that `web` loads: one endpoint awaits a flow of three tasks, one does the same by hand."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from pathlib import Path

from fastapi import FastAPI

from callsheet import Engine, flow, task

HOME = Path(os.environ["CALLSHEET_HOME"])
engine = Engine(database=HOME / "web.db")
app = FastAPI(lifespan=engine.lifespan)

# The floor writes on the loop's own thread, the cheapest way there is to write one row.
db = sqlite3.connect(HOME / "floor.db", isolation_level=None, check_same_thread=False)
db.execute("pragma journal_mode=wal")
db.execute("pragma synchronous=normal")
db.execute("create table if not exists answer(id integer primary key, value integer)")


@task
async def add_one(x: int) -> int:
    """Add one."""
    return x + 1


@flow
async def add_three(x: int) -> int:
    """Add three, in three tasks."""
    return await add_one(await add_one(await add_one(x)))


async def plain_add_one(x: int) -> int:
    """Add one, without an engine."""
    return x + 1


@app.get("/flow/{x}")
async def with_flow(x: int) -> int:
    """Await a flow."""
    return await add_three(x)


@app.get("/plain/{x}")
async def by_hand(x: int) -> int:
    """Run three tasks of the loop and insert one row."""
    for _ in range(3):
        x = await asyncio.create_task(plain_add_one(x))
    db.execute("insert into answer(value) values (?)", (x,))
    return x
