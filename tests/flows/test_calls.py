"""What can be a flow or a task, and how it is called: methods, callable objects, lambdas, partial objects."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from callsheet import Flow, Task, flow, tags, task
from callsheet.context import FlowRunContext, TaskRunContext
from callsheet.futures import TaskFutureList
from callsheet.states import Completed


class Counter:
    """A plain class with a run in every kind of method."""

    def __init__(self, start: int) -> None:
        self.start = start

    @flow
    def flow_method(self, x: int = 1) -> Any:
        return self, self.start + x

    @flow
    async def aflow_method(self, x: int = 1) -> Any:
        return self, self.start + x

    @task
    def task_method(self, x: int = 1) -> Any:
        return self, self.start + x

    @task
    async def atask_method(self, x: int = 1) -> Any:
        return self, self.start + x

    @classmethod
    @flow
    def flow_of_class(cls, x: int) -> Any:
        return cls, x

    @classmethod
    @task
    def task_of_class(cls, x: int) -> Any:
        return cls, x

    @staticmethod
    @flow
    def static_flow(x: int) -> int:
        return x

    @staticmethod
    @task
    def static_task(x: int) -> int:
        return x

    @staticmethod
    @flow
    async def static_aflow(x: int) -> int:
        return x


class Model(pydantic.BaseModel):
    """The same in a pydantic model, which must be told that flows and tasks are no fields."""

    model_config = pydantic.ConfigDict(ignored_types=(Flow, Task))
    start: int

    @flow
    def flow_method(self, x: int) -> Any:
        return self, self.start + x

    @task
    def task_method(self, x: int) -> Any:
        return self, self.start + x

    @classmethod
    @flow
    def flow_of_class(cls, x: int) -> Any:
        return cls, x

    @staticmethod
    @task
    def static_task(x: int) -> int:
        return x


# ------------------------------------------------------------------------------------ methods


def test_methods_get_their_own_instance() -> None:
    first, second = Counter(10), Counter(20)
    bound = first.flow_method
    assert second.flow_method(2) == (second, 22)
    assert bound(3) == (first, 13)
    assert bound("4") == (first, 14)
    assert first.task_method(5) == (first, 15)
    assert isinstance(bound, Flow)
    assert isinstance(first.task_method, Task)
    assert Counter.flow_method(first, 1) == (first, 11)


@pytest.mark.anyio
async def test_async_methods_too() -> None:
    counter = Counter(10)

    @flow
    async def outer() -> Any:
        return [
            await counter.aflow_method(2),
            await counter.atask_method(3),
            counter.atask_method.submit(4).result(),
            counter.task_method.submit(x=5).result(),
            await counter.task_method.submit(),
            counter.task_method.map([1, 2]).result(),
        ]

    one, two, three, four, five, mapped = await outer()
    assert [one, two, three, four, five] == [(counter, n) for n in (12, 13, 14, 15, 11)]
    assert mapped == [(counter, 11), (counter, 12)]
    assert await Counter.static_aflow(3) == 3


@pytest.mark.parametrize("cls", [Counter, Model])
def test_class_methods_and_static_methods(cls: Any) -> None:
    assert cls.flow_of_class(1) == (cls, 1)
    assert cls(start=1).flow_of_class(x="2") == (cls, 2)
    assert cls.static_task(3) == 3
    assert cls(start=1).static_task(4) == 4


def test_class_methods_of_plain_classes_know_the_subclass() -> None:
    class Special(Counter):
        pass

    assert Special.flow_of_class(1) == (Special, 1)
    assert Special.task_of_class(1) == (Special, 1)
    assert Counter.static_flow("2") == 2  # type: ignore[call-overload]


def test_methods_of_pydantic_models() -> None:
    model = Model(start=1)
    returned, value = model.flow_method("2")  # type: ignore[call-overload]
    assert returned is model
    assert value == 3
    assert model.task_method(3)[0] is model


@pytest.mark.parametrize(("kind", "name"), [(flow, "flow"), (task, "task")])
@pytest.mark.parametrize("wrapper", [classmethod, staticmethod])
def test_the_other_order_of_decorators_is_refused(kind: Any, name: str, wrapper: Any) -> None:
    with pytest.raises(TypeError, match=f"@{wrapper.__name__} should be applied on top of @{name}"):
        kind(wrapper(lambda: None))


def test_methods_have_names_and_hooks_of_their_own() -> None:
    ended: list[Any] = []

    class Worker:
        @flow(flow_run_name="{self.title}-{x}", on_completion=[lambda flow, run, state: ended.append(run.name)])
        def work(self, x: int) -> Any:
            context = FlowRunContext.get()
            assert context is not None
            return context.parameters

        def __init__(self, title: str) -> None:
            self.title = title

    worker = Worker("w")
    assert worker.work(1) == {"self": worker, "x": 1}
    assert ended == ["w-1"]


# ----------------------------------------------------------------------------- other callables


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, x: int) -> int:
        return x + self.by


class AsyncAdder(Adder):
    async def __call__(self, x: int) -> int:  # type: ignore[override]
        return x + self.by


def test_callable_objects() -> None:
    definition = task(Adder(2))
    assert definition.name == "Adder"
    assert definition(3) == 5

    @flow
    def outer() -> Any:
        return definition.submit(4).result(), definition.map([1, 2]).result()

    assert outer() == (6, [3, 4])
    assert flow(Adder(3))("4") == 7  # type: ignore[call-overload]


@pytest.mark.anyio
async def test_callable_objects_with_an_async_call() -> None:
    definition: Any = task(AsyncAdder(2))
    assert definition.isasync
    assert await definition(3) == 5


def test_lambdas_and_partial_objects() -> None:
    anonymous: Any = flow(lambda x: x + 1)
    assert anonymous.name == "unknown-lambda"
    assert anonymous(1) == 2
    assert task(lambda x: x + 1)(1) == 2
    assert task(functools.partial(Adder(1), 5), name="six")() == 6


def test_builtin_functions() -> None:
    assert task(len)([1, 2]) == 2


@pytest.mark.anyio
async def test_wrapped_functions_are_called_through_their_wrapper() -> None:
    def twice(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return fn(*args, **kwargs) * 2

        return wrapper

    @flow
    @twice
    def body(x: int, y: int = 2) -> int:
        return x + y

    assert body("1", y=3) == 8  # type: ignore[call-overload]


# ------------------------------------------------------------------------------- ways of calling


def test_return_state_gives_the_state_everywhere() -> None:
    @task
    def one() -> int:
        return 1

    @flow
    def outer() -> Any:
        return [state.result() for state in (one(return_state=True), one.submit(return_state=True))]

    assert outer() == [1, 1]
    assert outer(return_state=True).result() == [1, 1]


def test_map_gives_futures_or_states() -> None:
    @task
    def plus(x: int) -> int:
        return x + 1

    @flow
    def outer() -> None:
        futures = plus.map([1, 2])
        assert isinstance(futures, TaskFutureList)
        assert futures.result() == [2, 3]
        states = plus.map([1, 2], return_state=True)
        assert type(states) is list
        assert [state.result() for state in states] == [2, 3]

    outer()


def test_submit_and_map_outside_of_a_flow_run_are_refused() -> None:
    @task
    def one(x: int = 1) -> int:
        return one.submit().result() if x == 2 else 1

    with pytest.raises(RuntimeError, match="Unable to determine task runner to use for submission"):
        one.submit()
    with pytest.raises(RuntimeError, match="Unable to determine task runner to use for mapped task runs"):
        one.map([1])
    with pytest.raises(RuntimeError, match="Unable to determine task runner to use for submission"):
        one(2)


def test_with_options_calls_the_same_function() -> None:
    @task
    def one(x: int) -> Any:
        context = TaskRunContext.get()
        assert context is not None
        return x, context.task.name, sorted(context.task_run.tags)

    other = one.with_options(name="other", tags={"b"})
    with tags("a"):
        assert other(1) == (1, "other", ["a", "b"])
        assert one(2) == (2, "one", ["a"])


def test_a_task_is_called_in_a_task() -> None:
    @task
    def inner(x: int) -> Any:
        context = TaskRunContext.get()
        assert context is not None
        return context.task.name

    @task
    def outer() -> Any:
        name = inner(1)
        context = TaskRunContext.get()
        assert context is not None
        return name, context.task.name

    assert outer() == ("inner", "outer")
    assert flow(lambda: outer())() == ("inner", "outer")
    assert TaskRunContext.get() is None


def test_tasks_and_flows_are_values_like_others() -> None:
    @task
    def one() -> int:
        return 1

    @task
    def call(fn: Callable[[], int]) -> int:
        return fn()

    assert call(one) == 1
    assert flow(lambda definition: definition.name)(one) == "one"
    assert flow(lambda: one)() is one


def test_hooks_and_names_may_be_methods_too() -> None:
    class Book:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def note(self, definition: Any, run: Any, state: Any) -> None:
            self.lines.append(f"{run.name} {state.name}")

        def title(self) -> str:
            return "titled"

    book = Book()

    @flow(on_completion=[book.note], flow_run_name=book.title)
    def outer() -> Any:
        return Completed(name="Read")

    outer()
    assert book.lines == ["titled Read"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("make", [flow, task])
def test_what_nobody_awaits_is_named(make: Any) -> None:
    @make(name="gather-fruit")
    async def gather() -> None: ...

    coroutine = gather()
    assert "coroutine object gather-fruit at" in repr(coroutine)
    coroutine.close()
