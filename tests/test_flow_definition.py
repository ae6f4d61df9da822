"""What a flow is before it runs: its options, their checks, copies, bound methods, hooks, pickles."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from callsheet import flows
from callsheet._engine import invoke
from callsheet.exceptions import InvalidNameError, ParameterBindError, ReservedArgumentError
from callsheet.flows import Flow, flow
from callsheet.settings import temporary_settings
from callsheet.task_runners import ConcurrentTaskRunner, ThreadPoolTaskRunner

HOOKS = ["on_completion", "on_failure", "on_cancellation", "on_crashed", "on_running"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Record what reaches the engine instead of running it."""
    seen: list[tuple[Any, ...]] = []
    for name in ("call_flow", "submit_flow"):
        monkeypatch.setattr(
            invoke, name, lambda flow, parameters, _n=name, **kw: seen.append((_n, flow, parameters, kw)), raising=False
        )
    return seen


@flow
def at_module_level(x: int, y: int = 2) -> int:
    """Add two numbers.

    Even if they are negative.
    """
    return x + y


class Shop:
    def __init__(self, prices: Any = None) -> None:
        self.prices = prices

    @flow
    def total(self, count: int) -> Any:
        return self, count

    @classmethod
    @flow
    def of_class(cls, count: int) -> Any:
        return cls, count

    @staticmethod
    @flow
    def static(count: int) -> Any:
        return count


renamed = at_module_level.with_options(name="renamed")

# ------------------------------------------------------------------------------------------ constructor


def test_positional_order() -> None:
    parameters = inspect.signature(Flow).parameters.values()
    assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        "fn", "name", "version", "flow_run_name", "retries", "retry_delay_seconds", "task_runner", "description",
        "timeout_seconds", "validate_parameters", "persist_result", "result_storage", "result_serializer",
        "cache_result_in_memory", "log_prints", *HOOKS,
    ]  # fmt: skip


def test_the_same_options_everywhere() -> None:
    constructor = set(inspect.signature(Flow).parameters) - {"fn"}
    assert set(inspect.signature(flow).parameters) - {"__fn"} == constructor
    assert set(inspect.signature(Flow.with_options).parameters) - {"self"} == constructor


def test_defaults() -> None:
    f = at_module_level
    assert (f.name, f.flow_run_name, f.timeout_seconds, f.retries, f.retry_delay_seconds) == (
        "at-module-level", None, None, 0, 0,
    )  # fmt: skip
    assert f.description == "Add two numbers.\n\nEven if they are negative."
    assert (f.isasync, f.isgenerator, f.should_validate_parameters, f.ismethod) == (False, False, True, False)
    assert (f.persist_result, f.result_storage, f.result_serializer, f.cache_result_in_memory) == (
        None, None, None, True,
    )  # fmt: skip
    assert f.log_prints is None
    assert all(getattr(f, f"{hook}_hooks") == [] for hook in HOOKS)
    assert isinstance(f.task_runner, ThreadPoolTaskRunner)
    assert f._storage is None
    assert f._entrypoint == f"{__name__}:at_module_level"


def test_carries_what_tools_read_from_functions() -> None:
    f = at_module_level
    assert (f.__name__, f.__qualname__, f.__module__) == ("at_module_level", "at_module_level", __name__)
    assert f.__wrapped__ is f.fn
    assert inspect.signature(f) == inspect.signature(f.fn)
    assert repr(f) == "<Flow 'at-module-level'>"

    def g(): ...

    g.marker = "here"
    assert flow(g).marker == "here"


def test_names() -> None:
    class Stock:
        def __call__(self) -> None: ...

    assert flow(lambda: None).name == "unknown-lambda"
    assert flow(Stock()).name == "Stock"
    assert Flow(at_module_level.fn, "").name == "at-module-level"
    assert Flow(at_module_level.fn, "My flow").name == "My flow"


@pytest.mark.parametrize("name", ["a/b", "100%", "you&me", "a<b", "a>b"])
def test_forbidden_characters(name: str) -> None:
    with pytest.raises(InvalidNameError, match="contains an invalid character"):
        Flow(at_module_level.fn, name)


def test_names_that_are_no_strings() -> None:
    with pytest.raises(TypeError) as caught:
        Flow(at_module_level.fn, 1)
    assert str(caught.value) == "Expected string for flow parameter 'name'; got int instead. "
    with pytest.raises(TypeError) as caught:
        Flow(at_module_level.fn, lambda: "x")
    assert str(caught.value) == (
        "Expected string for flow parameter 'name'; got function instead. "
        "Perhaps you meant to call it? e.g. '@flow(name=get_flow_run_name())'"
    )


@pytest.mark.parametrize("option", HOOKS)
def test_hooks_are_checked(option: str) -> None:
    advice = f"Please provide a list of hooks to '{option}':\n\n@flow({option}=[hook1, hook2])\ndef my_flow():\n\tpass"
    with pytest.raises(TypeError) as caught:
        flow(**{option: 1})(at_module_level.fn)
    assert str(caught.value) == f"Expected iterable for '{option}'; got int instead. {advice}"
    with pytest.raises(TypeError) as caught:
        flow(**{option: [print, "x"]})(at_module_level.fn)
    assert str(caught.value) == f"Expected callables in '{option}'; got str instead. {advice}"


@pytest.mark.parametrize("option", HOOKS)
def test_hooks_are_an_own_list(option: str) -> None:
    given = (print,)
    f = flow(**{option: given})(at_module_level.fn)
    copied = f.with_options(name="x")

    def hook(flow, flow_run, state): ...

    assert getattr(f, option)(hook) is hook
    assert getattr(f, f"{option}_hooks") == [print, hook]
    assert getattr(copied, f"{option}_hooks") == [print]
    assert getattr(f.with_options(**{option: {hook}}), f"{option}_hooks") == [hook]
    assert getattr(f.with_options(**{option: []}), f"{option}_hooks") == [print, hook]


def test_other_checks() -> None:
    with pytest.raises(TypeError, match="'fn' must be callable"):
        flow(1)
    with pytest.raises(TypeError, match="callable for 'flow_run_name'; got int instead"):
        flow(flow_run_name=1)(at_module_level.fn)
    with pytest.raises(TypeError, match="'retries'; got str"):
        flow(retries="1")(at_module_level.fn)
    with pytest.raises(ValueError, match="`retries` must be >= 0"):
        flow(retries=-1)(at_module_level.fn)
    with pytest.raises(TypeError, match="'retry_delay_seconds'; got list"):
        flow(retry_delay_seconds=[1])(at_module_level.fn)
    with pytest.raises(ValueError, match="`retry_delay_seconds` must be >= 0"):
        flow(retry_delay_seconds=-1)(at_module_level.fn)
    with pytest.raises(ValueError, match="`timeout_seconds` must be >= 0"):
        flow(timeout_seconds=-1)(at_module_level.fn)
    with pytest.raises(TypeError, match="got str instead"):
        flow(task_runner="threads")(at_module_level.fn)


@pytest.mark.parametrize("name", ["return_state", "wait_for"])
def test_reserved_names(name: str) -> None:
    with pytest.raises(ReservedArgumentError, match=f"'{name}' is a reserved argument name"):
        flow(eval(f"lambda {name}: None"))


@pytest.mark.parametrize("wrapper", [classmethod, staticmethod])
def test_wrappers_belong_on_top(wrapper: Any) -> None:
    with pytest.raises(TypeError, match=f"@{wrapper.__name__} should be applied on top of @flow"):
        flow(wrapper(lambda: None))


@pytest.mark.parametrize("name", ["v__args", "v__kwargs", "v__positional_only", "v__duplicate_kwargs"])
def test_incompatible_names(name: str) -> None:
    fn = eval(f"lambda {name}: None")
    with pytest.raises(ValueError, match=f"Flow function is not compatible with `validate_parameters`.*'{name}'"):
        flow(fn)
    assert flow(validate_parameters=False)(fn).should_validate_parameters is False


def test_incompatible_annotations() -> None:
    def f(x): ...

    f.__annotations__["x"] = 5
    with pytest.raises(ValueError, match="not compatible with `validate_parameters`"):
        flow(f)


def test_values() -> None:
    assert flow(timeout_seconds=3)(at_module_level.fn).timeout_seconds == 3.0
    assert type(flow(timeout_seconds=3)(at_module_level.fn).timeout_seconds) is float
    assert flow(timeout_seconds=0)(at_module_level.fn).timeout_seconds is None
    assert flow(description="text")(at_module_level.fn).description == "text"
    with temporary_settings({"flow_default_retries": 3, "flow_default_retry_delay_seconds": 1.5}):
        assert (flow(lambda: None).retries, flow(lambda: None).retry_delay_seconds) == (3, 1.5)
        assert flow(retries=0, retry_delay_seconds=0)(lambda: None).retries == 0


def test_task_runner() -> None:
    assert flow(at_module_level.fn).task_runner is not flow(at_module_level.fn).task_runner
    assert isinstance(flow(task_runner=ConcurrentTaskRunner)(at_module_level.fn).task_runner, ConcurrentTaskRunner)
    runner = ThreadPoolTaskRunner(max_workers=3)
    assert flow(task_runner=runner)(at_module_level.fn).task_runner is runner


def test_version(tmp_path: Path) -> None:
    assert at_module_level.version
    assert at_module_level.version == flow(lambda: None).version
    assert flow(version="7")(lambda: None).version == "7"
    assert flow(eval("lambda: None")).version is None
    assert flow(functools.partial(at_module_level.fn, 1)).version is None
    module = tmp_path / "defines.py"
    module.write_text("def f(): ...\n")
    first: dict[str, Any] = {}
    exec(compile(module.read_text(), str(module), "exec"), first)
    one = flow(first["f"]).version
    module.write_text("def f(): ...  # changed\n")
    assert flow(first["f"]).version != one


def test_persistence_follows_storage() -> None:
    assert flow(result_storage="here")(at_module_level.fn).persist_result is True
    assert flow(result_serializer="json")(at_module_level.fn).persist_result is True
    assert flow(result_storage="here", persist_result=False)(at_module_level.fn).persist_result is False


# ---------------------------------------------------------------------------------------- kinds of functions


def test_kinds_of_functions() -> None:
    async def coroutine(): ...
    async def async_generator():
        yield

    def generator():
        yield

    class Object:
        async def __call__(self): ...

    kinds = {
        fn: (flow(fn).isasync, flow(fn).isgenerator)
        for fn in (coroutine, async_generator, generator, functools.partial(coroutine), Object())
    }
    assert list(kinds.values()) == [(True, False), (True, True), (False, True), (True, False), (True, False)]
    assert flow(flow(coroutine)).isasync
    assert asyncio.iscoroutinefunction(flow(coroutine))
    assert not asyncio.iscoroutinefunction(flow(generator))
    assert not asyncio.iscoroutinefunction(flow(async_generator))
    if sys.version_info >= (3, 12):
        assert inspect.iscoroutinefunction(flow(coroutine))
        assert inspect.iscoroutinefunction(pickle_by_value(flow(coroutine)))


# ----------------------------------------------------------------------------------------------- calling


def test_a_call_binds_and_hands_over(calls: list[Any]) -> None:
    at_module_level(1, return_state=True, wait_for=[2])
    at_module_level.submit(y=3, x=4)
    assert calls == [
        ("call_flow", at_module_level, {"x": 1, "y": 2}, {"wait_for": [2], "return_state": True}),
        ("submit_flow", at_module_level, {"x": 4, "y": 3}, {"wait_for": None, "return_state": False}),
    ]


def test_binding_fails_at_the_call(calls: list[Any]) -> None:
    @flow
    async def f(x): ...

    for call in (f, f.submit):
        with pytest.raises(ParameterBindError, match="missing a required argument: 'x'"):
            call()
    assert calls == []


def test_methods(calls: list[Any]) -> None:
    one, two = Shop(), Shop()
    bound, other = one.total, two.total
    assert isinstance(bound, Flow)
    assert bound.ismethod
    assert not Shop.total.ismethod
    assert Shop.total is Shop.__dict__["total"]
    bound(1)
    other(2)
    bound.with_options(name="renamed")(3)
    bound.submit(4)
    assert [call[2]["self"] for call in calls] == [one, two, one, one]
    assert bound.fn is Shop.total.fn
    assert bound.serialize_parameters({"self": one, "count": 1}) == {"count": 1}
    assert list(bound.parameters.properties) == ["count"]
    assert list(Shop.total.parameters.properties) == ["self", "count"]
    assert bound.validate_parameters({"self": one, "count": "1"}) == {"self": one, "count": 1}
    assert one.total._validators is two.total._validators


def test_class_and_static_methods(calls: list[Any]) -> None:
    class Sub(Shop): ...

    Shop.of_class(1)
    Sub.of_class(2)
    Sub().of_class(3)
    Shop.static(4)
    Shop().static(5)
    assert [call[2].get("cls") for call in calls] == [Shop, Sub, Sub, None, None]
    assert [call[2]["count"] for call in calls] == [1, 2, 3, 4, 5]
    assert isinstance(Shop.static, Flow)
    if sys.version_info < (3, 13):
        assert isinstance(Shop.of_class, Flow)


# ------------------------------------------------------------------------------------------ with_options

FULL: dict[str, Any] = {
    "name": "first", "version": "v", "retries": 3, "retry_delay_seconds": 20, "description": "about",
    "flow_run_name": "run-{x}", "timeout_seconds": 5, "validate_parameters": False, "persist_result": True,
    "result_storage": "storage", "result_serializer": "json", "cache_result_in_memory": False, "log_prints": True,
    "on_completion": [print], "on_failure": [repr], "on_cancellation": [str], "on_crashed": [len], "on_running": [id],
}  # fmt: skip


def options_of(f: Flow[..., Any]) -> dict[str, Any]:
    named = {"validate_parameters": "should_validate_parameters"} | {hook: f"{hook}_hooks" for hook in HOOKS}
    return {name: getattr(f, named.get(name, name)) for name in FULL}


def test_with_options_keeps_what_is_left_out() -> None:
    original = flow(**FULL)(at_module_level.fn)
    original._storage, original._entrypoint = "stored", "file.py:f"
    copied = original.with_options()
    assert options_of(copied) == options_of(original) == FULL
    assert copied is not original
    assert copied.fn is original.fn
    assert copied.task_runner is original.task_runner
    assert (copied._storage, copied._entrypoint) == ("stored", "file.py:f")
    assert copied.on_completion_hooks is not original.on_completion_hooks


@pytest.mark.parametrize("nothing", [None, "", []])
@pytest.mark.parametrize("option", ["name", "version", "description", "flow_run_name", "task_runner", *HOOKS])
def test_with_options_falsy_keeps(option: str, nothing: Any) -> None:
    original = flow(**FULL)(at_module_level.fn)
    assert options_of(original.with_options(**{option: nothing})) == FULL


@pytest.mark.parametrize(
    "option",
    ["retries", "retry_delay_seconds", "timeout_seconds", "validate_parameters", "cache_result_in_memory"],
)
def test_with_options_none_keeps(option: str) -> None:
    original = flow(**FULL)(at_module_level.fn)
    assert options_of(original.with_options(**{option: None})) == FULL


@pytest.mark.parametrize(
    ("option", "value", "result"),
    [
        ("retries", 0, 0),
        ("retry_delay_seconds", 0, 0),
        ("timeout_seconds", 0, None),
        ("validate_parameters", True, True),
        ("cache_result_in_memory", True, True),
        ("persist_result", False, False),
        ("result_storage", None, None),
        ("result_serializer", None, None),
        ("log_prints", None, None),
        ("log_prints", False, False),
        ("name", "second", "second"),
    ],
)
def test_with_options_sets(option: str, value: Any, result: Any) -> None:
    original = flow(**FULL)(at_module_level.fn)
    assert options_of(original.with_options(**{option: value})) == FULL | {option: result}
    assert options_of(original) == FULL


def test_with_options_decides_persistence_anew() -> None:
    original = flow(**FULL)(at_module_level.fn)
    assert original.with_options(persist_result=None).persist_result is True
    assert (
        original.with_options(persist_result=None, result_storage=None, result_serializer=None).persist_result is None
    )


# ---------------------------------------------------------------------------------------- as an object


def test_decorator_without_a_function() -> None:
    made = flow(name="x")
    assert isinstance(made, functools.partial)
    assert made(at_module_level.fn).name == "x"


def test_identity() -> None:
    assert at_module_level != flow(at_module_level.fn)
    assert len({at_module_level, flow(at_module_level.fn)}) == 2
    assert copy.copy(at_module_level).fn is at_module_level.fn


def pickle_by_value(f: Flow[..., Any]) -> Flow[..., Any]:
    return cloudpickle.loads(cloudpickle.dumps(f))


def test_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(at_module_level)) is at_module_level
    assert pickle.loads(pickle.dumps(Shop.total)) is Shop.total
    assert copy.deepcopy([at_module_level])[0] is at_module_level


def test_pickled_by_value() -> None:
    again = pickle.loads(pickle.dumps(renamed))
    assert (again.name, again.fn) == ("renamed", at_module_level.fn)
    copied = pickle.loads(pickle.dumps(at_module_level.with_options(name="other", retries=2)))
    assert (copied.name, copied.retries) == ("other", 2)
    assert copied.fn is at_module_level.fn
    assert copied.validate_parameters({"x": "1"}) == {"x": 1}
    bound = pickle.loads(pickle.dumps(Shop(7).total))
    assert bound.ismethod
    assert bound._bound[0].prices == 7

    @flow(retries=3, on_failure=[lambda flow, flow_run, state: None])
    def local(x: int) -> int:
        return x + 1

    again = pickle_by_value(local)
    assert (again.name, again.retries, again.fn(1)) == ("local", 3, 2)
    assert again._binder.bind((1,), {}) == {"x": 1}
    assert len(again.on_failure_hooks) == 1


def test_pickled_out_of_a_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import cloudpickle, sys\n"
        "from callsheet.flows import flow\n"
        "@flow\n"
        "def again(n: int) -> int:\n"
        "    return again.name, n\n"
        "assert again._entrypoint == f'{__file__}:again', again._entrypoint\n"
        "sys.stdout.buffer.write(cloudpickle.dumps(again))\n"
    )
    made = subprocess.run([sys.executable, str(script)], check=True, capture_output=True).stdout
    loaded = cloudpickle.loads(made)
    assert loaded.fn(1) == ("again", 1)


# --------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize("name", ["deploy", "serve", "to_deployment", "from_source"])
def test_later_work_says_so(name: str) -> None:
    with pytest.raises(NotImplementedError, match=f"Flow.{name}"):
        getattr(at_module_level, name)("x")
    with pytest.raises(NotImplementedError, match="from_source"):
        flow.from_source("x", "y")


def test_visualisation_leaves_nodes(calls: list[Any]) -> None:
    from callsheet.utilities.visualization import TaskVizTracker, VisualizationUnsupportedError

    with TaskVizTracker() as tracker:
        at_module_level(1)
        with pytest.raises(ParameterBindError):
            at_module_level()
        with pytest.raises(VisualizationUnsupportedError, match=r"`flow.submit\(\)` is not currently supported"):
            at_module_level.submit(1)
    assert [node.name for node in tracker.tasks] == ["at-module-level-0"]
    assert calls == []


def test_public_names() -> None:
    assert {"Flow", "flow"} <= set(flows.__all__)
