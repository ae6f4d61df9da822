"""Tasks and flows whose function is replaced after their definition, as tests do with what is slow or far away."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch

import pytest
from pydantic import BaseModel

from callsheet import flow, task
from callsheet.cache_policies import INPUTS, TASK_SOURCE
from callsheet.exceptions import ParameterBindError, ParameterTypeError
from callsheet.tasks import task_input_hash
from callsheet.testing import override


def plain(x: int) -> int:
    return x


@pytest.mark.parametrize("define", [task, flow])
def test_calls_are_bound_to_the_new_function(define: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    defined = define(plain)

    def other(a: int, b: int = 2) -> tuple[int, int]:
        return a, b

    with monkeypatch.context() as patched:
        patched.setattr(defined, "fn", other)
        assert defined(1) == (1, 2)
        assert defined(a=1, b=3) == (1, 3)
        with pytest.raises(ParameterBindError):
            defined(x=1)
    assert defined(x=1) == 1


@pytest.mark.parametrize("define", [task, flow])
def test_mocks_can_take_its_place(define: Any) -> None:
    defined = define(plain)
    with patch.object(defined, "fn", MagicMock(return_value=7)) as mock:
        assert defined(1) == 7
        mock.assert_called_once_with(1)
    assert defined(2) == 2


def test_of_async_ones_too() -> None:
    @task
    async def far(x: int) -> int:
        raise NotImplementedError

    far.fn = AsyncMock(return_value=7)  # type: ignore[method-assign,assignment]
    assert asyncio.run(far(1)) == 7


def test_submitted_and_mapped() -> None:
    defined = task(plain)

    def other(first: int, second: int = 0) -> int:
        return first + second

    @flow
    def main() -> Any:
        return defined.submit(first=1, second=2).result(), defined.map([1, 2], second=[3, 4]).result()

    defined.fn = other  # type: ignore[method-assign]
    assert main() == (3, [4, 6])


def test_bound_copies_have_the_function_of_the_definition() -> None:
    class Adder:
        def __init__(self, n: int) -> None:
            self.n = n

        @task
        def add(self, x: int) -> int:
            return self.n + x

    adder = Adder(1)
    assert adder.add(1) == 2
    Adder.add.fn = lambda self, y: self.n * y  # type: ignore[assignment]
    assert adder.add(y=10) == 10


@pytest.mark.parametrize("options", [{"cache_key_fn": task_input_hash}, {"cache_policy": INPUTS + TASK_SOURCE}])
def test_results_of_the_former_function_are_not_found(options: Any) -> None:
    defined = task(plain, **options) if not options else task(**options)(plain)

    def doubled(x: int) -> int:
        return 2 * x

    @flow
    def main() -> Any:
        names = [defined(1, return_state=True), defined(1, return_state=True)]
        defined.fn = doubled  # type: ignore[method-assign]
        names += [defined(1, return_state=True), defined(1, return_state=True)]
        return [(state.name, state.result()) for state in names]

    assert main() == [("Completed", 1), ("Cached", 1), ("Completed", 2), ("Cached", 2)]


def test_the_key_of_the_task_stays() -> None:
    defined, other = task(plain), task(plain)
    other.fn = lambda x: x + 1
    assert other.task_key == defined.task_key


def test_parameters_of_a_flow_are_validated_against_the_new_function() -> None:
    defined = flow(plain)
    assert defined(x="1") == 1

    def other(x: list[int]) -> list[int]:
        return x

    defined.fn = other  # type: ignore[method-assign,assignment]
    assert defined(x=["1"]) == [1]
    with pytest.raises(ParameterTypeError):
        defined(x=1)
    assert defined.parameters.properties["x"]["type"] == "array"


def test_names_of_the_scope_of_the_definition_are_still_known_afterwards() -> None:
    class Point(BaseModel):
        x: int

    @flow
    def main(point: Point) -> int:
        return point.x

    with override(main, returns=5) as stub:
        assert main({"x": "1"}) == 5  # type: ignore[arg-type]
    assert stub.calls == [((Point(x=1),), {})]
    with patch.object(main, "fn", MagicMock(return_value=7)):
        assert main({"x": "1"}) == 7  # type: ignore[arg-type]
    assert main({"x": "1"}) == 1  # type: ignore[arg-type]
