"""Mapping: what is iterated, what goes into every run, what each run depends on, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from callsheet import allow_failure, flow, task, unmapped
from callsheet.annotations import quote
from callsheet.exceptions import MappingLengthMismatch, MappingMissingIterable, ParameterBindError
from callsheet.futures import TaskFutureList
from past import inputs_of


@task
def pair(x: Any, y: Any = "default") -> tuple[Any, Any]:
    return x, y


@task
async def apair(x: Any, y: Any = "default") -> tuple[Any, Any]:
    await anyio.sleep(0)
    return x, y


@task
def give(x: Any) -> Any:
    return x


@task
def fail_on_two(x: int) -> int:
    if x == 2:
        raise ValueError("two")
    return x


def in_flow(body: Callable[[], Any]) -> Any:
    """Run a function as a flow, and give what it returned."""
    found: list[Any] = []

    @flow
    def around() -> None:
        found.append(body())

    around()
    return found[0]


# ------------------------------------------------------------------------------------ what is iterated


def numbers() -> Iterator[int]:
    yield from (1, 2)


@pytest.mark.parametrize(
    "items", [[1, 2], (1, 2), range(1, 3), numbers, quote([1, 2]), {1: "a", 2: "b"}.keys()],
    ids=["list", "tuple", "range", "generator", "quoted list", "view"],
)  # fmt: skip
@pytest.mark.parametrize("mapped", [pair, apair], ids=["sync", "async"])
def test_what_can_be_iterated_is(mapped: Any, items: Any) -> None:
    def body() -> Any:
        futures = mapped.map(items() if callable(items) else items)
        assert isinstance(futures, TaskFutureList)
        return futures.result()

    assert in_flow(body) == [(1, "default"), (2, "default")]


@pytest.mark.parametrize(
    "static", ["text", b"bytes", 7, None, {"a": 1}, quote(7)], ids=["str", "bytes", "int", "None", "dict", "quote"]
)
def test_what_cannot_be_or_should_not_be_is_static(static: Any) -> None:
    expected = 7 if isinstance(static, quote) else static
    assert in_flow(lambda: pair.map([1, 2], static).result()) == [(1, expected), (2, expected)]


def test_several_iterables_go_side_by_side() -> None:
    assert in_flow(lambda: pair.map([1, 2], y=["a", "b"]).result()) == [(1, "a"), (2, "b")]


def test_defaults_are_never_iterated() -> None:
    @task
    def with_list(x: int, many: tuple[int, ...] = (1, 2, 3), /, *, more: Any = (4, 5)) -> Any:
        return x, many, more

    assert in_flow(lambda: with_list.map([1]).result()) == [(1, (1, 2, 3), (4, 5))]


def test_unmapped_values_go_into_every_run_as_they_are() -> None:
    whole = [1, 2, 3]

    def body() -> None:
        for x, y in pair.map([1, 2], unmapped(whole)).result():
            assert y is whole
            assert x in (1, 2)

    in_flow(body)


def test_keywords_that_are_collected_follow_the_same_rule() -> None:
    @task
    def collects(x: int, **more: Any) -> Any:
        return x, more

    def body() -> Any:
        return collects.map([1, 2], a=["p", "q"], b="static", c=unmapped([0])).result()

    assert in_flow(body) == [
        (1, {"a": "p", "b": "static", "c": [0]}),
        (2, {"a": "q", "b": "static", "c": [0]}),
    ]


def test_nothing_in_makes_nothing_out() -> None:
    assert in_flow(lambda: give.map([]).result()) == []


def test_a_thousand() -> None:
    @task
    async def double(x: int) -> int:
        return 2 * x

    assert in_flow(lambda: double.map(range(1000)).result()) == list(range(0, 2000, 2))


# ---------------------------------------------------------------------------------- futures and states


def test_a_future_or_a_state_of_a_list_is_iterated() -> None:
    assert in_flow(lambda: give.map(give.submit([1, 2])).result()) == [1, 2]
    assert in_flow(lambda: give.map(give([1, 2], return_state=True)).result()) == [1, 2]


def test_each_run_depends_on_the_futures_of_its_own_element() -> None:
    def body() -> None:
        first = give.map([1, 2])
        second = pair.map(first, unmapped(first[0]))
        assert second.result() == [(1, 1), (2, 1)]
        for index, future in enumerate(second):
            assert inputs_of(future.task_run_id) == {"x": [first[index].task_run_id], "y": [first[0].task_run_id]}

    in_flow(body)


@pytest.mark.anyio
async def test_mapping_over_mapped_futures_in_async_flows() -> None:
    @flow
    async def around() -> Any:
        first = apair.map([1, 2], "y")
        return [await future for future in apair.map(first)], apair.map([3]).result(), await apair.map([4])

    @flow
    async def over_a_future() -> Any:
        return await apair.map(give.submit([5, 6]))

    mapped, blocking, awaited = await around()
    assert mapped == [((1, "y"), "default"), ((2, "y"), "default")]
    assert blocking == [(3, "default")]
    assert awaited == [(4, "default")]
    assert await over_a_future() == [(5, "default"), (6, "default")]


def test_a_failed_element_holds_up_only_what_depends_on_it() -> None:
    def body() -> list[str]:
        first = fail_on_two.map([1, 2, 3])
        second = give.map(first)
        second.wait()
        return [future.state.name for future in second]

    assert in_flow(body) == ["Completed", "NotReady", "Completed"]


def test_allowed_failures_are_allowed_element_by_element() -> None:
    def body() -> Any:
        one, two, three = give.map(allow_failure(fail_on_two.map([1, 2, 3]))).result()
        assert (one, three) == (1, 3)
        assert isinstance(two, ValueError)
        failed = fail_on_two.submit(2)
        for x, error in pair.map([1, 2], allow_failure(failed)).result():
            assert x in (1, 2)
            assert isinstance(error, ValueError)
        return True

    assert in_flow(body)


def test_every_run_waits_for_what_the_map_waits_for() -> None:
    def body() -> None:
        upstream = give.submit(1)
        for future in give.map([1, 2], wait_for=[upstream]):
            future.wait()
            assert inputs_of(future.task_run_id) == {"wait_for": [upstream.task_run_id]}
        held = give.map([1], wait_for=[fail_on_two.submit(2)])
        held.wait()
        assert held[0].state.name == "NotReady"

    in_flow(body)


def test_return_state_gives_states() -> None:
    states = in_flow(lambda: fail_on_two.map([1, 2], return_state=True))
    assert type(states) is list
    assert [state.name for state in states] == ["Completed", "Failed"]


def test_a_flow_that_returns_mapped_futures_has_a_list_of_states() -> None:
    @flow
    def around() -> Any:
        return give.map([1, 2])

    states = around()
    assert [state.result() for state in states] == [1, 2]


# -------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("arguments", [(1,), ("text", 2), (unmapped([1]),), (quote(1),)])
def test_something_must_be_iterable(arguments: tuple[Any, ...]) -> None:
    def body() -> None:
        with pytest.raises(MappingMissingIterable, match="No iterable parameters were received"):
            pair.map(*arguments)

    in_flow(body)


def test_lengths_must_agree() -> None:
    def body() -> None:
        with pytest.raises(MappingLengthMismatch, match="'x': 2, 'y': 3"):
            pair.map([1, 2], [1, 2, 3])

    in_flow(body)


def test_what_cannot_be_bound_is_refused_by_the_call() -> None:
    def body() -> None:
        with pytest.raises(ParameterBindError):
            pair.map([1], [2], [3])
        with pytest.raises(ParameterBindError):
            pair.map(y=[1])

    in_flow(body)


def test_deferred_runs_come_later() -> None:
    with pytest.raises(NotImplementedError, match="deferred"):
        give.map([1], deferred=True)
