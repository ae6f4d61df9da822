"""What runs leave behind: everything about them can be read back, in both colours, on every loop and store."""

from __future__ import annotations

import itertools
import logging
from datetime import UTC, timedelta

import pytest

from callsheet import State, allow_failure, flow, get_client, get_run_logger, tags, task
from callsheet._ids import flow_id
from callsheet.client.schemas.objects import TaskRunResult
from callsheet.client.schemas.sorting import LogSort
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import FailedRun, MissingResult
from reading import ask, names


@pytest.fixture(params=["file", "memory"], autouse=True)
def store(request, monkeypatch):
    """Keep the history of every test once in a file and once in memory."""
    if request.param == "memory":
        monkeypatch.setenv("CALLSHEET_DATABASE", ":memory:")


# ---------------------------------------------------------------------------------------- flow runs


@pytest.mark.anyio
async def test_a_flow_run_is_read_back_as_the_run_saw_itself():
    @flow(version="7", retries=2, retry_delay_seconds=0.5, flow_run_name="harvest-{year}")
    async def harvest(year: int, crops: list[str], *, wet: bool = False) -> int:
        seen.append(FlowRunContext.get().flow_run)
        return year

    seen = []
    with tags("farm", "autumn"):
        state = await harvest(1900, ["oats"], return_state=True)
    (live,) = seen
    run = await ask("read_flow_run", state.state_details.flow_run_id)
    for field in live.__struct_fields__:
        if field not in ("state", "updated"):
            assert getattr(run, field) == getattr(live, field), field
    assert (run.name, run.parameters, run.tags) == (
        "harvest-1900",
        {"year": 1900, "crops": ["oats"], "wet": False},
        ["autumn", "farm"],
    )
    assert (run.flow_id, run.flow_version) == (flow_id("harvest"), "7")
    assert (run.empirical_policy.retries, run.empirical_policy.retry_delay) == (2, 0.5)
    assert run.state.id == run.state_id == state.id
    assert run.state.timestamp == run.end_time == run.updated == state.timestamp
    assert run.created <= run.start_time <= run.end_time
    assert run.total_run_time == run.end_time - run.start_time
    assert run.created.tzinfo is UTC


@pytest.mark.anyio
async def test_states_are_read_back_in_order_with_their_times_and_details():
    @flow(retries=1, retry_delay_seconds=0.01)
    async def flaky() -> None:
        if FlowRunContext.get().flow_run.run_count == 1:
            raise OSError("no rain")

    state = await flaky(return_state=True)
    run_id = state.state_details.flow_run_id
    states = await ask("read_flow_run_states", run_id)
    assert [one.name for one in states] == ["Pending", "Running", "AwaitingRetry", "Retrying", "Completed"]
    assert [one.type.value for one in states] == ["PENDING", "RUNNING", "SCHEDULED", "RUNNING", "COMPLETED"]
    assert sorted(one.timestamp for one in states) == [one.timestamp for one in states]
    assert len({one.id for one in states}) == 5
    assert {one.state_details.flow_run_id for one in states} == {run_id}
    waiting = states[2]
    assert waiting.timestamp < waiting.state_details.scheduled_time <= states[3].timestamp
    run = await ask("read_flow_run", run_id)
    assert run.run_count == 2
    ran = [after.timestamp - one.timestamp for one, after in itertools.pairwise(states) if one.is_running()]
    assert run.total_run_time == sum(ran, timedelta())
    assert run.start_time == states[1].timestamp


@pytest.mark.anyio
async def test_a_value_is_not_read_back_and_says_so():
    @flow
    async def broken() -> None:
        raise KeyError("seed")

    @flow
    async def fine() -> int:
        return 3

    failed = (await ask("read_flow_run", (await broken(return_state=True)).state_details.flow_run_id)).state
    with pytest.raises(FailedRun, match="KeyError: 'seed'"):
        await failed.aresult()
    completed = (await ask("read_flow_run", (await fine(return_state=True)).state_details.flow_run_id)).state
    assert repr(completed.data) == "<not recorded>"
    with pytest.raises(MissingResult):
        await completed.aresult()


@pytest.mark.anyio
async def test_a_subflow_and_the_task_run_that_tracks_it_know_each_other():
    @flow
    async def field(acre: int, before: object = None) -> int:
        return acre

    @task
    async def survey() -> int:
        return 500

    @flow
    async def farm() -> None:
        await field(await survey(), before=survey.submit())

    state = await farm(return_state=True)
    outer = await ask("read_flow_run", state.state_details.flow_run_id)
    assert outer.parent_task_run_id is None
    (inner,) = await ask("read_flow_runs", flow_run_filter={"parent_flow_run_id": {"any_": [outer.id]}})
    tracking = await ask("read_task_run", inner.parent_task_run_id)
    assert tracking.flow_run_id == outer.id
    assert tracking.state.state_details.child_flow_run_id == inner.id
    assert inner.state.state_details.task_run_id == tracking.id
    assert (tracking.name, tracking.state_name) == ("field", "Completed")
    first, second = await ask("read_task_runs", task_run_filter={"name": {"like_": "survey"}})
    assert tracking.task_inputs == {"acre": [TaskRunResult(id=first.id)], "before": [TaskRunResult(id=second.id)]}
    assert [one.state_details.child_flow_run_id for one in await ask("read_task_run_states", tracking.id)] == [
        inner.id
    ] * 3
    for exists, expected in ((True, ["field"]), (False, [first.name, second.name])):
        assert await names("read_task_runs", task_run_filter={"subflow_runs": {"exists_": exists}}) == expected


# ---------------------------------------------------------------------------------------- task runs


@pytest.mark.anyio
async def test_a_task_run_is_read_back_as_the_run_saw_itself():
    @task(version="2", retries=3, retry_delay_seconds=[0, 5], retry_jitter_factor=0.5, tags={"t"})
    async def sow(seed: str, *rows: int, **tools: str) -> str:
        seen.append(TaskRunContext.get().task_run)
        return seed

    @flow
    async def farm() -> State[str]:
        return await sow("rye", 1, 2, plough="big", return_state=True)

    seen = []
    await farm()
    (live,) = seen
    run = await ask("read_task_run", live.id)
    for field in live.__struct_fields__:
        if field not in ("state", "updated"):
            assert getattr(run, field) == getattr(live, field), field
    assert run.task_inputs == {"seed": [], "rows": [], "tools": []}
    assert run.empirical_policy.retry_delay == [0, 5]
    assert run.tags == ["t"]
    assert run.dynamic_key.startswith(run.name.removeprefix("sow-")) or run.name.startswith("sow-")


@pytest.mark.anyio
async def test_the_runs_behind_every_parameter_are_recorded():
    @task
    async def grow(kind: str) -> list[str]:
        return [kind]

    @task
    async def fail() -> None:
        raise ValueError

    @task
    async def peel(what: object) -> None: ...

    @task
    async def mix(a: object, b: object, *more: object, **named: object) -> None:
        await peel(3)

    @flow
    async def kitchen() -> None:
        leek, kale = grow.submit("leek"), await grow("kale", return_state=True)
        traced, bad = await grow("beet"), fail.submit()
        mixed = mix.submit(leek, {"deep": [kale, leek]}, traced, allow_failure(bad), extra=leek)
        peel.submit(1, wait_for=[mixed])

    await kitchen(return_state=True)
    ids = {}
    for run in await ask("read_task_runs"):
        ids.setdefault(run.name.rpartition("-")[0], []).append(run.id)
    leek, kale, beet = ids["grow"]
    (mixed,) = await ask("read_task_runs", task_run_filter={"name": {"like_": "mix"}})

    def results(*run_ids: object) -> list[TaskRunResult]:
        return [TaskRunResult(id=run_id) for run_id in sorted(run_ids)]

    assert mixed.task_inputs == {
        "a": results(leek),
        "b": results(kale, leek),
        "more": results(beet, *ids["fail"]),
        "named": results(leek),
    }
    inputs = [run.task_inputs for run in await ask("read_task_runs", task_run_filter={"name": {"like_": "peel"}})]
    assert {"what": [], "__parents__": results(mixed.id)} in inputs
    assert {"what": [], "wait_for": results(mixed.id)} in inputs


@pytest.mark.anyio
async def test_a_task_outside_of_flows_has_its_own_key_and_no_flow_run():
    @task
    def lone() -> None: ...

    run = await ask("read_task_run", lone(return_state=True).state_details.task_run_id)
    assert (run.name, run.flow_run_id, run.flow_run_run_count) == ("lone", None, 0)
    assert run.dynamic_key == f"{lone.task_key}-{run.id.hex}"
    for is_null, expected in ((True, ["lone"]), (False, [])):
        assert await names("read_task_runs", task_run_filter={"flow_run_id": {"is_null_": is_null}}) == expected


@pytest.mark.anyio
async def test_task_runs_know_the_attempt_of_their_flow_run():
    @task
    async def note() -> None: ...

    @flow(retries=1)
    async def twice() -> None:
        await note()
        if FlowRunContext.get().flow_run.run_count == 1:
            raise OSError

    await twice()
    assert [run.flow_run_run_count for run in await ask("read_task_runs")] == [1, 2]


# --------------------------------------------------------------------------------------------- logs


@pytest.mark.anyio
async def test_logs_are_read_back_by_run_level_and_time():
    @task
    async def speak() -> None:
        get_run_logger().error("from the task")

    @flow
    async def farm(number: int) -> None:
        get_run_logger().info("from flow %s", number)
        await speak()

    ids = [(await farm(number, return_state=True)).state_details.flow_run_id for number in (1, 2)]

    async def messages(**where: object) -> list[str]:
        return [log.message for log in await ask("read_logs", where or None)]

    assert await messages() == ["from flow 1", "from the task", "from flow 2", "from the task"]
    assert await messages(flow_run_id={"any_": [ids[1]]}) == ["from flow 2", "from the task"]
    assert await messages(level={"ge_": logging.ERROR}) == ["from the task"] * 2
    assert await messages(level={"le_": logging.INFO}, flow_run_id={"any_": ids[:1]}) == ["from flow 1"]
    (first,) = await ask("read_logs", limit=1)
    assert (first.level, first.name, first.flow_run_id) == (logging.INFO, "callsheet.flow_runs", ids[0])
    assert await messages(timestamp={"before_": first.timestamp}) == ["from flow 1"]
    (newest,) = await ask("read_logs", None, 1, 0, LogSort.TIMESTAMP_DESC)
    assert newest.flow_run_id == ids[1]
    assert await messages(task_run_id={"any_": [newest.task_run_id]}) == ["from the task"]
    page = await ask("read_logs", limit=3)
    assert [log.message for log in await ask("read_logs", cursor=page.cursor)] == ["from the task"]
    assert len({log.id for log in await ask("read_logs")}) == 4


# --------------------------------------------------------------------------------- reading what is


@pytest.mark.anyio
async def test_a_run_reads_itself_while_it_runs():
    @flow
    async def curious() -> list[str]:
        own = FlowRunContext.get().flow_run.id
        run = await ask("read_flow_run", own)
        return [run.state_name, *(state.name for state in await ask("read_flow_run_states", own))]

    assert await curious() == ["Running", "Pending", "Running"]


def test_a_sync_run_reads_itself_while_it_runs():
    @flow
    def curious() -> str:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(FlowRunContext.get().flow_run.id).state_name

    assert curious() == "Running"
