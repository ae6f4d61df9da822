"""Retrying, restarting and forking flow runs: what has completed is not run again, and its task runs stay the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from callsheet import Engine, flow, get_client, patched, runtime, task
from callsheet.exceptions import MissingContextError, ObjectNotFound, RunNotRepeatable
from callsheet.flow_runs import (
    afork_flow_run,
    arestart_flow_run,
    aretry_flow_run,
    fork_flow_run,
    restart_flow_run,
    retry_flow_run,
    wait_for_flow_run,
)
from callsheet.testing import check_history
from past import runs, states_of
from reviving_helpers import Doings, Lives, doings, lives

__all__ = ["doings", "lives"]


class World:
    """What bodies did, and what goes wrong at the moment."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.broken: set[str] = set()

    def do(self, name: str) -> str:
        """Do something, once more."""
        self.done.append(name)
        if name in self.broken:
            raise ValueError(f"{name} is broken")
        return name

    def forget(self) -> None:
        """Begin to count anew."""
        self.done = []


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def order(world: World) -> Any:
    @task
    def check(item: str) -> str:
        return world.do(f"check {item}")

    @task
    def charge() -> str:
        return world.do("charge")

    @task
    def ship() -> str:
        return world.do("ship")

    @flow(name="order")
    def order(item: str = "tea") -> list[str]:
        return [check(item), charge(), ship()]

    return order


def ended(run: Any) -> Any:
    """Give a flow run when it has ended."""
    return asyncio.run(wait_for_flow_run(run.id, timeout=50))


def id_of(state: Any) -> Any:
    return state.state_details.flow_run_id


def test_a_retry_runs_what_did_not_complete(world: World, order: Any) -> None:
    world.broken = {"charge"}
    failed = order(return_state=True)
    assert world.done == ["check tea", "charge"]
    world.broken, world.done = set(), []
    run = ended(retry_flow_run(id_of(failed), flow=order))
    assert run.id == id_of(failed)
    assert run.state_name == "Completed"
    assert world.done == ["charge", "ship"]
    assert run.run_count == 2
    assert states_of(run.id) == ["Pending", "Running", "Failed", "AwaitingRetry", "Pending", "Running", "Completed"]
    made = [one.definition.name for one in runs(flow_run_ids=(run.id,))]
    assert made == ["check", "charge", "charge", "ship"]
    assert check_history() == []


def test_a_retry_can_fail_and_be_retried(world: World, order: Any) -> None:
    world.broken = {"ship"}
    failed = order(return_state=True)
    run = ended(retry_flow_run(id_of(failed), flow=order))
    assert run.state_name == "Failed"
    world.broken, world.done = set(), []
    assert ended(retry_flow_run(run.id, flow=order)).state_name == "Completed"
    assert world.done == ["ship"]


def test_a_restart_runs_everything_from_a_task_on(world: World, order: Any) -> None:
    done = order(return_state=True)
    world.forget()
    run = ended(restart_flow_run(id_of(done), "charge", flow=order))
    assert run.state_name == "Completed"
    assert world.done == ["charge", "ship"]
    world.forget()
    ended(restart_flow_run(run.id, flow=order))
    assert world.done == ["check tea", "charge", "ship"]
    assert check_history() == []
    assert len([one for one in runs(flow_run_ids=(run.id,)) if one.definition.name == "check"]) == 2


def test_a_restart_takes_a_task_by_whatever_names_it(world: World, order: Any) -> None:
    done = order(return_state=True)
    (ship,) = [one for one in runs(flow_run_ids=(id_of(done),)) if one.definition.name == "ship"]
    for name in (ship.id, str(ship.id), ship.name, "ship"):
        world.forget()
        ended(restart_flow_run(id_of(done), name, flow=order))
        assert world.done == ["ship"]


def test_a_fork_is_a_run_of_its_own(world: World, order: Any) -> None:
    done = order(return_state=True)
    world.forget()
    run = ended(fork_flow_run(id_of(done), "ship", flow=order))
    assert run.id != id_of(done)
    assert run.forked_from == id_of(done)
    assert run.state_name == "Completed"
    assert run.parameters == {"item": "tea"}
    assert world.done == ["ship"]
    assert [one.definition.name for one in runs(flow_run_ids=(run.id,))] == ["ship"]
    assert states_of(done) == ["Pending", "Running", "Completed"]
    world.forget()
    again = ended(fork_flow_run(run.id, flow=order))
    assert world.done == []
    assert again.forked_from == run.id
    assert check_history() == []


def test_a_fork_with_other_parameters_runs_what_depends_on_them(world: World, order: Any) -> None:
    done = order("tea", return_state=True)
    world.forget()
    run = ended(fork_flow_run(id_of(done), parameters={"item": "coffee"}, flow=order))
    assert run.parameters == {"item": "coffee"}
    assert world.done == ["check coffee", "charge", "ship"]


def changed(world: World, body: Callable[[Any], Any], on_change: Any = "rerun") -> Any:
    """Give another version of a flow of two tasks."""

    @task
    def one(x: int) -> int:
        world.do(f"one {x}")
        return x

    @task
    def two(x: int) -> int:
        world.do(f"two {x}")
        return x

    @task
    def last() -> None:
        world.do("last")

    @task
    def spare() -> int:
        world.do("spare")
        return 1

    class Tasks:
        pass

    tasks: Any = Tasks()
    tasks.one, tasks.two, tasks.last, tasks.spare = one, two, last, spare

    @flow(name="versions", on_change=on_change)
    def versions() -> Any:
        return body(tasks)

    return versions


def first_version(tasks: Any) -> int:
    total = tasks.one(1) + tasks.two(2)
    tasks.last()
    return total


def test_inputs_that_changed_make_what_follows_run_again(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)
    world.broken, world.done = set(), []

    def body(tasks: Any) -> int:
        total = tasks.one(10) + tasks.two(2)
        tasks.last()
        return total

    run = ended(retry_flow_run(id_of(failed), flow=changed(world, body)))
    assert run.state_name == "Completed"
    assert world.done == ["one 10", "two 2", "last"]


def test_calls_that_are_new_make_what_follows_run_again(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)
    world.broken, world.done = set(), []

    def body(tasks: Any) -> int:
        total = tasks.one(1) + tasks.one(5) + tasks.two(2)
        tasks.last()
        return total

    ended(retry_flow_run(id_of(failed), flow=changed(world, body)))
    assert world.done == ["one 5", "two 2", "last"]


def test_a_change_can_be_an_error_that_says_what_differs(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)

    def body(tasks: Any) -> int:
        return tasks.one(10) + tasks.two(2)

    run = ended(retry_flow_run(id_of(failed), flow=changed(world, body, "fail")))
    assert run.state_name == "Failed"
    assert "'one' was called with other inputs" in run.state.message
    assert "callsheet.patched" in run.state.message


def test_a_change_can_be_ignored(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)
    world.broken, world.done = set(), []

    def body(tasks: Any) -> int:
        total = tasks.one(10) + tasks.two(2)
        tasks.last()
        return total

    ended(retry_flow_run(id_of(failed), flow=changed(world, body, "ignore")))
    assert world.done == ["last"]


def in_other_order(tasks: Any) -> int:
    total = tasks.two(2) + tasks.one(1)
    tasks.last()
    return total


def test_calls_that_were_swapped_are_a_change(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)
    world.broken, world.done = set(), []
    run = ended(retry_flow_run(id_of(failed), flow=changed(world, in_other_order, "fail")))
    assert run.state_name == "Failed"
    assert "it calls 'one' after 'two', and the calls are recorded in the other order" in run.state.message
    assert world.done == []


def test_calls_that_were_swapped_run_again_from_there(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)
    world.broken, world.done = set(), []
    run = ended(retry_flow_run(id_of(failed), flow=changed(world, in_other_order)))
    assert run.state_name == "Completed"
    assert world.done == ["one 1", "last"]


def test_calls_that_were_swapped_can_be_ignored(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)
    world.broken, world.done = set(), []
    ended(retry_flow_run(id_of(failed), flow=changed(world, in_other_order, "ignore")))
    assert world.done == ["last"]


def with_the_same_key(world: World, on_change: Any = "rerun") -> tuple[Any, Any]:
    """Give two versions of a flow whose own code differs."""

    @task
    def one(x: int) -> int:
        world.do(f"one {x}")
        return x

    @task
    def two(x: int) -> int:
        world.do(f"two {x}")
        return x

    def before() -> Any:
        @flow(name="written", on_change=on_change)
        def written() -> int:
            total = sum(future.result() for future in one.map([1, 2])) + two(3)
            world.do("end")
            return total

        return written

    def after() -> Any:
        @flow(name="written", on_change=on_change)
        def written() -> int:
            total = two(3) + sum(future.result() for future in one.map([1, 2]))
            world.do("end")
            return total

        return written

    first, second = before(), after()
    second._entrypoint = first._entrypoint
    return first, second


@pytest.mark.parametrize(
    ("on_change", "done"), [("rerun", ["two 3", "one 1", "one 2", "end"]), ("ignore", ["end"]), ("fail", [])]
)
def test_code_that_is_written_in_another_order(world: World, on_change: Any, done: list[str]) -> None:
    first, second = with_the_same_key(world, on_change)
    world.broken = {"end"}
    failed = first(return_state=True)
    world.broken, world.done = set(), []
    run = ended(retry_flow_run(id_of(failed), flow=second))
    assert sorted(world.done) == sorted(done)
    if on_change == "fail":
        assert "it calls 'two' where a call of 'one' is recorded, which comes later or not at all" in run.state.message


def test_unchanged_code_that_goes_another_way_is_no_change(world: World) -> None:
    def body(tasks: Any) -> int:
        try:
            total = tasks.one(1)
        except ValueError:
            total = tasks.spare()
        total += tasks.two(2)
        tasks.last()
        return total

    world.broken = {"one 1", "last"}
    version = changed(world, body, "fail")
    failed = version(return_state=True)
    assert world.done == ["one 1", "spare", "two 2", "last"]
    world.broken, world.done = set(), []
    run = ended(retry_flow_run(id_of(failed), flow=version))
    assert (run.state_name, world.done) == ("Completed", ["one 1", "last"])


def test_a_call_that_was_missing_may_come_before_those_that_were_not(world: World) -> None:
    def body(tasks: Any) -> int:
        try:
            tasks.one(1)
        except ValueError:
            pass
        total = tasks.two(2)
        tasks.last()
        return total

    version = changed(world, body, "fail")
    world.broken = {"one 1", "last"}
    failed = version(return_state=True)
    for broken in ({"last"}, set[str]()):
        world.broken, world.done = broken, []
        run = ended(retry_flow_run(id_of(failed), flow=version))
    assert (run.state_name, world.done) == ("Completed", ["last"])


def test_what_was_patched_on_purpose_leaves_old_runs_their_way(world: World) -> None:
    world.broken = {"last"}
    failed = changed(world, first_version)(return_state=True)
    world.broken, world.done = set(), []

    def body(tasks: Any) -> int:
        total = tasks.one(1)
        if patched("more"):
            total += tasks.one(100)
        total += tasks.two(2)
        tasks.last()
        return total

    version = changed(world, body, "fail")
    assert ended(retry_flow_run(id_of(failed), flow=version)).state_name == "Completed"
    assert world.done == ["last"]
    world.forget()
    assert version() == 103
    assert world.done == ["one 1", "one 100", "two 2", "last"]


def test_patched_is_for_flows() -> None:
    with pytest.raises(MissingContextError, match="bodies of flows"):
        patched("anything")


def test_a_call_with_a_key_of_its_own_is_found_wherever_it_is_made(world: World) -> None:
    def body(tasks: Any) -> Any:
        charge = tasks.one.with_options(journal_key="the charge")
        return [charge(1), tasks.last()]

    def swapped(tasks: Any) -> Any:
        tasks.two(7)
        return [tasks.one.with_options(journal_key="the charge")(1), tasks.last()]

    world.broken = {"last"}
    failed = changed(world, body)(return_state=True)
    world.broken, world.done = set(), []
    ended(retry_flow_run(id_of(failed), flow=changed(world, swapped, "ignore")))
    assert world.done == ["two 7", "last"]


def test_attempts_of_one_call_share_a_token_and_others_have_another() -> None:
    tokens: list[str | None] = []

    @task(retries=1)
    def pay(broken: bool) -> None:
        tokens.append(runtime.task_run.idempotency_token)
        if broken and len(tokens) == 1:
            raise ValueError("once")

    @flow
    def paying() -> None:
        pay(True)
        pay(False)

    paying()
    first, again, other = tokens
    assert first == again != other
    assert first is not None
    assert len(first) == 32
    pay(False)
    assert tokens[-1] is None
    failed_tokens = tokens[:]
    tokens.clear()
    tokens.append(None)
    paying()
    assert tokens[1] not in failed_tokens


@pytest.mark.parametrize("verb", [retry_flow_run, restart_flow_run, fork_flow_run])
def test_runs_that_there_are_not(verb: Any) -> None:
    with pytest.raises(ObjectNotFound, match="no flow run"):
        verb(uuid4())


def test_what_cannot_be_run_again_is_told_why(order: Any, world: World) -> None:
    done = order(return_state=True)
    with pytest.raises(RunNotRepeatable, match="It has completed"):
        retry_flow_run(id_of(done), flow=order)
    with pytest.raises(RunNotRepeatable, match=r"No engine that is alive knows the flow .*order"):
        restart_flow_run(id_of(done))
    with pytest.raises(ObjectNotFound, match="'check', 'charge', 'ship'"):
        restart_flow_run(id_of(done), "fly", flow=order)
    with pytest.raises(RunNotRepeatable, match="is one of"):
        restart_flow_run(id_of(done), flow=changed(world, first_version))
    with pytest.raises(RunNotRepeatable, match="stored as JSON"):
        fork_flow_run(id_of(done), parameters={"item": object()}, flow=order)


def test_runs_that_have_not_ended_and_subflows_are_refused() -> None:
    refused: list[str] = []

    @flow
    def inner() -> Any:
        return runtime.flow_run.id

    @flow
    def outer() -> Any:
        try:
            restart_flow_run(runtime.flow_run.id, flow=outer)
        except RunNotRepeatable as error:
            refused.append(str(error))
        return inner()

    below = outer()
    assert "has not ended" in refused[0]
    with pytest.raises(RunNotRepeatable, match="a subflow's"):
        retry_flow_run(below, flow=inner)


@pytest.mark.anyio
async def test_all_of_it_in_async_code() -> None:
    world = World()

    @task
    async def one() -> str:
        return world.do("one")

    @task
    async def two() -> str:
        return world.do("two")

    @flow
    async def both() -> list[str]:
        first = one.submit()
        return [await first, *(two.map([]).result() if False else [await two()])]

    async with Engine(database=":memory:", flows=[both]):
        world.broken = {"two"}
        failed = await both(return_state=True)
        world.broken, world.done = set(), []
        run = await wait_for_flow_run((await aretry_flow_run(id_of(failed))).id, timeout=50)
        assert (run.state_name, world.done) == ("Completed", ["two"])
        world.forget()
        await wait_for_flow_run((await arestart_flow_run(run.id, two)).id, timeout=50)
        assert world.done == ["two"]
        forked = await wait_for_flow_run((await afork_flow_run(run.id, one)).id, timeout=50)
        assert forked.forked_from == run.id
        async with get_client() as client:
            assert (await client.read_flow_run(forked.id)).forked_from == run.id


def test_a_restart_that_is_cut_off_goes_on_with_what_it_was_to_take_over(lives: Lives, doings: Doings) -> None:
    restarted = False

    @task
    def one() -> int:
        doings.done.append("one")
        return 1

    @task
    def two(x: int) -> int:
        doings.done.append("two")
        return x + 1

    @task
    def three(x: int) -> int:
        doings.done.append("three")
        if restarted:
            doings.cut()
        return x + 1

    @flow
    def counting() -> int:
        return three(two(one()))

    first = counting(return_state=True)
    doings.done.clear()
    restarted = True
    assert ended(restart_flow_run(id_of(first), "two", flow=counting)).state_name == "Completed"
    run = doings.again(counting)
    assert run.state.result() == 3
    assert doings.done == ["three"]
    assert lives.states(run.cell.id)[3:] == ["AwaitingRetry", "Pending", "Running", "Pending", "Running", "Completed"]
