"""Engines as owners of runs: what is known of each, and of the runs that wait to be taken up."""

from __future__ import annotations

from uuid import UUID

import msgspec

from callsheet._model.kinds import Kind, StateType


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that is listed: it may own root runs.

    Attributes:
        id: Its id.
        beat: Counts its signs of life. No time of day is compared anywhere: clocks jump.
        lease: Seconds of the watcher's own monotonic clock without a new beat after which it counts as dead.
        machine: Where its proof of life can be asked for; empty where it cannot.
        file: The name of that proof.
        pid: Its process, for people: numbers come back, and mean nothing in another container.
        host: Its machine's name, for people.
        started: When it was listed, in microseconds since the epoch.
        lost: Whether it was found dead. It commits nothing any more, whether it is or not.
        flows: Keys of the flows whose runs it takes up.
        owns: Whether it owns runs.
    """

    id: UUID
    lease: float
    beat: int = 0
    machine: str = ""
    file: str = ""
    pid: int = 0
    host: str = ""
    started: int = 0
    lost: bool = False
    flows: tuple[str, ...] = ()
    owns: bool = False


class WaitingRun(msgspec.Struct, frozen=True):
    """A root run that waits to be taken up: its owner is dead, or it has none and is due."""

    id: UUID
    kind: Kind
    key: str  # of its flow or task
    owner: UUID | None
    code: str = ""  # the digest of its flow's code when it was made
    recoveries: int = 0


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A run that was taken up, and the state that it has entered by that: Pending, or a final one."""

    run_id: UUID
    seq: int
    type: StateType
    name: str
    at: int
    fence: int
    recoveries: int
    message: str | None = None


class RunDue(msgspec.Struct, frozen=True, array_like=True, tag_field="entry"):
    """A run that no engine has is to be looked at from this time on, whatever state it waits in; `None`: at none."""

    run_id: UUID
    due_at: int | None
