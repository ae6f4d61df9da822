"""Read by type checkers, never run: pausing, and what a flow is handed."""

from __future__ import annotations

from typing import assert_type

from callsheet import flow, pause_flow_run, resume_flow_run
from callsheet.flow_runs import apause_flow_run
from callsheet.input import RunInput, receive_input


class Order(RunInput):
    name: str


@flow
def in_sync_code() -> None:
    pause_flow_run()
    pause_flow_run(timeout=3)
    order: Order = pause_flow_run(wait_for_input=Order, key="order")
    order.respond("thanks")
    for number in receive_input(int, timeout=1):
        order.send_to(number)


@flow
async def in_async_code() -> None:
    await pause_flow_run(timeout=3)
    assert_type(await apause_flow_run(wait_for_input=Order), Order)
    assert_type(await apause_flow_run(int), int)
    await resume_flow_run("id", run_input={"name": "paper"})
