"""Suspending flow runs: they leave their process, and any engine that knows the flow goes on with them when they are resumed.

The order is a message to the orchestrator (`Suspend`). The run enters Paused, named Suspending; its body leaves at this call
or its next one, task runs that have begun end, and nothing else begins. When all of it has left, the run is Suspended: it
belongs to no engine and costs nothing. `reviving` takes it up again.
"""

from __future__ import annotations

import heapq
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn
from uuid import UUID

from callsheet._clock import from_micros, micros
from callsheet._engine import letters
from callsheet._engine.decode import encode_details
from callsheet._engine.history import the_run
from callsheet._engine.pausing import Wanted, keyset, question
from callsheet._engine.places import Place, core_of
from callsheet._engine.run_inputs import place_here, port_here
from callsheet._kernel.messages import NOT_ALIVE, Suspend
from callsheet._kernel.scopes import Interrupted
from callsheet._kernel.signals import Once
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.states import StateDetails
from callsheet._rules.verdicts import ACCEPT, Abort, GoOn
from callsheet._store import proofs
from callsheet.context import FlowRunContext, TaskRunContext, current_run
from callsheet.exceptions import Pause

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._kernel.messages import Answer
    from callsheet._model.records import RunRecord

_UNKNOWN: Final = (
    "Cannot suspend flows without a deployment. No living engine knows this flow, so none could take it up again: open one "
    "with `Engine(flows=[...])`."
)


_LOOK: Final = 0.01  # seconds between looks whether a run has left


class Wish(NamedTuple):
    """What is wanted of a suspension: `until` when it ends by itself, `timeout` seconds after which the run fails."""

    wanted: Wanted | None
    timeout: float | None
    until: datetime | None

    def order(self, run_id: UUID, key: str, now: int) -> Suspend:
        """Give the order."""
        keys = keyset(f"suspended-{key}")
        due = None if self.timeout is None else now + round(self.timeout * 1e6)
        if self.until is not None:
            due = micros(self.until)
        details = StateDetails(
            pause_timeout=None if due is None or self.until is not None else from_micros(due),
            scheduled_time=self.until,
            pause_key=key,
            pause_reschedule=True,
            run_input_keyset=None if self.wanted is None else keys,
        )
        handed = () if self.wanted is None else question(run_id, keys, self.wanted, now)
        return Suspend(run_id=run_id, key=key, details=encode_details(details) or b"", handed=handed, due=due)


def suspending_run() -> FlowRunActor:
    """Give the flow run whose body is executing here.

    Raises:
        RuntimeError: It is a task's body, or none.
    """
    if TaskRunContext.get() is not None:
        raise RuntimeError("Cannot suspend task runs.")
    run: Any = current_run.get()
    if FlowRunContext.get() is None or run is None or not run.is_flow or run.cell.ended:
        raise RuntimeError("Flow runs can only be suspended from within a flow run.")
    return run


async def suspend_here(run: FlowRunActor, wish: Wish, key: str | None, client: Any = None) -> Any:
    """Suspend the current flow run; give what was handed in, where it was resumed from this suspension before.

    Raises:
        Pause: It is suspended, and leaves here.
        RuntimeError: It cannot be suspended.
        ValueError: The client is of another engine than the run.
    """
    if client is not None and core_of(client) is not run.core:
        raise ValueError(
            "The current flow run is not in the history of 'client'. Leave `client` out, or name the run that is meant by "
            "`flow_run_id`."
        )
    if run.cell.parent is not None:
        raise RuntimeError("Cannot suspend subflows.")
    run.pauses += 1
    key = str(run.pauses) if key is None else key
    core, place = run.core, place_here()
    if core.replay is not None:
        core.replay.pauses(run, key)
    try:
        answer = await _ask(place, core, wish.order(run.cell.id, key, core.clock.micros()), run.cell.definition.key)
        if isinstance(answer.verdict, GoOn):
            return await _answer(place, run.cell.id, key, wish.wanted)
        run.scope.check()
        run.logger().info("Suspending flow run, execution will be rescheduled when this flow run is resumed.")
        await place.catch_up()
    finally:
        await place.reader.aclose()
    _leave(run, answer)


def _leave(run: FlowRunActor, answer: Answer) -> NoReturn:
    if answer.verdict is not ACCEPT:  # an order to end came first
        raise Interrupted
    if answer.position and run.type is not StateType.PAUSED:
        run.entered(StateType.PAUSED, run.cell.name or "", answer)
    raise Pause("The flow run is suspended.", state=run.state)


async def suspend_other(run_id: UUID, wish: Wish, key: str | None, client: Any = None) -> None:
    """Suspend a flow run, of whatever process; it leaves at its next call.

    Raises:
        ObjectNotFound: There is no such flow run.
        RuntimeError: It cannot be suspended.
    """
    place = place_here(client)
    core = place.core
    try:
        await place.catch_up()
        record = await the_run(place.reader, Kind.FLOW, run_id)
        order = wish.order(run_id, key or secrets.token_hex(8), core.clock.micros())
        if record.state is not None and record.state.type in TERMINAL_STATES:
            _refuse(f"The run has ended as {record.state.name}.")
        answer = await _ask(place, core, order, record.definition.key, record)
        if answer.verdict != ACCEPT:
            _refuse(f"It is {'' if record.state is None else record.state.name}.")
        await place.catch_up()
    finally:
        await place.reader.aclose()


async def _ask(place: Place, core: Core, order: Suspend, flow_key: str, elsewhere: RunRecord | None = None) -> Answer:
    if not core.journal.keeps:
        _refuse("at durability 'off' nothing is kept by which it could be resumed.")
    if not await place.apart(lambda: is_known(core, flow_key)):
        _refuse(_UNKNOWN)
    answer = core.ask(order)
    if answer is NOT_ALIVE and elsewhere is not None:
        answer = await letters.order_one(place, elsewhere, order) or NOT_ALIVE
    if answer is NOT_ALIVE:
        _refuse("no engine that is alive runs it.")
    if isinstance(answer.verdict, Abort):
        _refuse(answer.verdict.reason)
    if order.due is not None:
        heapq.heappush(core.dues, order.due)
        core.nudge()
    return answer


def _refuse(reason: str) -> NoReturn:
    raise RuntimeError(f"Flow run cannot be suspended: {reason}")


async def _answer(place: Place, run_id: UUID, key: str, wanted: Wanted | None) -> Any:
    if wanted is None:
        return None
    await place.catch_up()
    response = keyset(f"suspended-{key}")["response"]
    found = await place.reader.read_inputs(run_id, key=response)
    return wanted.load(found[0].value if found else "{}", run_id, response)


# ------------------------------------------------------------------------------ who could take a run up


def is_known(core: Core, flow_key: str) -> bool:
    """Tell whether any living engine takes up runs of a flow (blocks for a look into the history)."""
    if flow_key in core.flows:
        return True
    return any(flow_key in engine.flows for engine in core.store.engines.read() if not _is_gone(core, engine))


def has_owner(core: Core, record: RunRecord) -> bool:
    """Tell whether the engine that a run belongs to is alive, as far as can be told at once."""
    engines = {engine.id: engine for engine in core.store.engines.read()}
    found = None if record.owner is None else engines.get(record.owner)
    return found is not None and not _is_gone(core, found)


def _is_gone(core: Core, engine: Any) -> bool:
    folder = core.ownership.folder
    if engine.id == core.engine_id:
        return core.lost
    return engine.lost or (folder is not None and proofs.is_gone(folder, engine.machine, engine.file))


async def until_it_has_left(place: Place, record: RunRecord, seconds: float) -> bool:
    """Wait until a run that is Suspending is Suspended; tell whether its state has changed."""
    port, number = port_here(), 0 if record.state is None else record.state.seq
    for _ in range(int(seconds / _LOOK)):
        await port.wait(Once(), _LOOK)
        await place.catch_up()
        found = (await the_run(place.reader, Kind.FLOW, record.id)).state
        if found is not None and found.seq != number:
            return True
    return False
