"""Hooks of flow runs that ended without a process of their own: in one that knows the flow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from callsheet._engine import decode
from callsheet._engine.history import the_run
from callsheet._engine.hooks import hooks_of, run_hooks
from callsheet._engine.places import ThreadPlace
from callsheet._kernel.host import runtime_thread
from callsheet._kernel.ports import run_on, step
from callsheet._model.kinds import Kind, StateType
from callsheet.logging.loggers import flow_run_logger

if TYPE_CHECKING:
    from callsheet._engine.core import Core


def call_hooks(core: Core, flow: Any, run_id: UUID, type: StateType) -> None:
    """Have the hooks of a flow run called, on a thread, that has ended without an engine of its own."""
    if flow is not None and hooks_of(flow, type):
        core.workers.run(partial(call_hooks_here, core, flow, run_id, type))


def call_hooks_here(core: Core, flow: Any, run_id: UUID, type: StateType) -> None:
    """Call them (blocking)."""
    place = ThreadPlace(core)
    try:
        record = step(the_run(place.reader, Kind.FLOW, run_id))
        states = step(place.reader.read_states_of([run_id]))
    finally:
        step(place.reader.aclose())
    run = decode.flow_run(record, states)
    home = core.home if core.home is not None and not core.home.closed else runtime_thread.host()

    async def call(hook: Callable[..., Any], *args: Any) -> Any:
        value = hook(*args)
        return run_on(home, value) if isawaitable(value) else value

    hooks = hooks_of(flow, type)
    step(run_hooks(hooks, (flow, run, run.state), logger=flow_run_logger(run, flow), call=call))
