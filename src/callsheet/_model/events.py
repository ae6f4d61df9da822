"""What happens in a run, as those see it who watch it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType


class StateEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="state"):
    """A run entered a state.

    Attributes:
        run_id: The run.
        kind: What it is a run of: a flow or a task.
        run_name: Its name.
        flow_run_id: The innermost flow run around it; `None` where there is none.
        number: The how-manieth state of this run it is: 1, 2, 3 …
        type: The type of the state.
        name: The name of the state.
        message: What is said about it.
        timestamp: When it was entered, in UTC.
    """

    run_id: UUID
    kind: Kind
    run_name: str
    flow_run_id: UUID | None
    number: int
    type: StateType
    name: str
    message: str | None
    timestamp: datetime

    @property
    def is_final(self) -> bool:
        """Tell whether the run ends with this state."""
        return self.type in TERMINAL_STATES


class LogEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="log"):
    """A run wrote a line to its log.

    Attributes:
        flow_run_id: The flow run; `None` for a task run outside of flows.
        task_run_id: The task run; `None` for a line of the flow run itself.
        level: A level of the standard library's logging, such as 20 for INFO.
        logger: The name of the logger.
        message: The line.
        timestamp: When it was written, in UTC.
    """

    flow_run_id: UUID | None
    task_run_id: UUID | None
    level: int
    logger: str
    message: str
    timestamp: datetime


Event = StateEvent | LogEvent
