"""From a call to a run: the one place where definitions meet the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from callsheet._engine import dispatch, generators
from callsheet._engine.ambient import core_for_call, is_open
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.futures import RunFuture, TaskFutureList
from callsheet._engine.mapping import pair
from callsheet._engine.run import Run
from callsheet._engine.state_values import value_here
from callsheet._engine.task_run import TaskRunActor, identity_of_call
from callsheet._engine.upstream import as_collection
from callsheet._kernel.alarms import guarded_signals
from callsheet._kernel.critical import critical
from callsheet._kernel.driver import driven, is_driven
from callsheet._kernel.host import current_host, runtime_thread
from callsheet._kernel.ports import LoopPort, apart, run_on, step, sync_port
from callsheet._kernel.scopes import SIGNAL
from callsheet._kernel.terminations import TerminationGuard
from callsheet._kernel.threads import start_thread
from callsheet._model.kinds import SUSPENDED, StateType
from callsheet._model.states import State
from callsheet._model.values import value_of
from callsheet._rules.identity import element
from callsheet.context import current_run, current_tags
from callsheet.exceptions import Pause
from callsheet.logging.loggers import engine_log
from callsheet.run_keys import current_key

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.futures import TaskFuture
    from callsheet._kernel.host import Host

T = TypeVar("T")
A = TypeVar("A", FlowRunActor, TaskRunActor)
AnyRun = FlowRunActor | TaskRunActor
_LOG: Final = engine_log("callsheet.engine")
_OUTSIDE_SUBMIT: Final = (
    "Unable to determine task runner to use for submission. If you are submitting a task outside of a flow, please "
    "use `.delay` to submit the task run for deferred execution."
)
_OUTSIDE_MAP: Final = (
    "Unable to determine task runner to use for mapped task runs. If you are mapping a task outside of a flow, please "
    "provide `deferred=True` to submit the mapped task runs for deferred execution."
)
_running, _COMPLETED = current_run.get, StateType.COMPLETED
_NESTS: Final = (State, list, tuple, set)
_NO_SUBMIT: Final = "Submitting the generator {!r} is not implemented; iterate over a call of it instead"


# ------------------------------------------------------------------------------------------- making


def parent_run() -> AnyRun | None:
    """Give the run whose body makes this call, if it is alive and of this process."""
    parent: Any = _running()
    if parent is None or parent.cell.ended:
        return None
    core = parent.core
    if (core.closed or core.abandoned) and not core.lost:  # in one that is lost it is told to leave
        return None
    return parent


def new_run(
    cls: type[A],
    definition: Any,
    parameters: dict[str, Any],
    wait_for: Iterable[Any] | None,
    host: Host | None,
    parent: AnyRun | None,
    *,
    start: bool = False,
) -> A:
    """Make a run for a call that is made here, and register it.

    `host` is the loop that it lives on, if it does. With `start` its body is called right away.

    Raises:
        EngineClosed: The engine takes no new runs.
        StoreError: The history cannot be written.
        Interrupted: The run that makes the call must leave.
    """
    core, home, tags = surroundings(cls, definition, host, parent)
    if core.memories and parent is not None:
        from callsheet._engine.replaying import run_of_call

        return run_of_call(cls, core, definition, parameters, wait_for, parent, home, tags, start=start)
    run = cls(core, definition, parameters, wait_for, parent, home, tags)
    run.register(start=start)
    return run


def surroundings(
    cls: type[Run], definition: Any, host: Host | None, parent: AnyRun | None
) -> tuple[Core, Host | None, frozenset[str]]:
    """Give what a run takes over from where it is called: the machinery, the loop of its children, and tags."""
    tags = current_tags()
    if cls is TaskRunActor and definition.tags:
        tags = tags.union(definition.tags)
    if parent is None:
        core = core_for_call(host)
        if core.replay is not None:
            core.replay.begins_beside(definition)
        return core, host, tags
    parent.check_time()
    flow = parent.cell.flow_actor()
    if flow is not None and flow.tags:
        tags = tags | flow.tags
    return parent.core, host or parent.home, tags


def outcome(run: Run, return_state: bool) -> Any:
    """Give what a direct call gives: the state, or the value, or the exception raised."""
    if return_state:
        return run.state
    final = run.final
    if final is not None and final.type is _COMPLETED and final.made is None:
        return final.data
    if final is not None and run.core.abandoned and isinstance(final.data, BaseException):
        raise final.data  # in a forked child, whose run is still its parent's
    state = run.state
    if run.is_flow and state.name == SUSPENDED and state.type is StateType.PAUSED:
        raise Pause("The flow run was suspended.", state=state)
    try:
        if state.data.__class__ in _NESTS and state.type is not _COMPLETED:
            return value_here(state)  # others, of which some may be kept elsewhere
        return value_of(state)
    finally:
        del run, final, state


# ------------------------------------------------------------------------------------------ calling


async def _await_run(
    cls: type[A], definition: Any, parameters: dict[str, Any], wait_for: Any, return_state: bool
) -> Any:
    host = current_host()
    if host is None:
        raise RuntimeError(f"{definition!r} was awaited outside of asyncio and trio. Run it with `asyncio.run(...)`.")
    parent = parent_run()
    if parent is None and not is_open():
        await open_ambient(host)
    run = new_run(cls, definition, parameters, wait_for, host, parent, start=True)
    if run.final is not None:
        if (others := host.due_checkpoint()) is not None:
            await others
        return outcome(run, return_state)
    life = run.live(LoopPort(host))
    try:
        if run.cell.parent is not None or run.core.home is not None:
            await driven(life)
        else:
            await guarded(run, host, driven(life))
        return outcome(run, return_state)
    finally:
        del run, life  # an error that passes here holds this frame, and the run holds the error


async def open_ambient(host: Host) -> None:
    """Open the ambient engine on a thread: a new database takes milliseconds, a busy disk or another process more."""
    context = copy_context()
    await apart(
        lambda: context.run(core_for_call, None), LoopPort(host), lambda job: start_thread(job, "callsheet-open")
    )


async def guarded(run: Run, host: Host, life: Awaitable[None]) -> None:
    """Await a root run that nobody but us could tell of SIGTERM."""
    guard = TerminationGuard(host, partial(_terminate, run))
    try:
        with guard:
            await life
    finally:
        if guard.terminated:  # the host's handler may end the process
            run.core.journal.flush()
            guard.propagate()
        del run, guard


def _terminate(run: Run) -> None:
    run.scope.cancel(SIGNAL)


def _call_run(cls: type[A], definition: Any, parameters: dict[str, Any], wait_for: Any, return_state: bool) -> Any:
    parent = parent_run()
    if parent is None:
        return call_root(cls, definition, parameters, wait_for, return_state)
    with critical:
        run = new_run(cls, definition, parameters, wait_for, None, parent, start=True)
        try:
            if run.final is None:
                step(run.live(sync_port()))
            return outcome(run, return_state)
        finally:
            del run


def call_root(
    cls: type[A],
    definition: Any,
    parameters: dict[str, Any],
    wait_for: Any,
    return_state: bool,
    registered: A | None = None,
) -> Any:
    """Run what is called outside of any run, in this thread; `registered` is a run that was made for it."""
    host = current_host()
    guard = guarded_signals()
    try:
        with guard, critical:
            run = registered or new_run(cls, definition, parameters, wait_for, host, None, start=True)
            try:
                run.home = _home_of_root(run, definition, host)
                step(run.live(sync_port()))
                return outcome(run, return_state)
            finally:
                del run
    finally:
        if guard.terminated:  # the host's handler may end the process
            core_for_call(host).journal.flush()
        guard.propagate()


def _home_of_root(run: Run, definition: Any, host: Host | None) -> Host | None:
    """Give the loop on which the async children of a sync root run."""
    if host is None:
        home = run.core.home
        return None if home is None or home.closed else home
    if is_driven():
        return host
    _warn_of_blocking(definition)
    return None  # the loop is blocked by this very call: the runtime thread's


_warned: set[int] = set()


def _warn_of_blocking(definition: Any) -> None:
    if id(definition.fn) not in _warned:
        _warned.add(id(definition.fn))
        _LOG.info("%r is sync and was called on the thread of a running event loop, which waits meanwhile.", definition)


def call_flow(flow: Any, parameters: dict[str, Any], *, wait_for: Any, return_state: bool) -> Any:
    """Run a flow: a value, a coroutine or a generator, by the flow's own colour."""
    block = current_key.get()
    if block is not None and block.is_here():
        from callsheet._engine import keyed_calls

        return keyed_calls.call(block, flow, parameters, wait_for, return_state)
    return _call(FlowRunActor, flow, parameters, wait_for, return_state)


def call_task(task: Any, parameters: dict[str, Any], *, wait_for: Any, return_state: bool) -> Any:
    """Run a task: a value, a coroutine or a generator, by the task's own colour."""
    return _call(TaskRunActor, task, parameters, wait_for, return_state)


def _call(cls: type[A], definition: Any, parameters: dict[str, Any], wait_for: Any, return_state: bool) -> Any:
    if definition.isgenerator:

        def make() -> Run:
            host = current_host() if definition.isasync else None
            return new_run(cls, definition, parameters, wait_for, host, parent_run())

        return generators.call(make, definition, return_state)
    if definition.isasync:
        coroutine = _await_run(cls, definition, parameters, wait_for, return_state)
        coroutine.__qualname__ = definition.name  # which is what Python says was never awaited
        return coroutine
    return _call_run(cls, definition, parameters, wait_for, return_state)


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for an event loop to its end, from sync code anywhere.

    Raises:
        BlockingWaitError: It would block the loop that it needs.
    """
    host = current_host()
    if host is not None and is_driven():
        from callsheet._kernel.driver import wait

        return wait(coroutine)
    return run_on(runtime_thread.host(), coroutine)


# --------------------------------------------------------------------------------------- submitting


def submit_flow(flow: Any, parameters: dict[str, Any], *, wait_for: Any, return_state: bool) -> Any:
    """Start a subflow as a child of the current run or, under a run key, a run beside it."""
    parent = parent_run()
    if parent is None:
        raise RuntimeError("A flow is submitted from inside a flow run. Outside of one, call it or start a task of it.")
    block = current_key.get()
    if block is not None and block.is_here():
        from callsheet._engine import keyed_calls

        keyed = keyed_calls.submit(block, flow, parameters, wait_for)
        return _waited(keyed) if return_state else keyed
    run = _submitted(FlowRunActor, flow, parameters, wait_for, parent)
    tracking = run.tracking
    future: RunFuture[Any] = RunFuture(run, None if tracking is None else tracking.id)
    if run.final is None:
        dispatch.start(run, None)
    return _waited(future) if return_state else future


def _submitted(cls: type[A], definition: Any, parameters: dict[str, Any], wait_for: Any, parent: AnyRun | None) -> A:
    if definition.isgenerator:
        raise NotImplementedError(_NO_SUBMIT.format(definition))
    return new_run(cls, definition, parameters, wait_for, None, parent)


def _waited(future: TaskFuture[Any]) -> Any:
    future.wait()
    return future.state


def submit_task(task: Any, parameters: dict[str, Any], *, wait_for: Any, return_state: bool) -> Any:
    """Hand a task to the flow's runner."""
    parent = parent_run()
    flow = None if parent is None else parent.flow_actor
    if flow is None:
        raise RuntimeError(_OUTSIDE_SUBMIT)
    future = flow.runner.submit(task, parameters, wait_for=wait_for)
    return _waited(future) if return_state else future


def map_task(task: Any, parameters: dict[str, Any], *, wait_for: Any, return_state: bool) -> Any:
    """Hand a run of a task for each element to the flow's runner."""
    parent = parent_run()
    flow = None if parent is None else parent.flow_actor
    if flow is None:
        raise RuntimeError(_OUTSIDE_MAP)
    futures = flow.runner.map(task, parameters, wait_for=as_collection(wait_for))
    if return_state:
        return [_waited(future) for future in futures]
    return futures


def start_task(
    task: Any,
    parameters: dict[str, Any],
    wait_for: Any,
    places: Any,
    dependencies: dict[str, set[Any]] | None = None,
    *,
    outside: bool = False,
) -> RunFuture[Any]:
    """Start one task run as a child of the current run (what the runners of this process do for `submit`).

    With `outside`, where there is none, it is a run by itself, and who calls this answers for its end.
    """
    parent = parent_run()
    if parent is None and not outside:
        raise RuntimeError(_OUTSIDE_SUBMIT)
    run = _submitted(TaskRunActor, task, parameters, wait_for, parent)
    future: RunFuture[Any] = RunFuture(run)
    if run.final is None:
        if dependencies:
            run.depend_on(dependencies)
        dispatch.start(run, places)
    return future


def start_tasks(task: Any, parameters: dict[str, Any], wait_for: Any, places: Any) -> TaskFutureList[Any]:
    """Start a task run for each element (what they do for `map`)."""
    parent = parent_run()
    if parent is None:
        raise RuntimeError(_OUTSIDE_MAP)
    if task.isgenerator:
        raise NotImplementedError(_NO_SUBMIT.format(task))
    elements = pair(task, parameters)
    core, home, tags = surroundings(TaskRunActor, task, None, parent)
    call = identity_of_call(core, task, parent, parameters)
    futures: TaskFutureList[Any] = TaskFutureList()
    for index, bound in enumerate(elements):
        identity = None if call is None else element(call, index)
        if core.memories:
            from callsheet._engine.replaying import run_of_call

            run = run_of_call(TaskRunActor, core, task, bound, wait_for, parent, home, tags, identity=identity)
        else:
            run = TaskRunActor(core, task, bound, wait_for, parent, home, tags, identity)
            run.register(start=False)
        futures.append(RunFuture(run))
        if run.final is None:
            dispatch.start(run, places)
    return futures
