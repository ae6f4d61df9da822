"""Calling and submitting flows under a run key, in both colours."""

from __future__ import annotations

import concurrent.futures
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from callsheet._engine.ambient import core_for_call, is_open
from callsheet._engine.flow_run import FlowRunActor
from callsheet._engine.futures import ConcurrentTaskFuture
from callsheet._engine.invoke import call_root, guarded, open_ambient, outcome, parent_run
from callsheet._engine.keyed_search import Search, abandon
from callsheet._kernel.critical import critical
from callsheet._kernel.driver import driven
from callsheet._kernel.host import Host, current_host
from callsheet._kernel.ports import THREAD_PORT, LoopPort, step, sync_port
from callsheet._model.states import State
from callsheet._model.values import value_of
from callsheet.exceptions import RunKeyError

if TYPE_CHECKING:
    from callsheet._engine.keyed import Holder
    from callsheet.run_keys import KeyBlock

Ended = FlowRunActor | State[Any]


def call(block: KeyBlock, flow: Any, parameters: dict[str, Any], wait_for: Any, return_state: bool) -> Any:
    """Run a flow under a key, or attach to its run: a value or a coroutine, by the flow's own colour.

    Raises:
        RunKeyError: The flow cannot have a key, or another one was called in the block before.
    """
    _take(block, flow)
    if flow.isasync:
        return _awaited(block, flow, parameters, wait_for, return_state)
    return _called(block, flow, parameters, wait_for, return_state)


def _take(block: KeyBlock, flow: Any) -> None:
    if flow.isgenerator:
        raise RunKeyError(f"{flow!r} is a generator: what it yields is not kept, so its runs cannot have a run key.")
    if not block.take():
        raise RunKeyError(
            f"A flow was called in this block of the run key {block.key!r} before. Give {flow!r} a block with a key of its "
            "own, or call it outside."
        )


def _search(block: KeyBlock, flow: Any, parameters: dict[str, Any], wait_for: Any, host: Host | None) -> Search:
    parent = parent_run()
    if parent is not None:
        parent.check_time()
    core = core_for_call(host) if parent is None else parent.core
    if core.replay is not None:
        core.replay.begins_beside(flow)
    return Search(core, block, flow, parameters, wait_for, parent)


async def _awaited(block: KeyBlock, flow: Any, parameters: dict[str, Any], wait_for: Any, return_state: bool) -> Any:
    host = current_host()
    if host is None:
        raise RuntimeError(f"{flow!r} was awaited outside of asyncio and trio. Run it with `asyncio.run(...)`.")
    if parent_run() is None and not is_open():
        await open_ambient(host)
    port = LoopPort(host)
    found = await _search(block, flow, parameters, wait_for, host).find(port)
    if isinstance(found, FlowRunActor) and found.final is None:
        life = driven(found.live(port))
        await (life if found.core.home is not None else guarded(found, host, life))
    return _given(found, return_state)


def _called(block: KeyBlock, flow: Any, parameters: dict[str, Any], wait_for: Any, return_state: bool) -> Any:
    found: Ended | None = None
    try:
        with critical:
            found = step(_search(block, flow, parameters, wait_for, current_host()).find(sync_port()))
        if isinstance(found, FlowRunActor) and found.final is None:
            return call_root(FlowRunActor, flow, parameters, wait_for, return_state, found)
        return _given(found, return_state)
    finally:
        if isinstance(found, FlowRunActor) and found.final is None:
            abandon(found)  # a signal came before its body began
        del found


def _given(found: Ended, return_state: bool) -> Any:
    try:
        if isinstance(found, FlowRunActor):
            return outcome(found, return_state)
        return found if return_state else value_of(found)
    finally:
        del found


def submit(block: KeyBlock, flow: Any, parameters: dict[str, Any], wait_for: Any) -> KeyedFuture:
    """Start a run under a key beside the current run, or attach to it.

    Raises:
        RunKeyError: The flow cannot have a key, or another one was called in the block before.
        RunKeyConflict: The key's run has other parameters.
    """
    _take(block, flow)
    with critical:
        search = _search(block, flow, parameters, wait_for, current_host())
        while True:
            holder = step(search.begin(sync_port()))
            if holder.run_id is not None:
                return KeyedFuture(search, holder, holder.run_id)


class KeyedFuture(ConcurrentTaskFuture[Any]):
    """The outcome of a call under a run key; its `task_run_id` is the id of the flow run that had the key at first."""

    def __init__(self, search: Search, holder: Holder, run_id: UUID) -> None:
        self._mirror: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self._mirror.set_running_or_notify_cancel()
        super().__init__(run_id, self._mirror)
        self._search = search
        if holder.run is not None:
            holder.is_over.subscribe(partial(self._over, holder))
        else:
            self._over(holder)

    def _over(self, holder: Holder) -> None:
        found = holder.outcome
        if found is not None:
            self._mirror.set_result(_state_of(found))
        else:  # elsewhere, or its caller has left it
            context = copy_context()
            self._search.core.workers.run(lambda: context.run(self._settle, holder))

    def _settle(self, holder: Holder) -> None:
        try:
            with critical:
                found = step(self._search.settle(holder, THREAD_PORT))
            self._mirror.set_result(_state_of(found))
        except BaseException as error:
            self._mirror.set_exception(error)


def _state_of(found: Ended) -> State[Any]:
    return found.state if isinstance(found, FlowRunActor) else found
