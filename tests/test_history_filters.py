"""Which runs and flows are read, in which order, and how much at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from callsheet import State, flow, tags, task
from callsheet._ids import flow_id, new_id
from callsheet.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
    TaskRunFilterName,
)
from callsheet.client.schemas.sorting import FlowRunSort, TaskRunSort
from callsheet.exceptions import ObjectNotFound
from callsheet.states import Completed, StateType
from reading import ask, names


@pytest.fixture(params=["file", "memory"], autouse=True)
def store(request, monkeypatch):
    """Keep the history of every test once in a file and once in memory."""
    if request.param == "memory":
        monkeypatch.setenv("CALLSHEET_DATABASE", ":memory:")


def noon(day: int) -> datetime:
    return datetime(2030, 1, day, 12, tzinfo=UTC)


@task
async def pick(fruit: str) -> str:
    if fruit == "lemon":
        raise ValueError("sour")
    return fruit


@flow(name="orchard", flow_run_name="{run}")
async def orchard(run: str, fruit: str) -> None:
    with tags(f"tag-{fruit}"):
        await pick.with_options(task_run_name=fruit)(fruit)


@flow(name="barn", flow_run_name="{run}")
async def barn(run: str) -> State[None]:
    return Completed(name="Stored")


@pytest.fixture
async def runs(anyio_backend):
    with tags("early"):
        await orchard("one", "apple")
    with tags("late"):
        await orchard("two", "lemon", return_state=True)
        with tags("wet"):
            await barn("three")
    await barn("four")


BY_FLOW_RUN = [
    ({}, "one two three four"),
    ({"name": {"any_": ["one", "four", "nobody"]}}, "one four"),
    ({"name": {"like_": "O"}}, "one two four"),
    ({"name": {"any_": []}}, ""),
    ({"state": {"type": {"any_": ["FAILED"]}}}, "two"),
    ({"state": {"type": {"not_any_": ["FAILED"]}}}, "one three four"),
    ({"state": {"name": {"any_": ["Stored", "Failed"]}}}, "two three four"),
    ({"state": {"name": {"not_any_": ["Completed"]}}}, "two three four"),
    ({"state": {"name": {"not_any_": ["Stored"]}}}, "one two"),
    ({"tags": {"all_": ["late", "wet"]}}, "three"),
    ({"tags": {"any_": ["early", "wet"]}}, "one three"),
    ({"tags": {"is_null_": True}}, "four"),
    ({"tags": {"is_null_": False}, "state": {"type": {"any_": ["COMPLETED"]}}}, "one three"),
    ({"start_time": {"after_": noon(1)}}, ""),
    ({"start_time": {"before_": noon(1), "is_null_": False}}, "one two three four"),
    ({"start_time": {"is_null_": True}}, ""),
    ({"end_time": {"is_null_": False}}, "one two three four"),
    ({"end_time": {"before_": noon(1)}}, "one two three four"),
    ({"end_time": {"after_": noon(1)}}, ""),
    ({"expected_start_time": {"before_": noon(1).isoformat()}}, "one two three four"),
    ({"expected_start_time": {"after_": noon(1).isoformat()}}, ""),
    ({"parent_task_run_id": {"is_null_": True}}, "one two three four"),
    ({"parent_task_run_id": {"is_null_": False}}, ""),
    ({"parent_task_run_id": {"any_": [str(new_id())]}}, ""),
]


@pytest.mark.anyio
@pytest.mark.usefixtures("runs")
async def test_flow_runs_are_filtered():
    for where, expected in BY_FLOW_RUN:
        assert await names("read_flow_runs", flow_run_filter=where) == expected.split(), where
        assert await ask("count_flow_runs", flow_run_filter=where) == len(expected.split()), where


@pytest.mark.anyio
@pytest.mark.usefixtures("runs")
async def test_runs_are_filtered_by_what_is_around_and_in_them():
    assert await names("read_flow_runs", flow_filter={"name": {"any_": ["barn"]}}) == ["three", "four"]
    assert await names("read_flow_runs", flow_filter={"name": {"like_": "ORCH"}}) == ["one", "two"]
    assert await names("read_flow_runs", flow_filter={"id": {"any_": [flow_id("orchard")]}}) == ["one", "two"]
    assert await names("read_flow_runs", task_run_filter={"tags": {"any_": ["tag-lemon"]}}) == ["two"]
    lemons = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.FAILED])))
    assert await names("read_task_runs", flow_run_filter=lemons) == ["lemon"]
    assert await names("read_task_runs", flow_filter={"name": {"any_": ["barn"]}}) == []
    early = FlowRunFilter(tags=FlowRunFilterTags(all_=["early"]))
    assert await names("read_task_runs", flow_filter={"name": {"any_": ["orchard"]}}, flow_run_filter=early) == [
        "apple"
    ]
    one = (await ask("read_flow_runs", flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=["one"]))))[0]
    inside = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[one.id]))
    assert await names("read_task_runs", task_run_filter=inside) == ["apple"]
    apple = TaskRunFilter(name=TaskRunFilterName(like_="APP"))
    assert await ask("count_flow_runs", task_run_filter=apple) == await ask("count_task_runs", task_run_filter=apple)
    assert await names("read_flow_runs", flow_run_filter={"id": {"not_any_": [one.id]}}) == ["two", "three", "four"]
    assert await ask("count_task_runs_by_state") == {"Completed": 1, "Failed": 1}
    assert await ask("count_flow_runs_by_state") == {"Completed": 1, "Failed": 1, "Stored": 2}


@pytest.mark.anyio
@pytest.mark.usefixtures("runs")
async def test_runs_are_read_in_order_and_in_pages():
    by_name = ["four", "one", "three", "two"]
    in_time = ["one", "two", "three", "four"]
    orders = {
        None: in_time,
        FlowRunSort.ID_ASC: in_time,
        "ID_DESC": in_time[::-1],
        FlowRunSort.NAME_ASC: by_name,
        FlowRunSort.NAME_DESC: by_name[::-1],
        FlowRunSort.START_TIME_ASC: in_time,
        FlowRunSort.START_TIME_DESC: in_time[::-1],
        FlowRunSort.EXPECTED_START_TIME_ASC: in_time,
        FlowRunSort.EXPECTED_START_TIME_DESC: in_time[::-1],
        FlowRunSort.END_TIME_DESC: in_time[::-1],
    }
    for sort, expected in orders.items():
        assert await names("read_flow_runs", sort=sort) == expected, sort
        assert await names("read_flow_runs", sort=sort, limit=2, offset=1) == expected[1:3], sort
        found, cursor = [], None
        while len(found) < 4:
            page = await ask("read_flow_runs", sort=sort, limit=1, cursor=cursor)
            found += [run.name for run in page]
            cursor = page.cursor
        assert (found, cursor) == (expected, None)
    assert await names("read_task_runs", sort=TaskRunSort.NAME_DESC) == ["lemon", "apple"]
    assert await names("read_flow_runs", limit=0) == []


@pytest.mark.anyio
@pytest.mark.usefixtures("runs")
async def test_flows_are_known_by_their_runs():
    async def found(**where: object) -> list[str]:
        return [one.name for one in await ask("read_flows", **where)]

    assert await found() == ["barn", "orchard"]
    assert await found(sort="CREATED_ASC") == ["orchard", "barn"]
    assert await found(sort="NAME_DESC", limit=1) == ["orchard"]
    assert await found(flow_run_filter={"name": {"any_": ["three"]}}) == ["barn"]
    assert await found(task_run_filter={"name": {"any_": ["apple"]}}) == ["orchard"]
    assert await found(flow_filter={"name": {"any_": ["barn"]}}, offset=1) == []
    one = await ask("read_flow_by_name", "orchard")
    assert one == await ask("read_flow", one.id) == await ask("read_flow", str(flow_id("orchard")))
    (oldest,) = await ask("read_flow_runs", limit=1)
    assert (oldest.flow_id, oldest.created) == (one.id, one.created)
    for question, missing in (("read_flow_by_name", "attic"), ("read_flow", uuid4())):
        with pytest.raises(ObjectNotFound, match=str(missing)):
            await ask(question, missing)


@pytest.mark.anyio
async def test_what_makes_no_sense_is_refused():
    for where, complaint in (
        ({"colour": 1}, "flow_run_filter: .*unknown field `colour`"),
        ({"name": {"any": ["a"]}}, "unknown field `any`"),
        ({"name": {"any_": "a"}}, r"flow_run_filter: Expected `array .*name\.any_"),
        ({"state": {"type": {"any_": ["DONE"]}}}, "Invalid enum value 'DONE'"),
        ({"start_time": {"after_": "2030-01-01T12:00:00"}}, "FlowRunFilterStartTime.after_: .*has no time zone"),
    ):
        with pytest.raises(ValueError, match=complaint):
            await ask("read_flow_runs", flow_run_filter=where)
    with pytest.raises(ValueError, match=r"FlowRunFilterName\.any_: Expected `str`, got `int`"):
        FlowRunFilterName(any_=[1])
    with pytest.raises(TypeError, match="Expected FlowRunFilter or a mapping for 'flow_run_filter'; got list"):
        await ask("read_flow_runs", flow_run_filter=[])
    with pytest.raises(ValueError, match="'SIDEWAYS' is no FlowRunSort; choose one of ID_ASC"):
        await ask("read_flow_runs", sort="SIDEWAYS")
    with pytest.raises(NotImplementedError, match="NEXT_SCHEDULED"):
        await ask("read_task_runs", sort=TaskRunSort.NEXT_SCHEDULED_START_TIME_ASC)
    with pytest.raises(ValueError, match="'limit' must be at least 0, not -1"):
        await ask("read_task_runs", limit=-1)
    for sort in ("NAME_ASC", "ID_DESC", "END_TIME_DESC"):
        with pytest.raises(ValueError, match="cursor"):
            await ask("read_flow_runs", sort=sort, cursor=b"elsewhere")
