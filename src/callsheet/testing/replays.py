"""Running a recorded flow run against today's code: nothing is done again, and the first difference is shown."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio

from callsheet._engine import dispatch
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.known_flows import imported
from callsheet._engine.leaving import NotRecoverable
from callsheet._engine.reviving import parameters_of_record
from callsheet._kernel.host import current_host, here
from callsheet._kernel.ports import LoopPort
from callsheet._kernel.virtual import VirtualClock
from callsheet._kernel.virtual_loops import loop_options, virtual_time
from callsheet._model.kinds import Durability
from callsheet._model.records import InputStored
from callsheet.exceptions import RecordingError, VirtualTimeError
from callsheet.flows import Flow
from callsheet.testing.comparing import Comparison
from callsheet.testing.recordings import Recording
from callsheet.testing.timeline import OrderedStore, StoredEngine
from callsheet.testing.virtual import VirtualRun

__all__ = ["replay"]

_FOR_EVER: Final = 100 * 365 * 86_400.0  # seconds of virtual time: what has not come by then does not come


def replay(
    recording: Recording | str | Path,
    flow: Flow[..., Any] | None = None,
    *,
    parameters: Mapping[str, Any] | None = None,
    backend: str = "asyncio",
) -> VirtualRun[Any]:
    """Run a recorded flow run against the code of today, and show the first difference.

    The bodies of the flow and of its subflows are called as they are now. Tasks give what is recorded of them, steps of the
    bodies (sleeps, signals, answers to pauses, `patched`) take what they took, and time is virtual. No body of a task,
    no hook, and no result is called or kept again. What a body does by itself, outside of tasks, it does.

    What differs is shown at the first place: a call that comes in another order, with other inputs, too many or not at
    all; another step; another result or final state. Calls that several branches of a body make at the same time have
    no order among each other. Of a run that had not ended, or was ended from outside, what is recorded is compared, and the
    replay ends where the recording does.

    Args:
        recording: What `record` gave, or the file to which that was saved.
        flow: The flow. Default: it is imported by the name that is recorded.
        parameters: Those that the recording does not have, because JSON cannot carry them.
        backend: The event loop: ``asyncio`` or ``trio``.

    Returns:
        How it ended; the state is `None` where the recording ends before the run did.

    Raises:
        ReplayDiffers: The code does something else than what is recorded.
        RecordingError: The recording cannot be read or replayed; the message says why.
        VirtualTimeError: An event loop runs here already, or the backend is none that can jump.

    Example:
        >>> from callsheet import flow, task
        >>> from callsheet.testing import MemoryEngine, record
        >>> @task
        ... def load() -> int: ...
        >>> @task
        ... def charge() -> None: ...
        >>> @flow
        ... def order() -> None:
        ...     load()
        ...     if careful:
        ...         charge()
        >>> careful = True
        >>> with MemoryEngine():
        ...     recording = record(order(return_state=True))
        >>> careful = False
        >>> replay(recording, order)
        Traceback (most recent call last):
        callsheet.testing.differences.ReplayDiffers: The flow 'order' does not do what is recorded of its run ...
            call 0: load
          - call 1: charge
          + the end: Completed
    """
    if not isinstance(recording, Recording):
        recording = Recording.load(recording)
    if current_host() is not None:
        raise VirtualTimeError(
            "`replay` begins an event loop of its own, and one runs here already. Call it in a plain function."
        )
    found = _flow_of(recording, flow)
    first = next(iter(recording.states), None)
    clock = VirtualClock(recording.run.created if first is None else first.at)
    name, options = loop_options(backend, clock)
    return anyio.run(
        partial(_replay, recording, found, dict(parameters or {}), clock), backend=name, backend_options=options
    )


def _flow_of(recording: Recording, flow: Any) -> Any:
    key = recording.run.definition.key
    if flow is None:
        why: Exception | None = None
        try:
            importlib.import_module(key.rpartition(":")[0])
        except (ImportError, TypeError, ValueError) as error:  # the others are of names that are paths
            why = error
        flow = imported(key)
        if flow is None:
            raise RecordingError(
                f"The recorded flow {key} cannot be imported. Give it: `replay(recording, flow)`."
            ) from why
    if flow._entrypoint != key:
        raise RecordingError(
            f"The recording is of the flow {key}, and not of {flow._entrypoint}. An engine knows flows by these names, too: "
            "it would not go on with a run whose flow has moved."
        )
    if flow.isgenerator:
        raise RecordingError(f"{flow!r} is a generator: what it yielded is not on record.")
    return flow


async def _replay(recording: Recording, flow: Any, parameters: dict[str, Any], clock: VirtualClock) -> VirtualRun[Any]:
    store = OrderedStore()
    with virtual_time(clock):
        began = clock.micros()
        async with StoredEngine(store, durability=Durability.RESULTS) as engine:
            core = engine.core
            core.flows = {recording.run.definition.key: flow}
            comparison = core.replay = Comparison(recording)
            run = _begun(core, recording, flow, parameters, comparison)
            ended = run.when_ended()
            port = LoopPort(here())
            with anyio.move_on_after(_FOR_EVER):
                await port.wait(ended)
            elapsed, history = (clock.micros() - began) / 1e6, None
            if run.final is None:
                comparison.waits_for_ever(run)
                core.journal.flush()
                history = store.happened(began)
                core.cancel_everything()
                await port.wait(ended, core.cancel_grace)
        if comparison.failure is not None:
            raise comparison.failure
        if history is None and run.final is not None and run.state.is_final():
            return VirtualRun(run.final.data, run.state, elapsed, store.happened(began))
        history = history or store.happened(began)
        return VirtualRun(None, None, max((one.elapsed for one in history), default=0.0), history)


def _begun(
    core: Any, recording: Recording, flow: Any, parameters: dict[str, Any], comparison: Comparison
) -> FlowRunActor:
    """Begin the recorded run once more, under its own id."""
    record = recording.run
    try:
        given = parameters_of_record(flow, record, parameters)
    except NotRecoverable as error:
        raise RecordingError(f"The run cannot be replayed: {error}. Give them: `replay(…, parameters=…)`.") from error
    run = FlowRunActor(core, flow, given, None, None, core.home, frozenset(record.tags))
    comparison.begin(run, record)
    run.register(start=False)
    core.journal.put(*(_handed(one) for one in recording.inputs))
    dispatch.start(run, None)
    return run


def _handed(one: Any) -> InputStored:
    return InputStored(run_id=one.run_id, key=one.key, id=one.id, at=one.at, value=one.value, sender=one.sender)
