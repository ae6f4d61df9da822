"""The names that programs import, and that each says what it takes, gives and raises."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Frozen: programs import these. A name leaves only with a release that says so; later work adds to the list.
NAMES: dict[str, str] = {
    "callsheet": (
        "flow task Flow Task State tags unmapped allow_failure get_client get_run_logger runtime states "
        "Engine drive Transaction pause_flow_run resume_flow_run watch on_query query_flow_run sleep "
        "sleep_until send_signal wait_signal __version__"
    ),
    "callsheet.flows": "Flow flow",
    "callsheet.tasks": "Task task task_input_hash exponential_backoff",
    "callsheet.states": (
        "State StateType StateGroup Completed Failed Crashed Cancelled Cancelling Paused Suspended Pending Running "
        "Scheduled AwaitingRetry AwaitingConcurrencySlot Retrying Late raise_state_exception return_value_to_state "
        "is_state_iterable get_state_exception exception_to_failed_state exception_to_crashed_state get_state_result"
    ),
    "callsheet.waits": ("sleep asleep sleep_until asleep_until send_signal asend_signal wait_signal await_signal"),
    "callsheet.events": "watch Watch Event StateEvent LogEvent",
    "callsheet.queries": "on_query query_flow_run aquery_flow_run",
    "callsheet.flow_runs": (
        "pause_flow_run resume_flow_run wait_for_flow_run cancel_flow_run cancel_flow_runs acancel_flow_run "
        "acancel_flow_runs"
    ),
    "callsheet.task_runs": "cancel_task_run acancel_task_run",
    "callsheet.input.actions": (
        "create_flow_run_input create_flow_run_input_from_model read_flow_run_input filter_flow_run_input "
        "delete_flow_run_input"
    ),
    "callsheet.input.run_input": (
        "RunInput RunInputMetadata AutomaticRunInput send_input receive_input keyset_from_base_key "
        "keyset_from_paused_state run_input_subclass_from_type"
    ),
    "callsheet.input": (
        "RunInput RunInputMetadata AutomaticRunInput send_input receive_input create_flow_run_input "
        "create_flow_run_input_from_model read_flow_run_input filter_flow_run_input delete_flow_run_input "
        "keyset_from_base_key keyset_from_paused_state run_input_subclass_from_type"
    ),
    "callsheet.futures": (
        "TaskFuture WrappedTaskFuture ConcurrentTaskFuture DistributedTaskFuture TaskFutureList as_completed wait "
        "resolve_futures_to_states"
    ),
    "callsheet.task_runners": (
        "TaskRunner ThreadPoolTaskRunner ConcurrentTaskRunner ProcessPoolTaskRunner DaskTaskRunner RayTaskRunner "
        "BackgroundTaskRunner"
    ),
    "callsheet.transactions": ("transaction get_transaction Transaction CommitMode IsolationLevel TransactionState"),
    "callsheet.records.base": "RecordStore TransactionRecord",
    "callsheet.records.memory": "MemoryRecordStore",
    "callsheet.records.filesystem": "FileSystemRecordStore",
    "callsheet.records.result_store": "ResultRecordStore",
    "callsheet.locking.memory": "MemoryLockManager",
    "callsheet.locking.filesystem": "FileSystemLockManager",
    "callsheet.locking.database": "DatabaseLockManager",
    "callsheet.locking.protocol": "LockManager",
    "callsheet.flow_engine": "run_flow run_flow_sync run_flow_async",
    "callsheet.task_engine": "run_task run_task_sync run_task_async",
    "callsheet.context": (
        "FlowRunContext TaskRunContext EngineContext TagsContext ContextModel get_run_context tags serialize_context "
        "hydrated_context SyncClientContext AsyncClientContext"
    ),
    "callsheet.runtime": "flow_run task_run deployment",
    "callsheet.logging": "get_logger get_run_logger disable_run_logger",
    "callsheet.logging.loggers": (
        "get_logger get_run_logger disable_run_logger disable_logger flow_run_logger task_run_logger LogAdapter "
        "patch_print print_as_log LogEavesdropper"
    ),
    "callsheet.exceptions": (
        "UnfinishedRun CrashedRun CancelledRun PausedRun FailedRun MissingResult MissingContextError "
        "ParameterTypeError ParameterBindError ReservedArgumentError SignatureMismatchError InvalidNameError "
        "MappingLengthMismatch MappingMissingIterable ConfigurationError FlowPauseTimeout FlowRunWaitTimeout "
        "NotPausedError ScriptError ObjectNotFound ObjectAlreadyExists Abort Pause TerminationSignal "
        "SerializationError BlockingWaitError EngineClosed StoreError"
    ),
    "callsheet.cache_policies": (
        "CachePolicy CacheKeyFnPolicy CompoundCachePolicy Inputs RunId TaskSource FlowParameters NoCaching DEFAULT INPUTS "
        "TASK_SOURCE RUN_ID FLOW_PARAMETERS NONE"
    ),
    "callsheet.results": (
        "ResultStore ResultRecord ResultRecordMetadata get_result_store get_default_result_storage "
        "should_persist_result DEFAULT_STORAGE_KEY_FN ResultStorage ResultSerializer"
    ),
    "callsheet.serializers": (
        "Serializer PickleSerializer JSONSerializer MsgpackSerializer CompressedSerializer CompressedPickleSerializer "
        "CompressedJSONSerializer EncryptedSerializer json_object_encoder json_object_decoder"
    ),
    "callsheet.filesystems": (
        "LocalFileSystem WritableFileSystem ReadableFileSystem NullFileSystem RemoteFileSystem MemoryStorage "
        "DatabaseStorage"
    ),
    "callsheet.client.orchestration": "get_client Client SyncClient",
    "callsheet.client.schemas.objects": (
        "State StateType StateDetails Flow FlowRun TaskRun TaskRunResult TaskRunInput Parameter Constant "
        "FlowRunPolicy TaskRunPolicy Log TERMINAL_STATES"
    ),
    "callsheet.client.schemas": "State StateType FlowRun TaskRun",
    "callsheet.client.schemas.filters": (
        "FlowRunFilter FlowRunFilterTags TaskRunFilter TaskRunFilterName TaskRunFilterState TaskRunFilterTags LogFilter"
    ),
    "callsheet.client.schemas.sorting": "FlowRunSort TaskRunSort LogSort",
    "callsheet.utilities.annotations": "unmapped allow_failure quote NotSet BaseAnnotation",
    "callsheet.annotations": "unmapped allow_failure quote",
    "callsheet.utilities.callables": "get_call_parameters parameter_schema",
    "callsheet.utilities.hashing": "file_hash hash_objects stable_hash",
    "callsheet.utilities.visualization": (
        "TaskVizTracker VizTask VisualizationUnsupportedError get_task_viz_tracker GraphvizImportError "
        "GraphvizExecutableNotFoundError FlowVisualizationError track_viz_task build_task_dependencies "
        "visualize_task_dependencies"
    ),
    "callsheet.settings": "Settings get_current_settings temporary_settings",
    "callsheet.testing": "reset",
    "callsheet.testing.utilities": "exceptions_equal",
}

# Names whose docstrings are read by people who write flows: these carry a tested example each.
WITH_EXAMPLE = ("callsheet", "callsheet.flows", "callsheet.tasks", "callsheet.futures", "callsheet.task_runners")


# One test a module, not one a name: a test costs more than what it does here.
@pytest.mark.parametrize("module", NAMES)
def test_programs_can_import(module):
    there = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(there, name)] == []


def documented_modules() -> tuple[str, ...]:
    """The modules of the reference, as the script that writes it lists them."""
    path = Path(__file__).parents[1] / "docs" / "build_reference.py"
    (modules,) = (
        node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODULES"
    )
    return ast.literal_eval(modules)


@pytest.mark.parametrize("module", dict.fromkeys((*documented_modules(), *NAMES)))
def test_modules_list_their_names(module):
    there = importlib.import_module(module)
    listed = list(getattr(there, "__all__", ()))
    assert listed, "it has no `__all__`"
    assert [name for name in listed if not hasattr(there, name)] == []
    kinds = [(0 if name.isupper() else 1 if name[0].isupper() else 2, name) for name in listed]  # as ruff sorts them
    assert kinds == sorted(set(kinds))
    assert {*NAMES.get(module, "").split()} <= {*listed}
    given: dict[str, Any] = {}
    exec(f"from {module} import *", given)
    assert {*listed} == {*given} - {"__builtins__"}


NOT_LISTED = {"KeyBlock", "TransactionBlock"}  # what calls give; nobody makes them, or names them


@pytest.mark.parametrize("module", documented_modules())
def test_modules_list_the_classes_that_they_define(module):
    there = importlib.import_module(module)
    own = {
        name
        for name, thing in vars(there).items()
        if inspect.isclass(thing) and thing.__module__ == module and not name.startswith("_")
    }
    assert own - NOT_LISTED <= {*there.__all__}


def module_names() -> Iterator[tuple[str, str]]:
    for module, names in NAMES.items():
        for name in names.split():
            yield module, name


def test_main_has_exactly_the_sixteen_names_of_the_page():
    main = importlib.import_module("callsheet.main")
    assert sorted(main.__all__) == sorted(
        "Flow State Task Transaction allow_failure unmapped deploy flow get_client get_run_logger pause_flow_run "
        "resume_flow_run serve suspend_flow_run tags task".split()
    )


def test_the_package_lists_its_names():
    import callsheet

    assert set(callsheet.__all__) <= set(dir(callsheet))
    for name in callsheet.__all__:
        assert getattr(callsheet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'flwo'"):
        _ = callsheet.flwo


# Names of features that are still to come: programs can import them, and what uses them says so.
NOT_YET: dict[str, str] = {
    "callsheet.artifacts": (
        "create_table_artifact create_markdown_artifact create_link_artifact create_image_artifact "
        "create_progress_artifact update_progress_artifact"
    ),
    "callsheet.blocks.core": "Block",
    "callsheet.blocks.system": "Secret",
    "callsheet.client.schemas": "Deployment WorkPool Variable",
    "callsheet.client.schemas.actions": "DeploymentScheduleCreate",
    "callsheet.client.schemas.filters": "DeploymentFilter DeploymentFilterId WorkerFilter WorkerFilterStatus",
    "callsheet.client.schemas.objects": (
        "Artifact ConcurrencyLimitConfig Deployment DeploymentSchedule Variable WorkPool WorkQueue Worker WorkerStatus"
    ),
    "callsheet.client.schemas.schedules": "IntervalSchedule CronSchedule RRuleSchedule NoSchedule construct_schedule",
    "callsheet.client.schemas.sorting": "DeploymentSort",
    "callsheet.client.types.flexible_schedule_list": "FlexibleScheduleList",
    "callsheet.concurrency.asyncio": "concurrency rate_limit",
    "callsheet.concurrency.sync": "concurrency rate_limit",
    "callsheet.deployments": "run_deployment deploy RunnerDeployment create_deployment_schedule_create",
    "callsheet.deployments.runner": "RunnerDeployment deploy",
    "callsheet.deployments.schedules": "create_deployment_schedule_create",
    "callsheet.docker": "DockerImage",
    "callsheet.events": "DeploymentEventTrigger emit_event",
    "callsheet.filesystems": "ReadableDeploymentStorage",
    "callsheet.flows": (
        "serve load_flow_from_entrypoint load_flow_arguments_from_entrypoint safe_load_flow_from_entrypoint "
        "load_flow_from_flow_run"
    ),
    "callsheet.runner": "Runner",
    "callsheet.runner.storage": (
        "LocalStorage GitRepository RemoteStorage RunnerStorage BlockStorageAdapter create_storage_from_source"
    ),
    "callsheet.task_worker": "TaskWorker serve",
    "callsheet.variables": "Variable",
    "callsheet.workers.base": "BaseWorker BaseJobConfiguration BaseVariables",
}


@pytest.mark.parametrize("module", NOT_YET)
def test_what_there_is_not_yet_says_so_when_it_is_used(module):
    for name in NOT_YET[module].split():
        thing = getattr(importlib.import_module(module), name)
        with pytest.raises(NotImplementedError, match=name):
            thing("x", y=1)
    with pytest.raises((AttributeError, ImportError)):
        _ = importlib.import_module(module).no_such_name


def test_stand_ins_can_be_named_and_subclassed():
    from callsheet import flow
    from callsheet.blocks.core import Block
    from callsheet.concurrency.sync import ConcurrencySlotAcquisitionError
    from callsheet.deployments import DeploymentApplyError, EntrypointType
    from callsheet.filesystems import LocalFileSystem
    from callsheet.types import entrypoint
    from callsheet.variables import Variable

    class Mine(Block):
        pass

    @flow
    def my_flow(block: Block | None = None) -> object:
        return block

    assert my_flow() is None
    assert not isinstance(1, Variable)
    assert "Variable" in repr(Variable)
    with pytest.raises(NotImplementedError, match=r"callsheet\.variables\.Variable\.get is not implemented yet"):
        Variable.get("x")
    for use in (LocalFileSystem.load, LocalFileSystem("results").save):
        with pytest.raises(NotImplementedError, match=r"LocalFileSystem\.(load|save) is not implemented yet"):
            use("name")
    with pytest.raises(NotImplementedError, match=r"callsheet\.blocks\.core\.Block is not implemented yet"):
        Mine()
    assert issubclass(ConcurrencySlotAcquisitionError, Exception)
    assert issubclass(DeploymentApplyError, RuntimeError)
    assert EntrypointType is entrypoint.EntrypointType
    assert EntrypointType("module_path") is EntrypointType.MODULE_PATH


# Programs that import the package alone, and go on by attributes.
AS_ATTRIBUTES = (
    "context.FlowRunContext exceptions.MissingContextError results.ResultStore logging.get_logger futures.wait "
    "client.orchestration.get_client client.schemas.objects.FlowRun client.schemas.filters.FlowRunFilter "
    "utilities.annotations.quote utilities.hashing.hash_objects task_runners.ThreadPoolTaskRunner settings.Settings "
    "transactions.transaction cache_policies.INPUTS serializers.Serializer filesystems.LocalFileSystem "
    "locking.memory.MemoryLockManager records.memory.MemoryRecordStore input.RunInput flow_runs.pause_flow_run "
    "flows.Flow tasks.task_input_hash states.Completed runtime.flow_run testing.utilities.exceptions_equal"
)


def test_modules_are_attributes_of_the_package():
    # Each in a process of its own, which has imported nothing else of the package: what another has imported is an attribute
    # already. What is not of the package is there before, for it takes most of the time.
    code = """
        import importlib, os, sys
        import callsheet

        def run(work):
            reading, writing = os.pipe()
            if not (child := os.fork()):
                os.write(writing, work().encode())
                os._exit(0)
            os.close(writing)
            with open(reading) as said:
                return said.read(), os.waitpid(child, 0)[1]

        def foreign():
            before = {*sys.modules}
            for path in sys.argv[1:]:
                eval("callsheet." + path)
            return " ".join(name for name in sys.modules if name not in before and not name.startswith("callsheet."))

        def reached():
            eval("callsheet." + path)
            return path

        names, _ = run(foreign)
        for name in names.split():
            importlib.import_module(name)
        assert len(names) > 100, names
        for path in sys.argv[1:]:
            if run(reached) != (path, 0):
                sys.exit(path)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *AS_ATTRIBUTES.split()],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_attributes_that_are_no_modules():
    import callsheet.client

    with pytest.raises(AttributeError, match=r"module 'callsheet\.client' has no attribute 'orchestra'"):
        _ = callsheet.client.orchestra
    assert {"context", "exceptions"} <= set(dir(callsheet))


# --------------------------------------------------------------------------------------------- docstrings


def documented() -> Iterator[tuple[str, Any, str]]:
    """Every public function, class and method of the listed modules, once, under the name of its own module."""
    seen: set[int] = set()
    for module, name in module_names():
        try:
            thing = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue  # the import test above tells
        if id(thing) in seen or not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        seen.add(id(thing))
        yield f"{module}.{name}", thing, module
        if inspect.isclass(thing) and thing.__module__.startswith("callsheet") and not issubclass(thing, BaseException):
            for method, fn in vars(thing).items():
                fn = getattr(fn, "__func__", fn)
                inherits = any(method in vars(base) for base in thing.__mro__[1:]) and not fn.__doc__
                if inspect.isfunction(fn) and not method.startswith("_") and id(fn) not in seen and not inherits:
                    seen.add(id(fn))
                    yield f"{module}.{name}.{method}", fn, module


def signature_of(thing: Any) -> inspect.Signature | None:
    try:
        return inspect.signature(thing)
    except (TypeError, ValueError, NameError):  # a struct whose hints only a type checker can read
        return None


def gaps(thing: Any, *, example: bool) -> list[str]:
    """Say which sections a docstring lacks."""
    doc = inspect.cleandoc(thing.__doc__ or "")
    if not doc:
        return ["docstring"]
    lacks = []
    signature = signature_of(thing)
    parameters = [name for name in (signature.parameters if signature else {}) if name not in {"self", "cls"}]
    if inspect.isfunction(thing):
        if len(parameters) > 1 and "Args:" not in doc and "For each option see `" not in doc:
            lacks.append("Args")
        lacks += [f"Args: {name}" for name in parameters if "Args:" in doc and f"{name}:" not in doc]
        gives = signature.return_annotation if signature else None
        if gives not in {None, "None", inspect.Signature.empty} and not any(
            word in doc for word in ("Returns:", "Yields:", "Give ", "Return ", "Tell ", "Make ", "Read ", "Count ")
        ):
            lacks.append("Returns")
        try:
            source = inspect.getsource(thing)
        except (OSError, TypeError):
            source = ""
        if "\n    raise " in source and "Raises:" not in doc and "NotImplementedError" not in source:
            lacks.append("Raises")
    if example and ">>>" not in doc:
        lacks.append("Example")
    return lacks


def test_public_names_say_what_they_take_give_and_raise():
    poor = {
        name: lacks
        for name, thing, module in documented()
        if (lacks := gaps(thing, example=module in WITH_EXAMPLE and name.count(".") == module.count(".") + 1))
    }
    assert not poor, "\n".join(f"{name}: {', '.join(lacks)}" for name, lacks in sorted(poor.items()))
