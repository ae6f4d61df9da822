"""What programs pass to the public names: parameters, their order, kinds and defaults.

Programs that move over call with these, by position too, and some compare them. A parameter leaves the table only with a
release that says so. What is ours besides is named below it, so that nothing gets in or out unnoticed.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import pytest

from callsheet import Transaction, flow, get_client, task
from callsheet.results import DEFAULT_STORAGE_KEY_FN, ResultStore
from callsheet.states import Completed, State
from callsheet.transactions import IsolationLevel, TransactionState
from callsheet.utilities.annotations import NotSet

HOOKS = "on_completion=None, on_failure=None, on_cancellation=None, on_crashed=None, on_running=None"
CALL = "*args, return_state=False, wait_for=None, **kwargs"
RUN = (
    "client=None, id=None, parameters=None, flow_run_context=None, parent_task_run_context=None, wait_for=None, "
    "extra_task_inputs=None, deferred=False"
)
STATE = "cls=State, **kwargs"
DUE = "cls=State, scheduled_time=None, **kwargs"
INPUT = "flow_run_id=None, sender=None"
RECEIVED = (
    "timeout=3600, poll_interval=10, raise_timeout_error=False, exclude_keys=None, key_prefix=None, flow_run_id=None, "
    "with_metadata=False"
)
LOCK = "key, holder, acquire_timeout=None, hold_timeout=None"
SUBMIT = "task, parameters, wait_for=None"

# `...` stands for a default that is made anew each time; `self` and `cls` are left out.
SIGNATURES: dict[str, dict[str, str]] = {
    "callsheet": {
        "Flow": (
            "fn, name=None, version=None, flow_run_name=None, retries=None, retry_delay_seconds=None, task_runner=None, "
            "description=None, timeout_seconds=None, validate_parameters=True, persist_result=None, result_storage=None, "
            f"result_serializer=None, cache_result_in_memory=True, log_prints=None, {HOOKS}"
        ),
        "flow": (
            "__fn=None, *, name=None, version=None, flow_run_name=None, retries=None, retry_delay_seconds=None, "
            "task_runner=None, description=None, timeout_seconds=None, validate_parameters=True, persist_result=None, "
            "result_storage=None, result_serializer=None, cache_result_in_memory=True, log_prints=None, "
            f"{HOOKS}"
        ),
        "Flow.with_options": (
            "*, name=None, version=None, retries=None, retry_delay_seconds=None, description=None, flow_run_name=None, "
            "task_runner=None, timeout_seconds=None, validate_parameters=None, persist_result=NotSet, "
            "result_storage=NotSet, result_serializer=NotSet, cache_result_in_memory=None, log_prints=NotSet, "
            f"{HOOKS}"
        ),
        "Flow.__call__": CALL,
        "Flow.__get__": "instance, owner=None",
        "Flow.serialize_parameters": "parameters",
        "Flow.validate_parameters": "parameters",
        "Flow.visualize": "*args, **kwargs",
        "Task": (
            "fn, name=None, description=None, tags=None, version=None, cache_policy=NotSet, cache_key_fn=None, "
            "cache_expiration=None, task_run_name=None, retries=None, retry_delay_seconds=None, "
            "retry_jitter_factor=None, persist_result=None, result_storage=None, result_serializer=None, "
            "result_storage_key=None, cache_result_in_memory=True, timeout_seconds=None, log_prints=False, "
            "refresh_cache=None, on_completion=None, on_failure=None, on_rollback=None, on_commit=None, "
            "retry_condition_fn=None, viz_return_value=None"
        ),
        "task": (
            "__fn=None, *, name=None, description=None, tags=None, version=None, cache_policy=NotSet, cache_key_fn=None, "
            "cache_expiration=None, task_run_name=None, retries=None, retry_delay_seconds=None, "
            "retry_jitter_factor=None, persist_result=None, result_storage=None, result_storage_key=None, "
            "result_serializer=None, cache_result_in_memory=True, timeout_seconds=None, log_prints=None, "
            "refresh_cache=None, on_completion=None, on_failure=None, retry_condition_fn=None, viz_return_value=None"
        ),
        "Task.with_options": (
            "*, name=None, description=None, tags=None, cache_policy=NotSet, cache_key_fn=None, task_run_name=NotSet, "
            "cache_expiration=None, retries=NotSet, retry_delay_seconds=NotSet, retry_jitter_factor=NotSet, "
            "persist_result=NotSet, result_storage=NotSet, result_serializer=NotSet, result_storage_key=NotSet, "
            "cache_result_in_memory=None, timeout_seconds=None, log_prints=NotSet, refresh_cache=NotSet, "
            "on_completion=None, on_failure=None, retry_condition_fn=None, viz_return_value=None"
        ),
        "Task.__call__": CALL,
        "Task.__get__": "instance, owner=None",
        "Task.submit": CALL,
        "Task.map": "*args, return_state=False, wait_for=None, deferred=False, **kwargs",
        "Task.apply_async": "args=None, kwargs=None, wait_for=None, dependencies=None",
        "Task.delay": "*args, **kwargs",
        "Task.serve": "",
        "Task.create_run": RUN,
        "Task.create_local_run": RUN,
        "State": (
            "*, type, name=None, timestamp=..., message=None, state_details=..., data=None, id=..., created=None, "
            "updated=None"
        ),
        "State.default_name_from_type": "",
        "State.fresh_copy": "**kwargs",
        "State.model_copy": "*, update=None, deep=False",
        "State.result": "raise_on_failure=True, fetch=True, retry_result_failure=True",
        "State.to_state_create": "",
        "Transaction": (
            "*, store=None, key=None, children=..., commit_mode=None, isolation_level=IsolationLevel.READ_COMMITTED, "
            "state=TransactionState.PENDING, on_commit_hooks=..., on_rollback_hooks=..., overwrite=False, logger=..., "
            "write_on_commit=True"
        ),
        "Transaction.get": "name, default=NotSet",
        "Transaction.set": "name, value",
        "Transaction.stage": "value, on_rollback_hooks=None, on_commit_hooks=None",
        "Transaction.add_child": "transaction",
        "allow_failure": "value",
        "unmapped": "value",
        "get_client": "httpx_settings=None, sync_client=False",
        "get_run_logger": "context=None, **kwargs",
        "pause_flow_run": "wait_for_input=None, timeout=3600, poll_interval=10, key=None",
        "resume_flow_run": "flow_run_id, run_input=None",
        "suspend_flow_run": "wait_for_input=None, flow_run_id=None, timeout=3600, key=None, client=None",
        "tags": "*new_tags",
    },
    "callsheet.flow_runs": {
        "wait_for_flow_run": "flow_run_id, timeout=10800, poll_interval=5, client=None, log_states=False",
    },
    "callsheet.transactions": {
        "transaction": (
            "key=None, store=None, commit_mode=None, isolation_level=None, overwrite=False, write_on_commit=True, "
            "logger=None"
        ),
        "get_transaction": "",
    },
    "callsheet.states": {
        **dict.fromkeys("Completed Failed Crashed Cancelled Cancelling Pending Running Retrying".split(), STATE),
        **dict.fromkeys("Scheduled AwaitingRetry AwaitingConcurrencySlot Late".split(), DUE),
        "Paused": (
            "cls=State, timeout_seconds=None, pause_expiration_time=None, reschedule=False, pause_key=None, **kwargs"
        ),
        "Suspended": "cls=State, timeout_seconds=None, pause_expiration_time=None, pause_key=None, **kwargs",
        "get_state_result": "state, fetch=True, raise_on_failure=True, retry_result_failure=True",
        "raise_state_exception": "state",
        "get_state_exception": "state",
        "exception_to_crashed_state": "exc, result_store=None",
        "exception_to_failed_state": "exc=None, result_store=None, write_result=False, **kwargs",
        "return_value_to_state": "retval, result_store=None, key=None, expiration=None, write_result=False",
    },
    "callsheet.tasks": {"exponential_backoff": "backoff_factor", "task_input_hash": "context, arguments"},
    "callsheet.futures": {
        "TaskFuture.result": "timeout=None, raise_on_failure=True",
        "TaskFuture.wait": "timeout=None",
        "TaskFuture.add_done_callback": "fn",
        "TaskFutureList.result": "timeout=None, raise_on_failure=True",
        "TaskFutureList.wait": "timeout=None",
        "as_completed": "futures, timeout=None",
        "wait": "futures, timeout=None",
        "resolve_futures_to_states": "expr",
    },
    "callsheet.task_runners": {
        "ThreadPoolTaskRunner": "max_workers=None",
        "TaskRunner.submit": f"{SUBMIT}, dependencies=None",
        "TaskRunner.map": SUBMIT,
    },
    "callsheet.flow_engine": {
        "run_flow": "flow, flow_run=None, parameters=None, wait_for=None, return_type='result'",
    },
    "callsheet.task_engine": {
        "run_task": (
            "task, task_run_id=None, task_run=None, parameters=None, wait_for=None, return_type='result', "
            "dependencies=None, context=None"
        ),
    },
    "callsheet.cache_policies": {
        "CachePolicy.compute_key": "task_ctx, inputs, flow_parameters, **kwargs",
        "CachePolicy.configure": "key_storage=None, lock_manager=None, isolation_level=None",
    },
    "callsheet.results": {
        "ResultStore": (
            "result_storage=None, metadata_storage=None, lock_manager=None, cache_result_in_memory=True, serializer=None, "
            "storage_key_fn=DEFAULT_STORAGE_KEY_FN, cache=None"
        ),
        "ResultStore.update_for_flow": "flow",
        "ResultStore.update_for_task": "task",
        "ResultStore.read": "key, holder=None",
        "ResultStore.write": "obj, key=None, expiration=None, holder=None",
        "ResultStore.exists": "key",
        "ResultStore.persist_result_record": "result_record, holder=None",
        "ResultStore.acquire_lock": "key, holder=None, timeout=None",
        "ResultStore.release_lock": "key, holder=None",
        "ResultStore.supports_isolation_level": "level",
        "ResultStore.model_copy": "*, update=None, deep=False",
    },
    "callsheet.locking.memory": {
        "MemoryLockManager.acquire_lock": LOCK,
        "MemoryLockManager.aacquire_lock": LOCK,
        "MemoryLockManager.release_lock": "key, holder",
        "MemoryLockManager.wait_for_lock": "key, timeout=None",
    },
    "callsheet.input": {
        "send_input": "run_input, flow_run_id, sender=None, key_prefix=None",
        "receive_input": f"input_type, {RECEIVED}",
        "create_flow_run_input": f"key, value, {INPUT}",
        "create_flow_run_input_from_model": f"key, model_instance, {INPUT}",
        "read_flow_run_input": "key, flow_run_id=None",
        "filter_flow_run_input": "key_prefix, limit=1, exclude_keys=None, flow_run_id=None",
        "delete_flow_run_input": "key, flow_run_id=None",
        "RunInput.receive": RECEIVED,
        "RunInput.respond": "run_input, sender=None, key_prefix=None",
        "RunInput.send_to": "flow_run_id, sender=None, key_prefix=None",
        "RunInput.with_initial_data": "description=None, **kwargs",
    },
    "callsheet.logging.loggers": {
        "get_logger": "name=None",
        "flow_run_logger": "flow_run, flow=None, **kwargs",
        "task_run_logger": "task_run, task=None, flow_run=None, flow=None, **kwargs",
        "LogEavesdropper": "eavesdrop_on, level=0",
    },
    "callsheet.client.orchestration": {
        "Client.read_flow_run": "flow_run_id",
        "Client.resume_flow_run": "flow_run_id, run_input=None",
        "Client.set_flow_run_state": "flow_run_id, state, force=False",
        "Client.set_task_run_state": "task_run_id, state, force=False",
        "Client.create_task_run": (
            "task, flow_run_id, dynamic_key, id=None, name=None, extra_tags=None, state=None, task_inputs=None"
        ),
    },
    "callsheet.settings": {"temporary_settings": "updates=None, set_defaults=None, restore_defaults=None"},
    "callsheet.utilities.callables": {"get_call_parameters": "fn, call_args, call_kwargs, apply_defaults=True"},
}
KNOWN: dict[str, Any] = {
    "NotSet": NotSet,
    "State": State,
    "IsolationLevel": IsolationLevel,
    "TransactionState": TransactionState,
    "DEFAULT_STORAGE_KEY_FN": DEFAULT_STORAGE_KEY_FN,
}

# Ours besides: by keyword only, so that no position moves.
ADDED: dict[str, str] = {
    "Flow": "on_change",
    "flow": "on_change",
    "Flow.with_options": "on_change",
    "Task": "journal_key",
    "task": "on_rollback on_commit journal_key",
    "Task.with_options": "on_rollback on_commit journal_key",
    "State.fresh_copy": "deep",
    "pause_flow_run": "until",
    "suspend_flow_run": "until",
}

# Named there, not here yet: what calls it is told so.
NOT_YET: dict[str, str] = {
    "callsheet": "serve deploy Flow.serve Flow.deploy Flow.to_deployment Flow.from_source",
    "callsheet.results": "ResultStore.store_parameters ResultStore.read_parameters",
}

PLAIN_COROUTINES = "callsheet:Task.create_run callsheet:Task.create_local_run callsheet.flow_runs:wait_for_flow_run"

TABLE = [(module, name, text) for module, names in SIGNATURES.items() for name, text in names.items()]


def find(module: str, path: str) -> Any:
    thing: Any = importlib.import_module(module)
    for name in path.split("."):
        thing = inspect.getattr_static(thing, name) if name.startswith("__") else getattr(thing, name)
    return thing


def parameters_of(thing: Any) -> list[inspect.Parameter]:
    found = list(inspect.signature(thing).parameters.values())
    return found[1:] if found and found[0].name == "self" else found


def shape(parameter: inspect.Parameter) -> tuple[object, ...]:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return ("", parameter.kind)  # nobody passes these by name
    return (parameter.name, parameter.kind, parameter.default)


@pytest.mark.parametrize(("module", "name", "text"), TABLE, ids=[f"{module}.{name}" for module, name, _ in TABLE])
def test_a_program_can_pass(module: str, name: str, text: str) -> None:
    found = parameters_of(find(module, name))
    added = set(ADDED.get(name, "").split()) if module == "callsheet" else set[str]()
    for parameter in found:
        if parameter.name in added:
            assert parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
    expected = inspect.signature(eval(f"lambda {text}: None", dict(KNOWN))).parameters.values()
    rest = [parameter for parameter in found if parameter.name not in added]
    assert len(rest) == len(found) - len(added), f"what is ours besides is not there any more: {added}"
    made_anew = {parameter.name for parameter in expected if parameter.default is ...}
    assert [shape(p.replace(default=...) if p.name in made_anew else p) for p in rest] == [*map(shape, expected)]


@pytest.mark.parametrize("coroutine", PLAIN_COROUTINES.split())
def test_what_is_a_plain_coroutine_stays_one(coroutine: str) -> None:
    assert inspect.iscoroutinefunction(find(*coroutine.split(":")))


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in NOT_YET.items() for name in names.split()]
)
def test_what_is_not_there_yet_says_so(module: str, name: str) -> None:
    with pytest.raises(NotImplementedError, match=name.rpartition(".")[2]):
        find(module, name)(object())


# ------------------------------------------------------------------------------------------- attributes

ATTRIBUTES: dict[str, str] = {
    "flow": (
        "fn name flow_run_name task_runner log_prints description isasync isgenerator version timeout_seconds retries "
        "retry_delay_seconds parameters should_validate_parameters persist_result result_storage result_serializer "
        "cache_result_in_memory on_completion_hooks on_failure_hooks on_cancellation_hooks on_crashed_hooks "
        "on_running_hooks ismethod _storage _entrypoint on_completion on_failure on_cancellation on_crashed on_running "
        "from_source __name__ __qualname__ __doc__ __module__ __wrapped__"
    ),
    "task": (
        "fn name description tags version isasync isgenerator task_run_name log_prints task_key cache_policy "
        "cache_key_fn cache_expiration refresh_cache retries retry_delay_seconds retry_jitter_factor persist_result "
        "result_storage result_serializer result_storage_key cache_result_in_memory timeout_seconds on_completion_hooks "
        "on_failure_hooks on_commit_hooks on_rollback_hooks retry_condition_fn viz_return_value ismethod on_completion "
        "on_failure on_commit on_rollback __name__ __qualname__ __doc__ __module__ __wrapped__"
    ),
    "state": (
        "id created updated type name timestamp message state_details data is_scheduled is_pending is_running "
        "is_completed is_failed is_crashed is_cancelled is_cancelling is_paused is_final"
    ),
    "details": (
        "flow_run_id task_run_id scheduled_time deferred task_parameters_id pause_key run_input_keyset pause_timeout"
    ),
    "transaction": (
        "store key children commit_mode isolation_level state on_commit_hooks on_rollback_hooks overwrite logger "
        "write_on_commit is_pending is_active is_staged is_committed is_rolled_back begin reset commit rollback read "
        "get_parent get_active"
    ),
    "client": "hello read_flow_run resume_flow_run create_task_run",
    "store": (
        "supports_isolation_level acquire_lock release_lock exists read write aread awrite aexists "
        "create_result_record update_for_flow update_for_task result_storage metadata_storage lock_manager serializer "
        "storage_key_fn cache cache_result_in_memory"
    ),
}


@flow
def survey() -> None:
    """Look."""


@task
def dig() -> None:
    """Dig."""


OBJECTS: dict[str, Any] = {
    "flow": survey,
    "task": dig,
    "state": Completed(),
    "details": Completed().state_details,
    "transaction": Transaction(),
    "client": get_client(),
    "store": ResultStore(),
}


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_a_program_can_read(kind: str) -> None:
    assert [name for name in ATTRIBUTES[kind].split() if not hasattr(OBJECTS[kind], name)] == []
