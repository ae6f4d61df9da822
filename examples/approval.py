"""Orders that somebody has to approve, and a process that is killed while they wait.

    python examples/approval.py [--folder FOLDER] [--orders 40]

The orders are real: a CSV of modules of the standard library of the interpreter that runs this, each to be bundled into
an archive, with the size and the digest that were ordered. A task checks each order. Then the flow suspends until the
bundle is approved, and takes nothing of the process meanwhile, which is killed. A second process resumes the run with
the decision; the run goes on there, with all checks taken from its journal. The report comes from the history, and from
a file in which each check has left a line.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from uuid import UUID

import anyio

from callsheet import Engine, flow, get_client, resume_flow_run, suspend_flow_run, task
from callsheet.flow_runs import wait_for_flow_run
from callsheet.input import RunInput
from callsheet.testing import check_history

LIBRARY = Path(sysconfig.get_path("stdlib"))
LARGEST = 64 * 1024  # bytes; larger modules are not bundled


class Decision(RunInput):
    """What whoever approves hands in."""

    approved: bool
    by: str


# ------------------------------------------------------------------------------------------------ orders


def write_orders(path: Path, count: int) -> None:
    """Order modules of the standard library, from the first in the alphabet."""
    modules = sorted(path for path in LIBRARY.glob("*.py") if not path.name.startswith("_"))[:count]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["order", "module", "bytes", "blake2b"])
        for number, module in enumerate(modules, 1):
            content = module.read_bytes()
            writer.writerow([f"SO-{number:03}", module.stem, len(content), digest(content)])


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@task(task_run_name="check {order}")
async def check(order: str, module: str, size: int, wanted: str, folder: Path) -> str | None:
    """Say why an order cannot be filled, or give `None`."""
    with (folder / "checks.log").open("a") as file:
        file.write(f"{order} {os.getpid()}\n")
    content = await anyio.Path(LIBRARY / f"{module}.py").read_bytes()
    if len(content) != size or digest(content) != wanted:
        return "another version was ordered"
    return f"larger than {LARGEST // 1024} KiB" if size > LARGEST else None


@task
def bundle(modules: list[str], path: Path) -> int:
    """Write the archive, whole or not at all, and give its size."""
    unfinished = path.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for module in modules:
            archive.write(LIBRARY / f"{module}.py", f"{module}.py")
    unfinished.replace(path)
    return path.stat().st_size


@flow
async def fill_orders(folder: Path) -> str:
    """Check all orders, wait for the decision, and bundle what may be bundled."""
    with (folder / "orders.csv").open(newline="") as file:
        orders = list(csv.DictReader(file))
    accepted: list[str] = []
    for order in orders:
        reason = await check(order["order"], order["module"], int(order["bytes"]), order["blake2b"], folder)
        if reason is None:
            accepted.append(order["module"])
    decision = await suspend_flow_run(wait_for_input=Decision, timeout=3600)
    if not decision.approved:
        return f"declined by {decision.by}"
    size = bundle(accepted, folder / "bundle.zip")
    return f"{len(accepted)} of {len(orders)} orders in {size:,} bytes, approved by {decision.by}"


# --------------------------------------------------------------------------------------------- processes


async def start(folder: Path) -> None:
    """Run the flow until it suspends, and then do nothing, until this process is killed."""
    async with Engine(database=folder / "orders.db", flows=[fill_orders]):
        state = await fill_orders(folder, return_state=True)
        print(state.state_details.flow_run_id, state.name, flush=True)
        await anyio.sleep_forever()


async def finish(folder: Path, run_id: UUID) -> None:
    """Resume the run, and wait for its end."""
    async with Engine(database=folder / "orders.db", flows=[fill_orders]):
        await resume_flow_run(run_id, run_input={"approved": True, "by": "the head of supplies"})
        run = await wait_for_flow_run(run_id, timeout=60)
        print(run.state_name)


def command(*arguments: object) -> list[str]:
    return [sys.executable, __file__, *map(str, arguments)]


def report(folder: Path, run_id: UUID, killed: int) -> None:
    """Tell what happened."""
    checks = [line.split() for line in (folder / "checks.log").read_text().splitlines()]
    times = Counter(order for order, _ in checks)
    print(
        f"{len(times)} orders were checked, {sum(pid == str(killed) for _, pid in checks)} by the process that was killed."
    )
    twice = [order for order, count in times.items() if count > 1]
    print(f"Checked twice: {', '.join(twice) or 'none'}.")
    os.environ["CALLSHEET_DATABASE"] = str(folder / "orders.db")
    with get_client(sync_client=True) as client:
        states = [state.name for state in client.read_flow_run_states(run_id)]
    print(f"The flow run went through {', '.join(states)}.")
    with zipfile.ZipFile(folder / "bundle.zip") as archive:
        print(f"The bundle has {len(archive.namelist())} modules.")
    print(*check_history(folder / "orders.db") or ["Its history is whole."], sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="default: a new one")
    parser.add_argument("--orders", type=int, default=40)
    parser.add_argument("--start", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--finish", type=UUID, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="orders-"))
    if arguments.start:
        return anyio.run(start, folder)
    if arguments.finish:
        return anyio.run(finish, folder, arguments.finish)
    folder.mkdir(parents=True, exist_ok=True)
    write_orders(folder / "orders.csv", arguments.orders)
    with subprocess.Popen(command("--start", "--folder", folder), stdout=subprocess.PIPE, text=True) as first:
        run_id, state = (first.stdout.readline() if first.stdout else "").split()
        print(f"Process {first.pid} has checked the orders; the flow run is {state}. Killing the process.")
        first.send_signal(signal.SIGKILL)
    subprocess.run(command("--finish", run_id, "--folder", folder), check=True)
    report(folder, UUID(run_id), first.pid)


if __name__ == "__main__":
    main()
