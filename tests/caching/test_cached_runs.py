"""Task runs that find their results in the cache: which do, which do not, and what is seen of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from callsheet import Task, flow, tags, task
from callsheet.cache_policies import DEFAULT, FLOW_PARAMETERS, INPUTS, NONE, RUN_ID, TASK_SOURCE, CachePolicy
from callsheet.context import TaskRunContext
from callsheet.filesystems import LocalFileSystem, WritableFileSystem
from callsheet.locking.memory import MemoryLockManager
from callsheet.results import ResultStore
from callsheet.settings import CALLSHEET_RESULTS_PERSIST_BY_DEFAULT, temporary_settings
from callsheet.tasks import task_input_hash
from callsheet.transactions import IsolationLevel


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("callsheet"), "propagate", True)
    caplog.set_level("INFO", logger="callsheet")
    return caplog


class Counting:
    """A task that counts how often its body was called."""

    def __init__(self, colour: str, **options: Any) -> None:
        self.calls: list[Any] = []
        calls = self.calls
        if colour == "sync":

            @task(**options)
            def double(x: Any, y: Any = None) -> Any:
                calls.append(x)
                return [x, x]

            self.task: Task[..., Any] = double
        else:

            @task(**options)
            async def adouble(x: Any, y: Any = None) -> Any:
                await anyio.sleep(0)
                calls.append(x)
                return [x, x]

            self.task = adouble


@pytest.fixture(params=["sync", "async"])
def counting(request: pytest.FixtureRequest) -> Callable[..., Counting]:
    return lambda **options: Counting(request.param, **options)


def names_of(runs: Callable[..., Any], counted: Counting, *calls: Any, way: str = "call", **options: Any) -> list[str]:
    """Call the task in one flow run and give the names of its states."""
    called = counted.task

    @flow(**options)
    async def around() -> list[str]:
        states = []
        for call in calls:
            args = call if isinstance(call, tuple) else (call,)
            if way == "submit":
                states.append(called.submit(*args, return_state=True))
            elif way == "map":
                states += called.map([args[0]], return_state=True)
            else:
                state = called(*args, return_state=True)
                states.append(await state if called.isasync else state)
        for state in states:
            assert await state.result() == [state.data.result[0]] * 2
        return [state.name for state in states]

    return runs(around)


# ------------------------------------------------------------------------------------------ what hits


@pytest.mark.parametrize("way", ["call", "submit", "map"])
def test_persistence_alone_caches_within_a_flow_run(counting, run_on, way):
    counted = counting(persist_result=True)
    assert names_of(run_on, counted, 1, 1, 2, way=way) == ["Completed", "Cached", "Completed"]
    assert names_of(run_on, counted, 1, way=way) == ["Completed"]
    assert counted.calls == [1, 2, 1]


def test_without_persistence_nothing_is_cached():
    calls: list[int] = []

    @task
    def plain(x: int) -> int:
        calls.append(x)
        return x

    @flow
    def around() -> list[str]:
        return [plain(1, return_state=True).name for _ in range(2)]

    assert around() == ["Completed", "Completed"]
    assert calls == [1, 1]


@pytest.mark.parametrize("policy", [INPUTS, INPUTS + TASK_SOURCE, DEFAULT - "y" + NONE])
def test_policies_cache_and_persist(counting, run_on, policy):
    counted = counting(cache_policy=policy)
    assert names_of(run_on, counted, 1, 1) == ["Completed", "Cached"]
    expected = ["Completed", "Completed"] if "RunId" in repr(policy) else ["Cached", "Completed"]
    assert names_of(run_on, counted, 1, 3) == expected


def test_subtracted_inputs_do_not_matter(counting, run_on):
    counted = counting(cache_policy=INPUTS - "y")
    assert names_of(run_on, counted, (1, "a"), (1, threading.Lock()), (2, "a")) == ["Completed", "Cached", "Completed"]


def test_flow_parameters_as_key():
    @task(cache_policy=FLOW_PARAMETERS)
    def seen(x: int) -> int:
        return x

    @flow
    def around(day: str, x: int) -> str:
        return seen(x, return_state=True).name

    assert [around("mon", 1), around("tue", 1), around("mon", 1)] == ["Completed", "Completed", "Cached"]


@pytest.mark.parametrize("policy", [NONE, None])
def test_no_policy_persists_and_shares_nothing(counting, run_on, policy):
    counted = counting(cache_policy=policy, persist_result=True)
    assert names_of(run_on, counted, 1, 1) == ["Completed", "Completed"]


def test_none_is_a_result_too():
    calls: list[int] = []

    @task(cache_policy=INPUTS)
    def nothing(x: int) -> None:
        calls.append(x)

    assert [nothing(1, return_state=True).name for _ in range(2)] == ["Completed", "Cached"]
    assert nothing(1) is None
    assert calls == [1]


def test_the_setting_and_the_flow_switch_it_on(counting, run_on):
    assert names_of(run_on, counting(), 1, 1, persist_result=True) == ["Completed", "Cached"]
    with temporary_settings({CALLSHEET_RESULTS_PERSIST_BY_DEFAULT: True}):
        assert names_of(run_on, counting(), 1, 1) == ["Completed", "Cached"]
        counted = counting(persist_result=False)

        @flow
        async def around() -> list[str]:
            states = [counted.task(1, return_state=True) for _ in range(2)]
            return [(await state if counted.task.isasync else state).name for state in states]

        assert run_on(around) == ["Completed", "Completed"]


# --------------------------------------------------------------------------------------- key functions


def test_a_key_function_sees_the_context_and_resolved_parameters():
    seen: list[Any] = []

    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
        seen.append((context.task.name, context.task_run.name[:6], dict(parameters)))
        return "k"

    @task
    def one() -> int:
        return 1

    @task(cache_key_fn=key)
    def double(x: int, y: int = 5) -> int:
        return 2 * x

    @flow
    def around() -> list[str]:
        return [double(one.submit(), return_state=True).name, double(y=5, x=1, return_state=True).name]

    assert around() == ["Completed", "Cached"]
    assert seen == [("double", "double", {"x": 1, "y": 5})] * 2


def test_a_key_function_that_gives_none_switches_caching_off(counting, run_on):
    counted = counting(cache_key_fn=lambda context, parameters: None)
    assert names_of(run_on, counted, 1, 1) == ["Completed", "Completed"]


def test_methods_have_their_instance_in_the_key():
    class Adder:
        def __init__(self, number: int) -> None:
            self.number = number

        @task(cache_key_fn=lambda context, parameters: f"{parameters['self'].number}-{parameters['x']}")
        def by_function(self, x: int) -> int:
            return self.number + x

        @task(cache_policy=INPUTS)
        def by_inputs(self, x: int) -> int:
            return self.number + x

    for name in ("by_function", "by_inputs"):
        states = [getattr(Adder(number), name)(1, return_state=True) for number in (1, 2, 1)]
        assert [(state.name, state.result()) for state in states] == [("Completed", 2), ("Completed", 3), ("Cached", 2)]


def test_task_input_hash_as_key_function(counting, run_on):
    counted = counting(cache_key_fn=task_input_hash)
    assert names_of(run_on, counted, 1, 1) == ["Completed", "Cached"]
    assert names_of(run_on, counted, 1, 2) == ["Cached", "Completed"]
    assert names_of(run_on, counted, (3, threading.Lock()), (3, threading.Lock())) == ["Completed", "Completed"]


# --------------------------------------------------------------------------------------- what does not


@pytest.mark.parametrize("after", [timedelta(seconds=-1), timedelta()])
def test_expired_records_are_not_used(counting, run_on, after):
    counted = counting(cache_policy=INPUTS, cache_expiration=after)
    assert names_of(run_on, counted, 1, 1) == ["Completed", "Completed"]
    longer = counting(cache_policy=INPUTS, cache_expiration=timedelta(days=1))
    assert names_of(run_on, longer, 1, 1)[1] == "Cached"


def test_refreshing_replaces_the_record():
    value = iter(range(10))

    @task(cache_key_fn=lambda context, parameters: "same")
    def count() -> int:
        return next(value)

    refreshing = count.with_options(refresh_cache=True)
    assert [count(), count(), refreshing(), count(), refreshing(), count()] == [0, 0, 1, 1, 2, 2]


def test_unhashable_inputs_run_uncached_and_say_what_to_do(counting, run_on, logged):
    counted = counting(persist_result=True)
    assert names_of(run_on, counted, (1, threading.Lock()), (1, threading.Lock())) == ["Completed", "Completed"]
    for text in (
        "This often occurs when task inputs contain objects that cannot be cached",
        "1. Exclude these arguments by defining a custom `cache_key_fn`",
        "2. Disable caching by passing `cache_policy=NONE`",
        "JSON error: ",
        "Pickle error: ",
    ):
        assert text in logged.text


class Broken(CachePolicy):
    def compute_key(self, **_: Any) -> Any:
        raise RuntimeError("no key today")


class Wrong(CachePolicy):
    def compute_key(self, **_: Any) -> Any:
        return 17


class Asking(CachePolicy):
    async def compute_key(self, **_: Any) -> Any:  # type: ignore[override]
        return "key"


@pytest.mark.parametrize(
    ("policy", "said"),
    [(Broken(), "no key today"), (Wrong(), "got int"), (Asking(), "async function cannot make keys")],
)
@pytest.mark.parametrize("add", [False, True])
def test_an_error_inside_a_policy_reuses_nothing(counting, run_on, logged, policy, said, add):
    counted = counting(cache_policy=policy + INPUTS if add else policy)
    assert names_of(run_on, counted, 1, 1) == ["Completed", "Completed"]
    assert "The run is not cached" in logged.text
    assert said in logged.text


def test_failures_are_never_hits():
    calls: list[int] = []

    @task(cache_policy=INPUTS)
    def failing(x: int) -> int:
        calls.append(x)
        raise ValueError("no")

    @task(cache_policy=INPUTS)
    def refusing(x: int) -> Any:
        from callsheet.states import Failed

        calls.append(x)
        return Failed(message="no", data=ValueError("no"))

    for one in (failing, refusing):
        states = [one(1, return_state=True) for _ in range(2)]
        assert [state.name for state in states] == ["Failed", "Failed"]
        assert isinstance(states[1].result(raise_on_failure=False), ValueError)
    assert len(calls) == 4


def test_an_unusable_record_is_replaced(tmp_path, logged):
    calls: list[int] = []

    @task(result_storage_key="record", result_storage=tmp_path)
    def one() -> int:
        calls.append(1)
        return 1

    @flow
    def around() -> str:
        return one(return_state=True).name

    assert around() == "Completed"
    (file,) = [path for path in tmp_path.rglob("record*") if path.is_file()]
    for content in (b"", b"\x80garbage", file.read_bytes()[:-1]):
        file.write_bytes(content)
        assert around() == "Completed", content
        assert around() == "Cached"
    assert calls == [1] * 4


# ------------------------------------------------------------------------------------------- storage keys


def test_storage_keys_are_templates(tmp_path):
    @task(
        result_storage=tmp_path,
        result_storage_key="{flow_run.flow_name}/{parameters[day]}-{task_run.task_name}",
        result_serializer="json",
    )
    def load(day: str) -> str:
        return day

    @flow(name="nightly")
    def around(day: str) -> str:
        return load(day, return_state=True).name

    assert [around("mon"), around("tue"), around("mon")] == ["Completed", "Completed", "Cached"]
    assert {path.name.partition(".")[0] for path in (tmp_path / "nightly").iterdir()} >= {"mon-load", "tue-load"}


def test_a_template_that_cannot_be_filled_fails_the_run():
    @task(result_storage_key="{parameters[nobody]}")
    def one() -> int:
        return 1

    with pytest.raises(KeyError) as raised:
        one()
    assert "result_storage_key" in raised.value.__notes__[0]


def test_keys_kept_apart_from_results(tmp_path):
    keys, results = tmp_path / "keys", tmp_path / "results"

    @task(cache_policy=INPUTS.configure(key_storage=keys), result_storage=results)
    def double(x: int) -> int:
        return 2 * x

    assert [double(1, return_state=True).name for _ in range(2)] == ["Completed", "Cached"]
    (kept,) = [path for path in keys.rglob("*") if path.is_file()]
    assert b"callsheet_version" in kept.read_bytes()
    assert INPUTS.compute_key(None, {"x": 1}, {}) in kept.name
    assert [path for path in results.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------- locks


def test_serializable_without_locks_is_an_error():
    @task(cache_policy=INPUTS.configure(isolation_level="SERIALIZABLE"))
    def one(x: int) -> int:
        return x

    from callsheet.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match="not supported by provided configuration"):
        one(1)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_of_two_runs_with_one_key_one_computes_and_the_other_gets_its_result(run_on, colour):
    locks = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=MemoryLockManager())
    calls: list[int] = []

    @task(cache_policy=locks)
    def slow(x: int) -> int:
        assert locks.lock_manager.is_locked(INPUTS.compute_key(None, {"x": x}, {}))
        calls.append(x)
        threading.Event().wait(0.05)
        return 2 * x

    @task(cache_policy=locks)
    async def aslow(x: int) -> int:
        calls.append(x)
        await anyio.sleep(0.05)
        return 2 * x

    chosen: Any = slow if colour == "sync" else aslow

    @flow
    async def around() -> list[tuple[str, int]]:
        futures = [chosen.submit(3) for _ in range(4)]
        return sorted([(future.state.name, future.result()) for future in futures if future.wait() is None])

    assert run_on(around) == [("Cached", 6)] * 3 + [("Completed", 6)]
    assert calls == [3]
    assert not locks.lock_manager.is_locked(INPUTS.compute_key(None, {"x": 3}, {}))


# ------------------------------------------------------------------------------------------------ retries


class Watched(WritableFileSystem):
    """A storage that notes what is asked of it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.reads = 0

    def read_path(self, path: str) -> bytes:
        self.reads += 1
        return self.kept[path]

    def write_path(self, path: str, content: bytes) -> None:
        self.kept[path] = content


@pytest.mark.parametrize("level", [IsolationLevel.READ_COMMITTED, IsolationLevel.SERIALIZABLE])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_hit_asks_the_storage_once_at_most(counting, run_on, level, in_memory):
    storage = Watched()
    policy = INPUTS.configure(isolation_level=level, lock_manager=MemoryLockManager())
    made = counting(cache_policy=policy, result_storage=storage, cache_result_in_memory=in_memory)
    assert names_of(run_on, made, 1) == ["Completed"]
    storage.reads = 0
    assert names_of(run_on, made, 1, 1, 1) == ["Cached"] * 3
    # In memory, a record may be older than what another process has written: those who want to be alone look again.
    once = not in_memory or level is IsolationLevel.SERIALIZABLE
    assert made.calls == [1]
    assert storage.reads == (3 if once else 1)


def test_a_serializable_hit_sees_what_others_wrote_meanwhile():
    storage = Watched()
    policy = INPUTS.configure(isolation_level=IsolationLevel.SERIALIZABLE, lock_manager=MemoryLockManager())
    number = iter(range(10))

    @task(cache_policy=policy, result_storage=storage)
    def give(x: int) -> int:
        return next(number)

    @flow
    def both() -> list[int]:
        found = [give(1), give(1)]
        (key,) = storage.kept
        ResultStore(result_storage=storage).write(7, key=key)
        return [*found, give(1)]

    assert both() == [0, 0, 7]


def test_a_flows_retry_takes_over_what_was_persisted():
    calls: list[str] = []

    @task(persist_result=True, retries=2)
    def kept() -> int:
        calls.append("kept")
        return 1

    @task
    def again() -> int:
        calls.append("again")
        return 1

    @flow(retries=1)
    def around() -> str:
        state = kept(return_state=True)
        again()
        if len(calls) < 3:
            raise ValueError("once more")
        return state.name

    assert around() == "Cached"
    assert calls == ["kept", "again", "again"]


def test_only_the_attempt_that_completed_is_recorded():
    calls: list[int] = []

    @task(cache_policy=INPUTS, retries=1)
    def second(x: int) -> int:
        calls.append(x)
        if len(calls) < 2:
            raise ValueError("not yet")
        return len(calls)

    assert [second(1), second(1)] == [2, 2]


# -------------------------------------------------------------------------------------- outside of flows


def test_outside_of_flows_too(counting, run_on):
    counted = counting(cache_policy=INPUTS)
    called = counted.task

    async def outside() -> str:
        state = called(1, return_state=True)
        return (await state if called.isasync else state).name

    assert [run_on(outside), run_on(outside)] == ["Completed", "Cached"]
    lone = counting(persist_result=True)
    called = lone.task
    assert [run_on(outside), run_on(outside)] == ["Completed", "Completed"]  # each is a run of its own


def test_tags_and_hooks_of_a_cached_run():
    seen: list[Any] = []

    @task(cache_policy=INPUTS, on_completion=[lambda task, run, state: seen.append((state.name, sorted(run.tags)))])
    def one(x: int) -> int:
        return x

    with tags("a"):
        one(1)
        one(1)
    assert seen == [("Completed", ["a"]), ("Cached", ["a"])]


def test_large_inputs_are_digested_off_the_loop(run_on):
    threads: list[int] = []

    class Noting(CachePolicy):
        def compute_key(self, task_ctx: Any, inputs: Any, flow_parameters: Any, **_: Any) -> Any:
            key = INPUTS.compute_key(task_ctx, inputs, flow_parameters)
            threads.append(threading.get_ident())
            return key

    @task(cache_policy=Noting())
    async def size(x: Any) -> int:
        return len(x)

    async def main() -> list[str]:
        small, large = b"x" * 10, b"x" * (16 << 20)
        return [(await size(value, return_state=True)).name for value in (small, large, small, large)]

    assert run_on(main) == ["Completed", "Completed", "Cached", "Cached"]
    assert threads[0] == threads[2]
    assert threads[1] != threads[0]
    assert threads[3] != threads[0]


def test_storage_objects_are_shared(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("results")
    storage = LocalFileSystem(tmp_path)

    @task(cache_policy=INPUTS, result_storage=storage)
    def one(x: int) -> int:
        return x

    @task(cache_policy=INPUTS + RUN_ID, result_storage=Path(tmp_path))
    def other(x: int) -> int:
        return x

    assert [one(1, return_state=True).name for _ in range(2)] == ["Completed", "Cached"]
    assert other(1, return_state=True).name == "Completed"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2
