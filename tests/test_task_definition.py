"""What a task is before it runs: its options, their checks, cache policies, copies, bound methods, hooks, pickles."""

from __future__ import annotations

import asyncio
import inspect
import logging
import pickle
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest

from callsheet import tasks
from callsheet._engine import invoke
from callsheet.cache_policies import DEFAULT, INPUTS, NONE, CacheKeyFnPolicy, Inputs
from callsheet.exceptions import ParameterBindError, ReservedArgumentError
from callsheet.flows import flow
from callsheet.settings import temporary_settings
from callsheet.tasks import Task, exponential_backoff, task, task_input_hash
from callsheet.utilities.annotations import NotSet

HOOKS = ["on_completion", "on_failure", "on_rollback", "on_commit"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Record what reaches the engine instead of running it."""
    seen: list[tuple[Any, ...]] = []
    for name in ("call_task", "submit_task", "map_task"):
        monkeypatch.setattr(
            invoke, name, lambda task, parameters, _n=name, **kw: seen.append((_n, task, parameters, kw)), raising=False
        )
    return seen


@task
def at_module_level(x: int, y: int = 2) -> int:
    """Add two numbers."""
    return x + y


def key_fn(context: Any, parameters: dict[str, Any]) -> str:
    return "key"


class Shop:
    @task
    def total(self, count: int) -> Any: ...

    @staticmethod
    @task
    def static(count: int) -> Any: ...


# ------------------------------------------------------------------------------------------ constructor


def test_positional_order() -> None:
    parameters = inspect.signature(Task).parameters.values()
    assert [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY] == [
        "fn", "name", "description", "tags", "version", "cache_policy", "cache_key_fn", "cache_expiration",
        "task_run_name", "retries", "retry_delay_seconds", "retry_jitter_factor", "persist_result", "result_storage",
        "result_serializer", "result_storage_key", "cache_result_in_memory", "timeout_seconds", "log_prints",
        "refresh_cache", "on_completion", "on_failure", "on_rollback", "on_commit", "retry_condition_fn",
        "viz_return_value",
    ]  # fmt: skip


def test_the_same_options_everywhere() -> None:
    constructor = set(inspect.signature(Task).parameters) - {"fn"}
    assert set(inspect.signature(task).parameters) - {"__fn"} == constructor
    options = set(inspect.signature(Task.with_options).parameters) - {"self"}
    assert options == constructor - {"version"}
    assert inspect.signature(Task).parameters["log_prints"].default is False
    assert inspect.signature(task).parameters["log_prints"].default is None
    assert inspect.signature(task).parameters["cache_policy"].default is NotSet


def test_defaults() -> None:
    t = at_module_level
    expected: dict[str, Any] = {
        "name": "at_module_level", "description": "Add two numbers.", "tags": set(), "version": None,
        "isasync": False, "isgenerator": False, "ismethod": False, "task_run_name": None, "log_prints": None,
        "cache_policy": DEFAULT, "cache_key_fn": None, "cache_expiration": None, "refresh_cache": None,
        "retries": 0, "retry_delay_seconds": 0, "retry_jitter_factor": None, "persist_result": None,
        "result_storage": None, "result_serializer": None, "result_storage_key": None,
        "cache_result_in_memory": True, "timeout_seconds": None, "on_completion_hooks": [], "on_failure_hooks": [],
        "on_commit_hooks": [], "on_rollback_hooks": [], "retry_condition_fn": None, "viz_return_value": None,
    }  # fmt: skip
    assert {name: getattr(t, name) for name in expected} == expected
    assert Task(t.fn).log_prints is False
    assert repr(t) == "<Task 'at_module_level'>"
    assert t.__wrapped__ is t.fn


def test_names() -> None:
    class Stock:
        def __call__(self) -> None: ...

    assert task(lambda: None).name == "<lambda>"
    assert task(Stock()).name == "Stock"
    assert task(Stock()).task_key == "test_names.<locals>.Stock"
    assert task(name="a/b")(lambda: None).name == "a/b"


def test_task_key() -> None:
    assert at_module_level.task_key.startswith("at_module_level-")
    assert len(at_module_level.task_key) == len("at_module_level-") + 8
    assert at_module_level.with_options(name="x").task_key == at_module_level.task_key
    assert task(lambda: 1).task_key != task(lambda: 2).task_key
    assert task(eval("lambda: 1")).task_key != task(eval("lambda: 2")).task_key


@pytest.mark.parametrize("option", HOOKS)
def test_hooks_are_checked(option: str) -> None:
    advice = f"Please provide a list of hooks to '{option}':\n\n@task({option}=[hook1, hook2])\ndef my_task():\n\tpass"
    with pytest.raises(TypeError) as caught:
        task(**{option: 1})(at_module_level.fn)
    assert str(caught.value) == f"Expected iterable for '{option}'; got int instead. {advice}"
    with pytest.raises(TypeError) as caught:
        task(**{option: (print, 2)})(at_module_level.fn)
    assert str(caught.value) == f"Expected callables in '{option}'; got int instead. {advice}"


@pytest.mark.parametrize("option", HOOKS)
def test_hooks_as_decorators(option: str) -> None:
    t = task(**{option: {print}})(at_module_level.fn)

    def hook(*args: Any) -> None: ...

    assert getattr(t, option)(hook) is hook
    assert getattr(t, f"{option}_hooks") == [print, hook]
    assert getattr(t.with_options(), f"{option}_hooks") == [print, hook]
    assert getattr(t.with_options(), f"{option}_hooks") is not getattr(t, f"{option}_hooks")


def test_checks() -> None:
    with pytest.raises(TypeError, match="'fn' must be callable"):
        task("x")
    with pytest.raises(TypeError, match="callable for 'task_run_name'; got int instead"):
        task(task_run_name=1)(at_module_level.fn)
    with pytest.raises(ReservedArgumentError, match="'wait_for' is a reserved argument name"):
        task(lambda wait_for: None)
    with pytest.raises(ValueError, match="Can not configure more than 50 retry delays per task"):
        task(retries=60, retry_delay_seconds=[1] * 51)(at_module_level.fn)
    with pytest.raises(ValueError, match="Can not configure more than 50 retry delays per task"):
        task(retries=60, retry_delay_seconds=lambda n: [1] * n)(at_module_level.fn)
    with pytest.raises(ValueError, match="`retry_delay_seconds` must be >= 0"):
        task(retry_delay_seconds=[1, -1])(at_module_level.fn)
    with pytest.raises(TypeError, match="'retry_delay_seconds'; got str"):
        task(retry_delay_seconds="soon")(at_module_level.fn)
    with pytest.raises(ValueError, match="`retry_jitter_factor` must be >= 0"):
        task(retry_jitter_factor=-0.1)(at_module_level.fn)
    with pytest.raises(TypeError, match="Expected `retry_condition_fn` to be callable, got str instead"):
        task(retry_condition_fn="x")(at_module_level.fn)
    with pytest.raises(TypeError, match="'tags'; got str"):
        task(tags="one")(at_module_level.fn)
    with pytest.raises(TypeError, match="'tags'; got the member 1"):
        task(tags=["one", 1])(at_module_level.fn)
    with pytest.raises(TypeError, match="Expected string for task parameter 'name'; got int instead"):
        task(name=5)(at_module_level.fn)
    with pytest.raises(TypeError, match=r"Perhaps you meant to call it\?"):
        task(name=print)(at_module_level.fn)
    for wrapper in (classmethod, staticmethod):
        with pytest.raises(TypeError, match=f"@{wrapper.__name__} should be applied on top of @task"):
            task(wrapper(lambda: None))


def test_retries() -> None:
    with temporary_settings({"task_default_retries": 2, "task_default_retry_delay_seconds": [1, 2]}):
        t = task(lambda: None)
        assert (t.retries, t.retry_delay_seconds) == (2, [1, 2])
        assert task(retries=0, retry_delay_seconds=0)(t.fn).retry_delay_seconds == 0
        assert t.with_options(retries=None, retry_delay_seconds=None).retries == 2
    seen: list[int] = []

    def delays(retries: int) -> list[float]:
        seen.append(retries)
        return [3.0] * retries

    t = task(retries=4, retry_delay_seconds=delays)(at_module_level.fn)
    assert (t.retry_delay_seconds, seen) == ([3.0] * 4, [4])
    with temporary_settings({"task_default_retries": 2}):
        assert task(retry_delay_seconds=delays)(at_module_level.fn).retry_delay_seconds == [3.0, 3.0]
    given = [1, 2]
    assert task(retries=2, retry_delay_seconds=given)(at_module_level.fn).retry_delay_seconds is not given
    assert task(retries=2, retry_delay_seconds=(1, 2))(at_module_level.fn).retry_delay_seconds == [1, 2]


def test_exponential_backoff() -> None:
    assert task(retries=4, retry_delay_seconds=exponential_backoff(10))(at_module_level.fn).retry_delay_seconds == [
        10, 20, 40, 80,
    ]  # fmt: skip
    assert len(exponential_backoff(1)(60)) == 50


def test_tags_are_a_set() -> None:
    given = ["a", "b", "a"]
    assert task(tags=given)(at_module_level.fn).tags == {"a", "b"}


# ------------------------------------------------------------------------------- persistence and caching


@pytest.mark.parametrize(
    ("options", "policy", "persist"),
    [
        ({}, DEFAULT, None),
        ({"cache_policy": None}, None, None),
        ({"cache_policy": NONE}, NONE, None),
        ({"cache_policy": INPUTS}, INPUTS, True),
        ({"cache_policy": INPUTS, "persist_result": True}, INPUTS, True),
        ({"persist_result": True}, DEFAULT, True),
        ({"persist_result": False}, NONE, False),
        ({"persist_result": False, "cache_policy": None}, None, False),
        ({"persist_result": False, "cache_policy": NONE}, NONE, False),
        ({"persist_result": False, "cache_policy": INPUTS}, NONE, False),
        ({"persist_result": False, "result_storage_key": "k"}, NONE, False),
        ({"result_storage_key": "k"}, None, True),
        ({"result_storage_key": "k", "cache_policy": INPUTS}, None, True),
        ({"result_storage_key": "k", "cache_policy": NONE}, None, True),
        ({"result_storage": "s"}, DEFAULT, True),
        ({"result_serializer": "json"}, DEFAULT, True),
        ({"cache_key_fn": key_fn, "result_storage_key": "k"}, None, True),
    ],
)
def test_cache_policy(options: dict[str, Any], policy: Any, persist: bool | None) -> None:
    t = task(**options)(at_module_level.fn)
    assert (t.cache_policy, t.persist_result) == (policy, persist)
    copied = t.with_options(name="copied")
    assert (copied.cache_policy, copied.persist_result) == (policy, persist)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_policy": 5}, "Expected a cache policy for 'cache_policy'; got int instead"),
        ({"cache_policy": Inputs}, "'cache_policy'; got the class Inputs instead"),
        ({"cache_key_fn": "key"}, "Expected `cache_key_fn` to be callable, got str instead"),
        ({"cache_expiration": 60}, "Expected a timedelta for 'cache_expiration'; got int instead"),
        ({"result_storage_key": 5}, "Expected a string for 'result_storage_key'; got int instead"),
        ({"timeout_seconds": timedelta(1)}, "Expected a number of seconds for 'timeout_seconds'"),
    ],
)
def test_what_no_run_could_use_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        task(**options)(at_module_level.fn)
    with pytest.raises(TypeError, match=message):
        at_module_level.with_options(**options)


def test_cache_key_fn_becomes_a_policy(caplog: pytest.LogCaptureFixture) -> None:
    t = task(cache_key_fn=key_fn)(at_module_level.fn)
    assert isinstance(t.cache_policy, CacheKeyFnPolicy)
    assert t.cache_policy.cache_key_fn is key_fn
    assert (t.cache_key_fn, t.persist_result) == (key_fn, True)
    assert not caplog.records


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("WARNING", logger="callsheet.tasks")
    return caplog


def test_warnings_about_caching(warned: pytest.LogCaptureFixture) -> None:
    both = task(cache_policy=INPUTS, cache_key_fn=key_fn)(at_module_level.fn)
    ignored = task(cache_policy=INPUTS, persist_result=False)(at_module_level.fn)
    assert warned.messages == [
        "Both `cache_policy` and `cache_key_fn` are set on task <Task 'at_module_level'>. `cache_key_fn` will be used.",
        "Ignoring `cache_policy` because `persist_result` is False",
    ]
    warned.clear()
    both.with_options(name="x")
    ignored.with_options(name="x")
    task(cache_policy=NONE, persist_result=False)(at_module_level.fn)
    assert warned.messages == []
    ignored.with_options(cache_policy=INPUTS)
    assert len(warned.messages) == 1


def test_task_input_hash() -> None:
    context: Any = SimpleNamespace(task=at_module_level)
    assert task_input_hash(context, {"x": 1}) == task_input_hash(context, {"x": 1})
    assert task_input_hash(context, {"x": 1}) != task_input_hash(context, {"x": 2})


# ----------------------------------------------------------------------------------------------- calling


def test_calls_bind_and_hand_over(calls: list[Any]) -> None:
    at_module_level(1, wait_for=[2])
    at_module_level.submit(1, return_state=True)
    at_module_level.map([1, 2], return_state=True)
    plain = {"wait_for": None, "return_state": False}
    assert calls == [
        ("call_task", at_module_level, {"x": 1, "y": 2}, {"wait_for": [2], "return_state": False}),
        ("submit_task", at_module_level, {"x": 1, "y": 2}, plain | {"return_state": True}),
        ("map_task", at_module_level, {"x": [1, 2]}, plain | {"return_state": True}),
    ]


def test_binding_fails_at_the_call(calls: list[Any]) -> None:
    @task
    async def t(x): ...

    for call in (t, t.submit, t.map, t.delay, t.apply_async):
        with pytest.raises(ParameterBindError, match="missing a required argument: 'x'"):
            call()
    assert calls == []
    assert asyncio.iscoroutinefunction(t)


def test_arguments_are_neither_validated_nor_copied(calls: list[Any]) -> None:
    value = ["x"]
    at_module_level(value, "y")
    assert calls[0][2]["x"] is value


def test_methods(calls: list[Any]) -> None:
    one, two = Shop(), Shop()
    bound = one.total
    two.total(1)
    bound(2)
    bound.map([3])
    bound.with_options(retries=1).submit(4)
    assert [call[2]["self"] for call in calls] == [two, one, one, one]
    assert isinstance(bound, Task)
    assert bound.ismethod
    assert not hasattr(bound.fn, "__self__")
    assert Shop.total is Shop.__dict__["total"]
    Shop().static(5)
    assert calls[-1][2] == {"count": 5}
    with pytest.raises(ParameterBindError, match=r"multiple values for argument 'count'"):
        bound(1, count=2)


def test_later_work_says_so() -> None:
    with pytest.raises(NotImplementedError, match="delay"):
        at_module_level.delay(1)
    with pytest.raises(NotImplementedError, match="apply_async"):
        at_module_level.apply_async((1,), {"y": 2}, wait_for=[], dependencies={})
    with pytest.raises(NotImplementedError, match="serve"):
        at_module_level.serve()
    with pytest.raises(NotImplementedError, match="deferred"):
        at_module_level.map([1], deferred=True)


def test_visualisation(calls: list[Any]) -> None:
    from callsheet.utilities.visualization import TaskVizTracker, VisualizationUnsupportedError

    valued = task(viz_return_value=[1])(at_module_level.fn)
    with TaskVizTracker() as tracker:
        assert valued(1) == [1]
        assert at_module_level(2) is tracker.tasks[1]
        for method in ("submit", "map", "apply_async", "delay"):
            arguments = ((1,),) if method == "apply_async" else (1,)
            named = "apply_async" if method == "delay" else method
            with pytest.raises(
                VisualizationUnsupportedError,
                match=rf"`task.{named}\(\)` is not currently supported by `flow.visualize\(\)`",
            ):
                getattr(at_module_level, method)(*arguments)
    assert calls == []


# ------------------------------------------------------------------------------------------ with_options

FULL: dict[str, Any] = {
    "name": "first", "description": "about", "tags": {"a"}, "cache_expiration": timedelta(1), "task_run_name": "r",
    "cache_key_fn": key_fn, "retries": 3, "retry_delay_seconds": 20, "retry_jitter_factor": 0.5,
    "persist_result": True, "result_storage": "storage", "result_serializer": "json", "result_storage_key": "key",
    "cache_result_in_memory": False, "timeout_seconds": 5, "log_prints": True, "refresh_cache": True,
    "on_completion": [print], "on_failure": [repr], "on_commit": [str], "on_rollback": [len],
    "retry_condition_fn": id, "viz_return_value": 7, "journal_key": "once",
}  # fmt: skip


def options_of(t: Task[..., Any]) -> dict[str, Any]:
    return {name: getattr(t, f"{name}_hooks" if name in HOOKS else name) for name in FULL}


def test_with_options_keeps_what_is_left_out() -> None:
    original = task(version="v", **FULL)(at_module_level.fn)
    copied = original.with_options()
    assert options_of(copied) == options_of(original) == FULL
    assert copied.version == "v"
    assert copied.fn is original.fn
    copied.tags.add("b")
    assert original.tags == {"a"}


@pytest.mark.parametrize("nothing", [None, "", [], set(), timedelta(0)])
@pytest.mark.parametrize(
    "option",
    [
        "name",
        "description",
        "tags",
        "cache_key_fn",
        "cache_expiration",
        "retry_condition_fn",
        "viz_return_value",
        *HOOKS,
    ],
)
def test_with_options_falsy_keeps(option: str, nothing: Any) -> None:
    original = task(**FULL)(at_module_level.fn)
    assert options_of(original.with_options(**{option: nothing})) == FULL


@pytest.mark.parametrize(
    ("option", "value", "result"),
    [
        ("timeout_seconds", None, 5),
        ("timeout_seconds", 0, None),
        ("cache_result_in_memory", None, False),
        ("cache_result_in_memory", True, True),
        ("tags", ["b", "c"], {"b", "c"}),
        ("task_run_name", None, None),
        ("retries", 0, 0),
        ("retries", None, 0),
        ("retry_delay_seconds", [], []),
        ("retry_delay_seconds", None, 0),
        ("retry_jitter_factor", None, None),
        ("persist_result", False, False),
        ("result_storage", None, None),
        ("result_serializer", None, None),
        ("result_storage_key", None, None),
        ("log_prints", False, False),
        ("log_prints", None, None),
        ("refresh_cache", None, None),
        ("refresh_cache", False, False),
        ("name", "second", "second"),
    ],
)
def test_with_options_sets(option: str, value: Any, result: Any) -> None:
    original = task(**FULL)(at_module_level.fn)
    assert options_of(original.with_options(**{option: value})) == FULL | {option: result}
    assert options_of(original) == FULL


def test_with_options_and_policies() -> None:
    plain = task(at_module_level.fn)
    assert plain.with_options(persist_result=True).cache_policy is DEFAULT
    assert plain.with_options(cache_policy=None).cache_policy is None
    cached = task(cache_policy=INPUTS)(at_module_level.fn)
    assert cached.with_options(cache_policy=None).cache_policy is None
    assert cached.with_options(persist_result=False).cache_policy is NONE
    assert cached.with_options(persist_result=False).with_options(persist_result=True).cache_policy is INPUTS


# ---------------------------------------------------------------------------------------- as an object


def test_pickles() -> None:
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    copied = pickle.loads(pickle.dumps(at_module_level.with_options(tags=["t"])))
    assert (copied.fn, copied.tags, copied.cache_policy) == (at_module_level.fn, {"t"}, DEFAULT)
    refused = cloudpickle.loads(cloudpickle.dumps(task(cache_policy=NONE)(lambda: None))).with_options()
    assert (refused.cache_policy, refused.persist_result) == (NONE, None)

    @task(retries=2)
    async def local(x):
        return x

    again = cloudpickle.loads(cloudpickle.dumps(local))
    assert (again.name, again.retries, again.isasync) == ("local", 2, True)
    assert asyncio.iscoroutinefunction(again)


def test_public_names() -> None:
    assert set(tasks.__all__) == {"Task", "task", "task_input_hash", "exponential_backoff"}
    assert flow(lambda: None).name != task(lambda: None).name
