"""Names and tags of runs: what they are called, and which tags they carry, in the body and in history."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from callsheet import State, flow, runtime, tags, task
from callsheet.context import FlowRunContext, TaskRunContext, current_tags
from past import runs


def task_name() -> str:
    return runtime.task_run.name


def flow_name() -> str:
    return runtime.flow_run.name


@task
def say_tags() -> list[str]:
    context = TaskRunContext.get()
    assert context is not None
    assert context.task_run.tags == runtime.task_run.tags
    return sorted(context.task_run.tags)


@task
async def asay_tags() -> list[str]:
    return sorted(runtime.task_run.tags)


@flow
def flow_tags() -> list[str]:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run.tags == runtime.flow_run.tags
    return sorted(context.flow_run.tags)


# ------------------------------------------------------------------------------------------------- names


def test_names_without_a_template() -> None:
    @task
    def my_task() -> str:
        return task_name()

    @flow
    def my_flow() -> tuple[str, str, str, str]:
        return flow_name(), my_task(), my_task.submit().result(), runtime.flow_run.flow_name

    name, called, submitted, flows = my_flow()
    assert re.fullmatch(r"[a-z]+-[a-z]+", name)
    assert re.fullmatch(r"my_task-[0-9a-f]{3}", called)
    assert re.fullmatch(r"my_task-[0-9a-f]{3}", submitted)
    assert flows == "my-flow"
    assert my_task() == "my_task"
    assert {run.name for run in runs()} == {name, called, submitted, "my_task"}


def test_runs_of_one_moment_have_names_of_their_own() -> None:
    @task
    def work(n: int) -> str:
        return runtime.task_run.name

    @flow
    def around() -> list[str]:
        return work.map(range(20)).result()

    # Three digits are few, and a step that is a multiple of 4096 is not impossible: five tries.
    assert max(len(set(around())) for _ in range(5)) > 15


def test_the_end_of_a_default_name_begins_the_dynamic_key() -> None:
    @task
    def work() -> Any:
        return TaskRunContext.get().task_run  # type: ignore[union-attr]

    @flow
    def outer() -> Any:
        return work()

    made = outer()
    assert made.name == f"work-{made.dynamic_key[:3]}"


@dataclass
class Person:
    name: str
    roles: dict[str, str]


@pytest.mark.anyio
async def test_templates_see_resolved_parameters_and_defaults() -> None:
    template = "{who.name}|{who.roles[first]}|{count:03d}|{rest}|{more}"

    @task(task_run_name=template)
    def work(who: Person, *rest: int, count: int = 7, **more: int) -> str:
        return task_name()

    @task(task_run_name=template)
    async def awork(who: Person, *rest: int, count: int = 7, **more: int) -> str:
        return task_name()

    @flow(flow_run_name=template)
    async def outer(who: Person, *rest: int, count: int = 7, **more: int) -> list[str]:
        made = produce.submit()
        return [flow_name(), work(who), await awork(who), work.submit(made, 1, z=2).result()]

    @task
    def produce() -> Person:
        return ada

    ada = Person("ada", {"first": "host"})
    expected = "ada|host|007|()|{}"
    assert await outer(ada) == [expected, expected, expected, "ada|host|007|(1,)|{'z': 2}"]


def test_names_show_coerced_parameters() -> None:
    @flow(flow_run_name="{x!r}")
    def run(x: int) -> str:
        return flow_name()

    assert run("7") == "7"  # type: ignore[arg-type]


def test_methods_name_their_runs_after_the_object() -> None:
    class Shop:
        a = "north"

        @task(task_run_name="{self.a}|{x}")
        def sell(self, x: int) -> str:
            return task_name()

        @flow(flow_run_name="{self.a}-{x}")
        def open(self, x: int) -> str:
            return f"{flow_name()} {self.sell(x)}"

    assert Shop().open(3) == "north-3 north|3"


@pytest.mark.anyio
async def test_callables_name_runs_and_already_see_the_run() -> None:
    def plain() -> str:
        return f"plain-{runtime.flow_run.parameters['x']}"

    def given(parameters: dict[str, Any]) -> str:
        return f"given-{parameters['x']}-{runtime.task_run.parameters['x']}"

    @task(task_run_name=given)
    async def work(x: int) -> str:
        return task_name()

    @flow(flow_run_name=plain)
    async def outer(x: int) -> tuple[str, str]:
        return flow_name(), await work(x + 1)

    assert await outer(1) == ("plain-1", "given-2-2")


def test_a_name_is_made_once_for_all_attempts() -> None:
    asked: list[str] = []

    def name() -> str:
        asked.append("name")
        return f"run-{len(asked)}"

    @task(task_run_name=name, retries=2)
    def work() -> None:
        seen.append(task_name())
        raise ValueError

    @flow(flow_run_name=name, retries=1)
    def outer() -> None:
        seen.append(flow_name())
        raise ValueError

    seen: list[str] = []
    work(return_state=True)
    assert seen == ["run-1"] * 3
    outer(return_state=True)
    assert seen[3:] == ["run-2"] * 2
    assert len(asked) == 2


@pytest.mark.parametrize("awaits", [False, True])
def test_a_callable_that_gives_no_string_fails_its_run(awaits: bool) -> None:
    def unnamed() -> None: ...

    async def awaited() -> str:
        return "no"

    name = awaited if awaits else unnamed
    kind = "coroutine" if awaits else "NoneType"

    @task(task_run_name=name)
    def work() -> None: ...

    @flow(flow_run_name=name)
    def outer() -> None: ...

    for call, option in ((work, "task_run_name"), (outer, "flow_run_name")):
        state: State[Any] = call(return_state=True)
        assert state.is_failed()
        message = rf"Callable <function .*> for '{option}' returned type {kind} but a string is required\."
        with pytest.raises(TypeError, match=message):
            state.result()


def test_a_template_that_was_assigned_later_is_checked_at_the_run() -> None:
    @task
    def work() -> None: ...

    @flow
    def outer() -> None: ...

    work.task_run_name = 7  # type: ignore[assignment]
    outer.flow_run_name = 7  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"Expected string or callable for 'task_run_name'; got int instead\."):
        work()
    with pytest.raises(TypeError, match=r"Expected string or callable for 'flow_run_name'; got int instead\."):
        outer()


def test_a_template_that_names_nothing_known_fails_the_run_and_says_what_is_known() -> None:
    @task(task_run_name="{y}")
    def work(x: int) -> None: ...

    state = work(1, return_state=True)
    assert state.is_failed()
    with pytest.raises(KeyError) as caught:
        state.result()
    assert "the run's parameters are: x" in caught.value.__notes__[0]


def test_options_name_runs_anew() -> None:
    @task(task_run_name="old")
    def work() -> str:
        return task_name()

    @flow(flow_run_name="old")
    def outer() -> str:
        return flow_name()

    assert (work(), work.with_options(task_run_name="new")(), work.with_options(name="x")()) == ("old", "new", "old")
    assert work.with_options(task_run_name=None, name="bare")() == "bare"
    assert (outer(), outer.with_options(flow_run_name="new")()) == ("old", "new")
    assert outer.with_options(flow_run_name="")() == "old"
    assert {run.name for run in runs()} == {"old", "new", "bare"}


# ------------------------------------------------------------------------------------------------- tags


def test_blocks_unite_and_end() -> None:
    with tags("a", "b"):
        assert current_tags() == {"a", "b"}
        with tags("b", "c") as now:
            assert now == {"a", "b", "c"}
            assert say_tags() == flow_tags() == ["a", "b", "c"]
        assert say_tags() == ["a", "b"]
    assert say_tags() == flow_tags() == []


def test_a_block_ends_with_an_error_too() -> None:
    with pytest.raises(ValueError, match="no"), tags("a"):
        raise ValueError("no")
    assert say_tags() == []


@pytest.mark.anyio
async def test_a_tasks_tags_are_its_own_those_of_the_block_and_those_of_the_flow_run() -> None:
    own = say_tags.with_options(tags={"own"})
    aown = asay_tags.with_options(tags=["own"])

    @flow
    async def outer() -> list[list[str]]:
        with tags("block"):
            futures = [own.submit(), aown.submit()]
            called = [own(), await aown()]
        return [future.result() for future in futures] + called + [own(), await aown()]

    with tags("flow"):
        inside, after = ["block", "flow", "own"], ["flow", "own"]
        assert await outer() == [inside] * 4 + [after] * 2
    assert own() == await aown() == ["own"]
    assert own.tags == {"own"}


@pytest.mark.anyio
async def test_subflows_have_the_tags_around_them() -> None:
    @flow
    async def outer() -> tuple[list[str], list[str]]:
        with tags("inner"):
            return flow_tags(), flow_tags.submit().result()

    with tags("outer"):
        assert await outer() == (["inner", "outer"],) * 2
    assert flow_tags() == []


def test_mapped_runs_have_the_tags_of_where_they_were_mapped() -> None:
    @task
    def item(_: int) -> list[str]:
        return sorted(runtime.task_run.tags)

    @flow
    def outer() -> list[list[str]]:
        with tags("map"):
            futures = item.map(range(3))
        return futures.result()

    assert outer() == [["map"]] * 3


def test_tasks_inside_tasks_have_the_tags_of_the_block_around_the_call() -> None:
    @task(tags=["parent"])
    def parent() -> list[str]:
        with tags("inside"):
            return say_tags()

    with tags("block"):
        assert parent() == ["block", "inside"]


@pytest.mark.anyio
async def test_tags_of_concurrent_tasks_do_not_mix() -> None:
    found: dict[str, list[str]] = {}

    async def work(name: str) -> None:
        with tags(name):
            await anyio.sleep(0)
            found[name] = await asay_tags()

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(work, name)
    assert found == {"a": ["a"], "b": ["b"], "c": ["c"]}


def test_options_replace_tags_or_keep_a_copy() -> None:
    tagged = say_tags.with_options(tags=["one"])
    assert tagged.with_options(name="x")() == ["one"]
    assert tagged.with_options(tags=["two"])() == ["two"]
    assert tagged.with_options(tags=[])() == ["one"]
    copy = tagged.with_options(name="y")
    copy.tags.add("more")
    assert (tagged(), copy()) == (["one"], ["more", "one"])


def test_tags_are_in_history() -> None:
    @flow
    def outer() -> None:
        with tags("block"):
            say_tags.with_options(tags=["own"])()

    with tags("flow"):
        asyncio.run(asay_tags())
        outer()
    assert [sorted(run.tags) for run in runs(tags_any=("flow",))] == [["flow"], ["flow"], ["block", "flow", "own"]]
    assert [run.definition.name for run in runs(tags_all=("flow", "block"))] == ["say_tags"]
