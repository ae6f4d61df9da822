"""States that a client sets: of runs that are alive, whose bodies leave, and of runs that are only stored."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import UUID

import anyio
import pytest

from callsheet import flow, get_client, task
from callsheet._clock import utc_now
from callsheet._engine import ambient
from callsheet._ids import new_id
from callsheet._model.kinds import StateType as T
from callsheet._model.records import SeqIs, StateEntered
from callsheet.client.schemas.actions import StateCreate
from callsheet.client.schemas.responses import SetStateStatus
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.exceptions import (
    CancelledRun,
    FailedRun,
)
from callsheet.states import Cancelled, Cancelling, Completed, Crashed, Failed, Paused, Pending, Running, Scheduled
from callsheet.testing import check_history
from elsewhere import other, until
from past import runs, states_of
from reading import ask


@flow
async def quick() -> int:
    return 1


@task(tags=["held"])
def held(seed: int) -> None: ...


# --------------------------------------------------------------------- states of runs that are alive


class Stage:
    """A flow with a subflow and a task, all asleep until somebody ends them."""

    def __init__(self) -> None:
        self.hooks: list[str] = []
        self.ids: dict[str, object] = {}
        self.asleep = anyio.Event()
        self.state = None

        @task
        async def sleeper() -> None:
            self.ids["task"] = TaskRunContext.get().task_run.id
            self.asleep.set()
            await anyio.sleep_forever()

        @flow(on_cancellation=[lambda *given: self.hooks.append(f"inner {given[2].name}")])
        async def inner() -> None:
            self.ids["inner"] = FlowRunContext.get().flow_run.id
            self.ids["tracking"] = FlowRunContext.get().flow_run.parent_task_run_id
            await sleeper()

        @flow(on_cancellation=[lambda *given: self.hooks.append(f"outer {given[2].name}")])
        async def outer() -> str:
            self.ids["outer"] = FlowRunContext.get().flow_run.id
            try:
                await inner()
            except CancelledRun:
                return "went on"
            return "no"

        self.outer = outer

    async def run(self) -> None:
        self.state = await self.outer(return_state=True)

    async def states(self, name: str) -> list[str]:
        question = "read_task_run_states" if name in ("task", "tracking") else "read_flow_run_states"
        return [state.name for state in await ask(question, self.ids[name])]


def _ends_come_in_order() -> None:
    """Children are ended before the runs around them, in what is on disk as well."""
    ambient.ambient_core().journal.flush()
    assert check_history() == []
    ended = {run.id: run for run in runs()}
    for run in ended.values():
        around = ended.get(run.parent_id)
        assert run.state.type.value in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
        assert around is None or run.state.at <= around.state.at, (run.name, around.name)


@pytest.mark.anyio
@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    ("proposed", "ends"),
    [
        (Cancelling, ["Cancelling", "Cancelled"]),
        (Cancelled, ["Cancelled"]),
        (lambda: Failed(message="out of seed"), ["Failed"]),
        (lambda: Crashed(message="struck by lightning"), ["Crashed"]),
        (lambda: Completed(name="Enough", data=42), ["Enough"]),
    ],
)
async def test_a_live_flow_run_is_really_ended(proposed, ends, sync):
    stage = Stage()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(stage.run)
            await stage.asleep.wait()
            state = proposed()
            async with get_client() as client:
                if sync:
                    with get_client(sync_client=True) as blocking:
                        result = blocking.set_flow_run_state(stage.ids["outer"], state)
                else:
                    result = await client.set_flow_run_state(stage.ids["outer"], state)
                assert (result.status, result.state.name) == (SetStateStatus.ACCEPT, ends[0])
                assert result.state.state_details.flow_run_id == stage.ids["outer"]
                first = (await client.read_flow_run_states(stage.ids["outer"]))[2]
                assert (first.id, first.timestamp) == (result.state.id, result.state.timestamp)
    assert (stage.state.name, stage.state.data) == (ends[-1], state.data)
    assert stage.state.message == ("The run was cancelled." if ends[0] == "Cancelling" else state.message)
    assert await stage.states("outer") == ["Pending", "Running", *ends]
    for below in ("inner", "tracking", "task"):
        assert [await stage.states(below)] == [["Pending", "Running", "Cancelled"]]
    _ends_come_in_order()
    assert stage.hooks == ["inner Cancelled", "outer Cancelled"][: 2 if ends[-1] == "Cancelled" else 1]


@pytest.mark.anyio
@pytest.mark.parametrize(("question", "name"), [("set_flow_run_state", "inner"), ("set_task_run_state", "tracking")])
async def test_a_live_subflow_is_ended_by_itself_or_by_the_task_run_that_tracks_it(question, name):
    stage = Stage()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(stage.run)
            await stage.asleep.wait()
            async with get_client() as client:
                result = await getattr(client, question)(stage.ids[name], Cancelled(message="rain"))
                assert result.status is SetStateStatus.ACCEPT
    assert (stage.state.name, stage.state.data) == ("Completed", "went on")
    for ended in ("inner", "tracking", "task"):
        assert (await stage.states(ended))[-1] == "Cancelled"


@pytest.mark.anyio
async def test_a_live_task_run_is_ended_and_its_flow_hears_of_it():
    asleep, ids = anyio.Event(), []

    @task
    async def sleeper() -> None:
        ids.append(TaskRunContext.get().task_run.id)
        asleep.set()
        await anyio.sleep_forever()

    @flow
    async def night() -> None:
        future = sleeper.submit()
        await asleep.wait()
        async with get_client() as client:
            result = await client.set_task_run_state(ids[0], Failed(message="woken"))
            assert result.status is SetStateStatus.ACCEPT
            again = await client.set_task_run_state(ids[0], Completed())
            assert (again.status, again.state) == (SetStateStatus.ABORT, None)
        await future

    with anyio.fail_after(10), pytest.raises(FailedRun, match="woken"):
        await night()
    assert [state.name for state in await ask("read_task_run_states", ids[0])] == ["Pending", "Running", "Failed"]


def test_ends_below_a_run_that_is_ended_come_before_its_own():
    """A body in a thread cannot be made to leave, and a task of it begins late: neither outlives the run on record."""
    at_work, go_on, ids, started = threading.Event(), threading.Event(), [], []

    @task
    def late() -> None:
        started.append("late")

    @task
    def stubborn() -> None:
        ids.append(FlowRunContext.get().flow_run.id)
        at_work.set()
        go_on.wait(10)
        late()

    @flow
    def outer() -> None:
        stubborn.submit().result()

    def end() -> None:
        at_work.wait(10)
        with get_client(sync_client=True) as client:
            try:
                assert client.set_flow_run_state(ids[0], Failed(message="enough")).status is SetStateStatus.ACCEPT
                (run,) = client.read_task_runs()
                assert run.state_name == "Cancelled"
            finally:
                go_on.set()

    thread = threading.Thread(target=end)
    thread.start()
    state = outer(return_state=True)
    thread.join()
    assert state.name == "Failed"
    assert not started
    _ends_come_in_order()


def test_what_a_dead_process_left_below_a_run_is_ended_first(tmp_path):
    """The same for runs that nobody runs any more."""
    with other(LEFT) as process:
        run_id = UUID(process.next("outer"))
        process.next("asleep")
        until(lambda: len(runs()) == 4)
    with get_client(sync_client=True) as client:
        assert client.set_flow_run_state(run_id, Failed(message="struck")).status is SetStateStatus.ACCEPT
    assert {run.state.name for run in runs()} == {"Failed", "Cancelled"}
    assert states_of(run_id) == ["Pending", "Running", "Failed"]
    _ends_come_in_order()


LEFT = """
@task
async def sleeper():
    say("asleep", flow_run.id)
    await asyncio.sleep(60)

@flow
async def inner():
    await sleeper()

@flow
async def outer():
    say("outer", flow_run.id)
    await inner()

asyncio.run(outer())
"""


@pytest.mark.anyio
async def test_only_a_live_run_itself_moves_on():
    @flow
    async def stubborn() -> list[object]:
        own = FlowRunContext.get().flow_run.id
        async with get_client() as client:
            results = [await client.set_flow_run_state(own, state()) for state in (Pending, Scheduled, Paused)]
            results.append(await client.set_flow_run_state(own, Running(name="Busy"), force=True))
        return results

    for result in await stubborn():
        assert result.status is SetStateStatus.ABORT
        assert "only its own body moves it on" in result.details.reason


def test_a_live_sync_run_is_ended_too():
    begun, over, ids = threading.Event(), threading.Event(), []

    @task
    def tick() -> None: ...

    @task
    def hold() -> None:
        ids.append(FlowRunContext.get().flow_run.id)
        begun.set()
        while not over.wait(0.01):
            tick()  # a thread leaves where it calls the engine

    @flow
    def siege() -> None:
        hold.submit().wait()

    def cancel() -> None:
        begun.wait(20)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(ids[0], Cancelled())

    thread = threading.Thread(target=cancel)
    alarm = threading.Timer(20, over.set)
    alarm.start()
    thread.start()
    state = siege(return_state=True)
    alarm.cancel()
    thread.join()
    assert not over.is_set()
    assert state.name == "Cancelled"
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(ids[0]).state_name == "Cancelled"


# ----------------------------------------------------------------- states of runs that are not alive


@pytest.mark.anyio
async def test_what_has_ended_stays_so_unless_forced():
    run_id = (await quick(return_state=True)).state_details.flow_run_id
    result = await ask("set_flow_run_state", run_id, Failed())
    assert (result.status, result.details.reason) == (SetStateStatus.ABORT, "The run has ended as Completed.")
    async with get_client() as client:
        result = await client.set_flow_run_state(run_id, StateCreate(type=T.FAILED, message="miscounted"), force=True)
        assert (result.status, result.state.name) == (SetStateStatus.ACCEPT, "Failed")
        run = await client.read_flow_run(run_id)
    assert (run.state_name, run.state.message, run.state_id) == ("Failed", "miscounted", result.state.id)
    assert run.state.timestamp == result.state.timestamp


@pytest.mark.anyio
async def test_a_stored_run_is_judged_by_the_same_rules():
    async with get_client() as client:
        later = utc_now() + timedelta(hours=1)
        run = await client.create_task_run(held, None, "k", state=Scheduled(scheduled_time=later))
        waiting = await client.set_task_run_state(run.id, Running())
        assert waiting.status is SetStateStatus.WAIT
        assert 3500 < waiting.details.delay_seconds <= 3600
        assert (await client.set_task_run_state(run.id, Cancelling())).status is SetStateStatus.ACCEPT
        result = await client.set_task_run_state(run.id, Completed())
        assert (result.status, result.state.type) == (SetStateStatus.REJECT, T.CANCELLED)
        assert result.details.reason == "The run was cancelled."
        names = [state.name for state in await client.read_task_run_states(run.id)]
        assert names == ["Scheduled", "Cancelling", "Cancelled"]
        assert (await client.read_task_run(run.id)).next_scheduled_start_time is None


@pytest.mark.anyio
async def test_a_run_that_somebody_else_moved_meanwhile_is_judged_again(monkeypatch):
    async with get_client() as client:
        run = await client.create_task_run(held, None, "k")
        core = ambient.ambient_core()
        commit, others = core.commit_guarded, []

        def overtaken(entry: StateEntered) -> object:
            if not others:
                others.append(
                    StateEntered(
                        run_id=run.id,
                        seq=2,
                        type=T.CANCELLED,
                        name="Cancelled",
                        at=entry.at,
                        state_id=new_id(),
                        guards=(SeqIs(run.id, 1),),
                    )
                )
                assert commit(others[0]) is None
            return commit(entry)

        monkeypatch.setattr(core, "commit_guarded", overtaken)
        result = await client.set_task_run_state(run.id, Running())
        assert (result.status, result.details.reason) == (SetStateStatus.ABORT, "The run has ended as Cancelled.")
        assert [state.name for state in await client.read_task_run_states(run.id)] == ["Pending", "Cancelled"]


@pytest.mark.parametrize("state", ["COMPLETED", None, 5])
def test_what_is_no_state_is_told(state):
    with (
        get_client(sync_client=True) as client,
        pytest.raises(TypeError, match=r"Expected a state, such as `Cancelled"),
    ):
        client.set_flow_run_state(new_id(), state)
