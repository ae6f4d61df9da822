"""Waiting for the end of a flow run, of whatever process, through crashes of the engine that is asked."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from callsheet._clock import between_looks, monotonic, until_look
from callsheet._engine.history import flow_runs, the_run
from callsheet._engine.live import when_ended
from callsheet._engine.places import Place
from callsheet._engine.run_inputs import Bell, place_here, port_here
from callsheet._kernel.signals import Once
from callsheet._model.kinds import TERMINAL_STATES, Kind
from callsheet._model.records import StateRecord
from callsheet._model.runs import FlowRun
from callsheet.exceptions import FlowRunWaitTimeout
from callsheet.logging.loggers import get_logger

_REST: Final = 0.02  # seconds between looks, at least, while this process commits


async def until_ended(
    run_id: UUID,
    timeout: float | None,
    poll_interval: float,
    client: Any = None,
    log_states: bool = False,
) -> FlowRun:
    """Wait until a flow run has ended, and give it.

    Args:
        run_id: Its id.
        timeout: Seconds; `None`: for ever.
        poll_interval: Seconds after which at the latest it is looked again.
        client: On whose history. Default: the one of the place of the call.
        log_states: Log each state that it is found in.

    Raises:
        TypeError: What is given as `client` is none.
        FlowRunWaitTimeout: It had not ended in time.
        ObjectNotFound: There is no such flow run.
        StoreError: The history cannot be read.
    """
    deadline = None if timeout is None else monotonic() + timeout
    found_in = _States(run_id) if log_states else None
    while True:
        place, bell = place_here(client), Bell()
        journal = place.core.journal
        journal.follow(bell.ring)
        try:
            found = await _until_ended(place, run_id, bell, deadline, poll_interval, found_in)
        except TimeoutError:
            message = f"Flow run with ID {run_id} exceeded watch timeout of {timeout} seconds"
            raise FlowRunWaitTimeout(message) from None
        finally:
            journal.unfollow(bell.ring)
            await place.reader.aclose()
        if found is not None:
            return found


class _States:
    """Logs the states that a flow run is found in, each once."""

    def __init__(self, run_id: UUID) -> None:
        self._run_id = run_id
        self._number = -1

    def see(self, state: StateRecord | None) -> None:
        if state is not None and state.seq != self._number:
            self._number = state.seq
            get_logger().info("Flow run %s is in state %r", self._run_id, state.name)


async def _until_ended(
    place: Place, run_id: UUID, bell: Bell, deadline: float | None, poll_interval: float, found_in: _States | None
) -> FlowRun | None:
    """Give the run when it has ended; `None`: others have taken this engine for dead, and the history goes on elsewhere."""
    port = port_here()
    while True:
        bell.renew()
        was_lost, alive = place.core.lost, when_ended(place.core, run_id)
        await place.catch_up()
        record = await the_run(place.reader, Kind.FLOW, run_id)
        if found_in is not None:
            found_in.see(record.state)
        if record.state is not None and record.state.type in TERMINAL_STATES:
            return (await flow_runs(place.reader, [record]))[0]
        if was_lost:
            return None
        left = None if deadline is None else deadline - monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        # One that is not here may be taken up here: commits of this process count too, and there are many of them.
        if await port.wait(alive or bell.once, until_look(left, poll_interval)):
            await port.wait(Once(), 0.0 if alive is not None else between_looks(_REST))
