"""Programs of their own process that tests of waits kill and start again."""

from __future__ import annotations

from typing import Final

ORDER: Final = """
import sys, anyio
from pathlib import Path
from callsheet import Engine, flow, on_query, sleep, task, wait_signal
from callsheet.runtime import flow_run

done = Path(sys.argv[1])

@task
def note(*what):
    with done.open("a") as file:
        print(*what, file=file)
    print(*what, flush=True)

@flow
async def order():
    note("begun", flow_run.id)
    got = []
    on_query("got", lambda more: len(got) + more)
    for _ in range(2):
        got.append(await wait_signal("n", int))
        note("got", got[-1])
    await sleep(0.3)
    note("awake")
    return got
"""

BEGIN: Final = (
    ORDER
    + """
async def main():
    async with Engine():
        await order()
anyio.run(main)
"""
)

GO_ON: Final = (
    ORDER
    + """
async def main():
    async with Engine(flows=[order]):
        print("open", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
anyio.run(main)
"""
)
