"""Cache policies by themselves: keys, sums, differences, copies; errors instead of keys that are not certain."""

from __future__ import annotations

import linecache
import pickle
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callsheet import task
from callsheet.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NONE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
    CompoundCachePolicy,
    FlowParameters,
    Inputs,
    RunId,
    TaskSource,
)

POLICIES = [DEFAULT, INPUTS, TASK_SOURCE, RUN_ID, FLOW_PARAMETERS]


def run(id: str, flow_run_id: str | None = None, fn: Any = None) -> Any:
    return SimpleNamespace(task_run=SimpleNamespace(id=id, flow_run_id=flow_run_id), task=fn or one)


def one() -> int:
    return 1


def key(policy: CachePolicy, inputs: Any = None, context: Any = None, parameters: Any = None) -> str | None:
    return policy.compute_key(task_ctx=context, inputs=inputs, flow_parameters=parameters)


def test_a_policy_without_a_rule_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="compute_key"):
        key(CachePolicy())


# ----------------------------------------------------------------------------------------------- inputs


def test_inputs_count_by_value_and_not_by_order():
    assert key(INPUTS, {"x": 1, "y": {"a": 1, "b": 2}}) == key(INPUTS, {"y": {"b": 2, "a": 1}, "x": 1})
    assert key(INPUTS, {"x": 1}) != key(INPUTS, {"x": True})
    assert key(INPUTS, {"x": 1}) != key(INPUTS, {"y": 1})
    assert key(INPUTS, {}) is None
    assert key(INPUTS) is None


def test_excluded_inputs_do_not_matter():
    policy = Inputs(exclude=["debug"])
    assert key(policy, {"x": 1, "debug": True}) == key(policy, {"x": 1, "debug": threading.Lock()})
    assert key(policy, {"x": 1, "debug": True}) != key(policy, {"x": 2, "debug": True})


def test_what_cannot_be_hashed_is_an_error_with_advice():
    with pytest.raises(ValueError) as raised:
        key(INPUTS, {"x": 1, "guard": threading.Lock()})
    text = str(raised.value)
    assert "This often occurs when task inputs contain objects that cannot be cached" in text
    assert "1. Exclude these arguments by defining a custom `cache_key_fn`" in text
    assert "2. Disable caching by passing `cache_policy=NONE`" in text
    assert "JSON error: " in text
    assert "Pickle error: " in text
    assert "'guard' (lock)" in text
    assert 'INPUTS - "guard"' in text


def test_flow_parameters_that_cannot_be_hashed_are_no_key_less():
    policy = INPUTS + FLOW_PARAMETERS
    with pytest.raises(ValueError, match="flow parameters"):
        key(policy, {"x": 1}, parameters={"guard": threading.Lock()})
    assert key(policy, {"x": 1}, parameters={"p": 1}) != key(policy, {"x": 1}, parameters={"p": 2})
    assert key(FLOW_PARAMETERS, {"x": 1}, parameters={}) is None


# ----------------------------------------------------------------------------------------------- source


def test_another_body_is_another_key():
    @task
    def body() -> str:
        return "one"

    before = key(TASK_SOURCE, context=SimpleNamespace(task=body))

    @task
    def body() -> str:
        return "other"

    assert key(TASK_SOURCE, context=SimpleNamespace(task=body)) != before
    assert key(TASK_SOURCE) is None


def made(number: int) -> Any:
    @task
    def times(x: int) -> int:
        return x * number

    return times


def test_tasks_of_one_factory_are_told_apart_by_the_constants_they_close_over():
    twice, thrice = made(2), made(3)
    assert key(TASK_SOURCE, context=run("r", fn=twice)) != key(TASK_SOURCE, context=run("r", fn=thrice))
    assert key(TASK_SOURCE, context=run("r", fn=twice)) == key(TASK_SOURCE, context=run("r", fn=made(2)))


def test_a_counter_that_the_body_changes_does_not_change_its_source():
    count = 0

    @task
    def counted() -> int:
        nonlocal count
        count += 1
        return count

    before = key(TASK_SOURCE, context=run("r", fn=counted))
    counted()
    assert key(TASK_SOURCE, context=run("r", fn=counted)) == before


def without_source(text: str) -> Any:
    space: dict[str, Any] = {}
    exec(text, space)
    return space["f"]


def test_without_source_the_byte_code_counts_also_of_functions_inside():
    one = without_source("def f(x):\n    return [y + 1 for y in x], (lambda: 1)()")
    other = without_source("def f(x):\n    return [y + 1 for y in x], (lambda: 2)()")
    again = without_source("def f(x):\n    return [y + 1 for y in x], (lambda: 1)()")
    keys = [key(TASK_SOURCE, context=run("r", fn=fn)) for fn in (one, other, again)]
    assert keys[0] == keys[2] != keys[1]


def test_the_text_of_python_c_is_not_the_source_of_what_was_executed(monkeypatch):
    """From 3.13 on `python -c` leaves its text to be read, under the name that everything executed has too."""
    text = "import callsheet\n"
    monkeypatch.setitem(linecache.cache, "<string>", (len(text), None, [text, "\n"], "<string>"))
    one, other = without_source("def f(x):\n    return 10"), without_source("def f(x):\n    return 20")
    assert key(TASK_SOURCE, context=run("r", fn=one)) != key(TASK_SOURCE, context=run("r", fn=other))


def test_no_source_and_no_code_is_an_error():
    with pytest.raises(ValueError, match="neither source nor byte code"):
        key(TASK_SOURCE, context=run("r", fn=len))


# -------------------------------------------------------------------------------------------------- runs


def test_run_id_is_the_flow_runs_or_else_the_task_runs():
    assert key(RUN_ID, context=run("a", "f")) == key(RUN_ID, context=run("b", "f")) == "f"
    assert key(RUN_ID, context=run("a")) == "a"
    assert key(RUN_ID) is None


def test_default_is_inputs_source_and_run():
    assert key(DEFAULT, {"x": 1}, run("a", "f")) == key(DEFAULT, {"x": 1}, run("b", "f"))
    assert key(DEFAULT, {"x": 1}, run("a", "f")) != key(DEFAULT, {"x": 2}, run("a", "f"))
    assert key(DEFAULT, {"x": 1}, run("a", "f")) != key(DEFAULT, {"x": 1}, run("a", "g"))
    assert key(DEFAULT, {"x": 1}) != key(DEFAULT, {"x": 2})


# ---------------------------------------------------------------------------------------------- functions


def test_a_function_makes_keys():
    policy = CachePolicy.from_cache_key_fn(lambda context, parameters: f"{context}-{parameters['x']}")
    assert isinstance(policy, CacheKeyFnPolicy)
    assert key(policy, {"x": 1}, "c") == "c-1"
    assert key(CacheKeyFnPolicy(cache_key_fn=None)) is None


# ---------------------------------------------------------------------------------------------- compounds


@dataclass
class Named(CachePolicy):
    name: str | None = None

    def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **kwargs: Any) -> str | None:
        return self.name


class Plain(CachePolicy):
    def __init__(self, key: Any) -> None:
        self.key = key

    def compute_key(self, **_: Any) -> Any:
        return self.key


def test_compounds_leave_out_parts_without_a_key():
    assert key(CompoundCachePolicy(policies=[])) is None
    assert key(CompoundCachePolicy(policies=[NONE, Named()])) is None
    assert key(Named("a") + Named()) is not None
    assert key(Named("a") + Named("b")) != key(Named("b") + Named("a"))
    assert key(Named("a") + Named("b")) != key(Named("ab") + Named(""[:0] or "x"))


def test_a_part_alone_is_told_from_another_part_alone():
    assert key(CompoundCachePolicy(policies=[Named("a"), Named()])) != key(
        CompoundCachePolicy(policies=[Named(), Named("a")])
    )


@pytest.mark.parametrize("bad", [1, b"k", ""])
def test_a_part_that_gives_no_text_is_an_error(bad):
    with pytest.raises((TypeError, ValueError), match="cache key"):
        key(Plain("good") + Plain(bad))


@pytest.mark.parametrize("policy", POLICIES)
def test_sums_are_new_objects_and_nothing_is_nothing(policy):
    total = policy + Named("a")
    assert isinstance(total, CompoundCachePolicy)
    assert total is not policy
    assert policy + NONE == policy
    assert NONE + policy == policy
    assert policy + None == policy
    assert key(policy + NONE, {"x": 1}, run("a")) == key(policy, {"x": 1}, run("a"))


def test_sums_are_flat():
    assert [type(part) for part in (DEFAULT + FLOW_PARAMETERS).policies] == [Inputs, TaskSource, RunId, FlowParameters]
    assert [type(part) for part in DEFAULT.policies] == [Inputs, TaskSource, RunId]
    with pytest.raises(TypeError):
        INPUTS + "x"


# -------------------------------------------------------------------------------------------- subtraction


@pytest.mark.parametrize("policy", [*POLICIES, NONE, Named("a")])
def test_differences_are_new_objects(policy):
    less = policy - "x"
    assert less != policy
    assert key(less, {"x": 1, "y": 1}, run("a")) == key(less, {"x": 2, "y": 1}, run("a"))
    assert key(less, {"x": 1, "y": 1}, run("a")) != key(less, {"x": 1, "y": 2}, run("a"))
    with pytest.raises(TypeError, match="name of an input"):
        policy - 1


def test_differences_of_inputs_stay_inputs():
    less = INPUTS - "x" - "y"
    assert isinstance(less, Inputs)
    assert (less.exclude, INPUTS.exclude) == (["x", "y"], [])


def test_a_difference_reaches_the_inputs_inside_of_sums():
    nested = CompoundCachePolicy(policies=[DEFAULT, Named("a")]) - "x"
    assert key(nested, {"x": 1}, run("a")) == key(nested, {"x": 2}, run("a"))
    assert key(DEFAULT, {"x": 1}, run("a")) != key(DEFAULT, {"x": 2}, run("a"))


# ------------------------------------------------------------------------------------------- configuration


def test_configuring_gives_a_copy():
    lock = object()
    policy = INPUTS.configure(key_storage="keys", lock_manager=lock, isolation_level="SERIALIZABLE")
    assert (policy.key_storage, policy.lock_manager, policy.isolation_level) == ("keys", lock, "SERIALIZABLE")
    assert (INPUTS.key_storage, INPUTS.lock_manager, INPUTS.isolation_level) == (None, None, None)
    policy.exclude.append("x")
    assert INPUTS.exclude == []
    assert policy.configure(key_storage=Path("other")).lock_manager is lock


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (({"key_storage": "a"}, {"key_storage": "b"}), "storage locations"),
        (({"isolation_level": "SERIALIZABLE"}, {"isolation_level": "READ_COMMITTED"}), "isolation levels"),
        (({"lock_manager": 1}, {"lock_manager": 2}), "lock implementations"),
    ],
)
def test_parts_that_contradict_each_other_cannot_be_added(options, named):
    first, second = (INPUTS.configure(**options[0]), RUN_ID.configure(**options[1]))
    with pytest.raises(ValueError, match=f"Cannot add CachePolicies with different {named}"):
        first + second
    with pytest.raises(ValueError, match=named):
        CompoundCachePolicy(policies=[first, second])


def test_sums_and_differences_keep_what_parts_say():
    policy = INPUTS.configure(key_storage=Path("keys")) + RUN_ID.configure(isolation_level="SERIALIZABLE")
    assert (str(policy.key_storage), policy.isolation_level) == ("keys", "SERIALIZABLE")
    assert (policy - "x").isolation_level == "SERIALIZABLE"
    assert str((policy + INPUTS.configure(key_storage="keys")).key_storage) == "keys"
    assert (RUN_ID.configure(key_storage="k") - "x").key_storage == "k"


@pytest.mark.parametrize("policy", [*POLICIES, NONE])
def test_policies_survive_pickling(policy):
    assert pickle.loads(pickle.dumps(policy)) == policy
