"""A web service whose endpoint awaits a flow of three tasks. `README.md` beside this file has the commands."""

from __future__ import annotations

import os
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, HTTPException, Query

from callsheet import Engine, flow, get_client, task
from callsheet.exceptions import EngineClosed, ObjectNotFound

PRICES = {"apple": 30, "pear": 45, "quince": 120}

engine = Engine(
    database=os.environ.get("SHOP_DATABASE", "shop.db"),
    drain_seconds=float(os.environ.get("SHOP_DRAIN_SECONDS", "10")),
)
app = FastAPI(title="Fruit shop", lifespan=engine.lifespan)


@task
async def price(item: str) -> int:
    """Look a price up, in cents."""
    return PRICES[item]


@task
async def discount(quantity: int) -> float:
    """Give a tenth off for ten or more."""
    return 0.9 if quantity >= 10 else 1.0


@task
async def total(cents: int, quantity: int, factor: float) -> int:
    """Work the sum out, in cents."""
    return round(cents * quantity * factor)


@flow
async def quote(item: str, quantity: int = 1) -> int:
    """Work out what a customer pays."""
    return await total(await price(item), quantity, await discount(quantity))


@app.get("/quote/{item}")
async def get_quote(item: str, quantity: Annotated[int, Query(ge=1)] = 1) -> dict[str, Any]:
    """Await the flow. Its run is in the history when the answer is on its way."""
    if item not in PRICES:
        raise HTTPException(404, f"we sell {', '.join(PRICES)}")
    try:
        state = await quote(item, quantity, return_state=True)
    except EngineClosed:  # the service is shutting down and takes no new work
        raise HTTPException(503, "shutting down") from None
    return {"cents": await state.result(), "run": str(state.state_details.flow_run_id)}


@app.get("/runs/{run_id}")
async def get_run(run_id: UUID) -> dict[str, Any]:
    """Read one run's states back from the history."""
    async with get_client() as client:
        try:
            run = await client.read_flow_run(run_id)
        except ObjectNotFound:
            raise HTTPException(404, "no such run") from None
        states = await client.read_flow_run_states(run_id)
    return {"flow_run": run.name, "states": [state.name for state in states]}
