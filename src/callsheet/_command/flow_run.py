"""The verbs of ``callsheet flow-run``."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._command import show
from callsheet._command.finding import filters, find, open_history
from callsheet._command.main import Refused
from callsheet._model.runs import FlowRun
from callsheet._model.states import State
from callsheet.client.orchestration import SyncClient
from callsheet.exceptions import FlowRunWaitTimeout
from callsheet.flow_runs import cancel_flow_run, cancel_flow_runs, retry_flow_run, wait_for_flow_run

_MOST_TASK_RUNS: Final = 200


def ls(given: argparse.Namespace) -> int:
    """List flow runs."""
    with open_history() as client:
        runs = client.read_flow_runs(**filters(given), sort="ID_DESC", limit=given.limit)
        names = _flow_names(client)
    if given.json:
        show.as_json([_as_dict(run, names) for run in runs])
        return 0
    rows = [
        [str(run.id), names.get(run.flow_id, "-"), run.name, run.state_name or "-", show.moment(run.created),
         show.duration(run.estimated_run_time)]
        for run in runs
    ]  # fmt: skip
    show.table(["ID", "FLOW", "NAME", "STATE", "CREATED", "RAN"], rows)
    return 0


def inspect(given: argparse.Namespace) -> int:
    """Show everything about a flow run."""
    with open_history() as client:
        run = client.read_flow_run(find(client, given.id))
        names = _flow_names(client)
        states = client.read_flow_run_states(run.id)
        within = {"id": {"any_": [run.id]}}
        task_runs = client.read_task_runs(flow_run_filter=within, limit=_MOST_TASK_RUNS)
        total = client.count_task_runs(flow_run_filter=within)
        wanted = _wanted(client, run)
    if given.json:
        said = _as_dict(run, names) | {
            "states": [_state(state) for state in states],
            "task_runs": [{"id": one.id, "name": one.name, "state": _state(one.state)} for one in task_runs],
            "task_run_count": total,
            "waits_for": wanted,
        }
        show.as_json(said)
        return 0
    show.table(["", ""], [[key, value] for key, value in _facts(run, names, wanted)], heading=run.name)
    _list("States", ["STATE", "AT", "MESSAGE"], [_row(state) for state in states])
    if task_runs:
        heading = "Task runs" if total <= len(task_runs) else f"Task runs (the first {len(task_runs)} of {total})"
        _list(heading, ["ID", "NAME", *_TITLES], [[str(one.id), one.name, *_row(one.state)] for one in task_runs])
    return 0


_TITLES: Final = ["STATE", "AT", "MESSAGE"]


def cancel(given: argparse.Namespace) -> int:
    """Cancel flow runs."""
    chosen = filters(given)
    if bool(given.ids) == (given.all or bool(chosen)):
        raise Refused("which flow runs? Name ids, or choose by --state, --name, --flow or --all.")
    with open_history() as client:
        if given.ids:
            found = [find(client, text) for text in given.ids]
            states: list[Any] = [cancel_flow_run(run_id, given.message) for run_id in found]
        else:
            chosen.setdefault("flow_run_filter", {})
            states = cancel_flow_runs(**chosen, message=given.message)
        done = all(state.type.value in ("CANCELLING", "CANCELLED") for state in states)
        ids: list[Any] = [state.state_details.flow_run_id for state in states]
        if given.wait is not None:
            states = [asyncio.run(_ended(run_id, given.wait)) for run_id in ids]
    _tell(given, ids, states)
    return 0 if done else 1  # others had ended before


async def _ended(run_id: UUID, seconds: float) -> State[Any] | None:
    try:
        return (await wait_for_flow_run(run_id, timeout=seconds)).state
    except FlowRunWaitTimeout:
        raise Refused(f"{run_id} has not ended within {seconds:g} seconds.") from None


def pause(given: argparse.Namespace) -> int:
    """Pause a flow run."""
    with open_history() as client:
        run_id = find(client, given.id)
        return _answered(given, run_id, client.pause_flow_run(run_id, given.message))


def resume(given: argparse.Namespace) -> int:
    """Resume a flow run."""
    try:
        run_input = None if given.input is None else msgspec.json.decode(given.input, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise Refused(f"--input is no JSON object: {error}") from None
    with open_history() as client:
        run_id = find(client, given.id)
        return _answered(given, run_id, client.resume_flow_run(run_id, run_input))


def retry(given: argparse.Namespace) -> int:
    """Have a flow run retried by an engine that knows its flow."""
    with open_history() as client:
        run = retry_flow_run(find(client, given.id))
        _tell(given, [run.id], [run.state])
    return 0


VERBS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "ls": ls, "inspect": inspect, "cancel": cancel, "pause": pause, "resume": resume, "retry": retry,
}  # fmt: skip


# ------------------------------------------------------------------------------------------- writing


def _answered(given: argparse.Namespace, run_id: UUID, result: Any) -> int:
    if result.status.value != "ACCEPT":
        raise Refused(result.details.reason)
    _tell(given, [run_id], [result.state])
    return 0


def _tell(given: argparse.Namespace, ids: Sequence[UUID | None], states: Sequence[State[Any] | None]) -> None:
    if given.json:
        show.as_json([{"id": run_id, "state": _state(state)} for run_id, state in zip(ids, states, strict=True)])
        return
    for run_id, state in zip(ids, states, strict=True):
        print(f"{run_id}\t{'-' if state is None else state.name}")


def _flow_names(client: SyncClient) -> dict[UUID | None, str]:
    return {flow.id: flow.name for flow in client.read_flows(limit=10_000)}


def _as_dict(run: FlowRun, names: dict[UUID | None, str]) -> dict[str, Any]:
    return {
        "id": run.id,
        "flow": names.get(run.flow_id),
        "name": run.name,
        "state": _state(run.state),
        "tags": run.tags,
        "parameters": run.parameters,
        "created": run.created,
        "started": run.start_time,
        "ended": run.end_time,
        "seconds": run.estimated_run_time.total_seconds(),
        "runs": run.run_count,
        "parent_task_run_id": run.parent_task_run_id,
    }


def _state(state: State[Any] | None) -> dict[str, Any] | None:
    if state is None:
        return None
    return {"type": state.type.value, "name": state.name, "at": state.timestamp, "message": state.message}


def _row(state: State[Any] | None) -> list[str]:
    return ["-", "-", ""] if state is None else [state.name, show.moment(state.timestamp), state.message or ""]


def _facts(run: FlowRun, names: dict[UUID | None, str], wanted: dict[str, Any] | None) -> list[tuple[str, str]]:
    state = run.state
    found = [
        ("id", str(run.id)),
        ("flow", names.get(run.flow_id, "-")),
        ("state", run.state_name or "-"),
        ("parameters", msgspec.json.encode(run.parameters, enc_hook=str).decode()),
        ("tags", ", ".join(run.tags)),
        ("created", show.moment(run.created)),
        ("started", show.moment(run.start_time)),
        ("ended", show.moment(run.end_time)),
        ("ran", f"{show.duration(run.estimated_run_time)} in {run.run_count} attempts"),
    ]
    if state is not None and state.type.value in ("FAILED", "CRASHED"):
        found.append(("error", state.message or ""))
    if wanted is not None:
        found.append(("waits for", msgspec.json.encode(wanted).decode()))
    return found


def _wanted(client: SyncClient, run: FlowRun) -> dict[str, Any] | None:
    """Give what a paused flow run waits for: the schema of its input, and how long it waits."""
    state = run.state
    if state is None or not state.is_paused():
        return None
    details = state.state_details
    until = None if details.pause_timeout is None else details.pause_timeout.isoformat()
    wanted: dict[str, Any] = {"until": until}
    for part in ("schema", "description"):
        key = (details.run_input_keyset or {}).get(part)
        text = None if key is None else client.read_flow_run_input(run.id, key)
        if text is not None:
            wanted[part] = msgspec.json.decode(text)
    return wanted


def _list(heading: str, titles: list[str], rows: list[list[str]]) -> None:
    print()
    show.table(titles, rows, heading=heading)
