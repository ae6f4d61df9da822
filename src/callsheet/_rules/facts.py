"""Everything that a rule may look at besides the two states."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from callsheet._model.kinds import Kind, StateType


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the orchestrator knows at the moment of judging. Moments are seconds since the epoch.

    `delivered` is the order that has reached the run itself; `flow_paused` and `flow_suspended` speak of
    the flow runs around a task. A proposal is `foreign` if it does not come from the run's owner, and a
    `restart` if somebody asked explicitly for a retry, resumption or restart of the run.
    """

    now: float
    due_at: float | None = None
    attempts: int = 0  # how often the body was started
    retries: int = 0
    retriable: bool = True  # what the retry condition said
    retry_delay: float = 0.0  # seconds, jitter included
    delivered: Literal["suspend", "cancel"] | None = None
    flow_paused: bool = False
    flow_suspended: bool = False
    pause_pending: bool = False  # a pause of this very flow run waits for its resumption
    pause_ordered: bool = False  # the flow run is paused because somebody else wanted it; its body does not wait
    pause_passed: bool = False  # it was resumed from a pause of the proposed key before
    pause_until: float | None = None  # when its pause times out
    restart: bool = False
    foreign: bool = False
    run_id: UUID | None = None  # with `seq`: needed of foreign proposals
    seq: int = 0


class Move(msgspec.Struct, frozen=True):
    """A proposal: from where to where, with the names that refine both types."""

    kind: Kind
    current: StateType | None
    proposed: StateType
    current_name: str | None = None
    proposed_name: str | None = None
