"""What a rule may answer. Verdicts are data; the orchestrator acts on them."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from callsheet._model.kinds import StateType
from callsheet._model.records import Guard


class Accept(msgspec.Struct, frozen=True, tag_field="verdict"):
    """The run enters the proposed state. There is one: `ACCEPT`."""

    accepted: ClassVar[bool] = True


class AcceptIf(msgspec.Struct, frozen=True, tag_field="verdict"):
    """The run enters the proposed state if these guards hold when it is committed."""

    accepted: ClassVar[bool] = True
    guards: tuple[Guard, ...]


class Reject(msgspec.Struct, frozen=True, kw_only=True, tag_field="verdict"):
    """The run enters this state instead of the proposed one. `scheduled_at` is in seconds since the epoch."""

    accepted: ClassVar[bool] = False
    type: StateType
    name: str
    message: str | None = None
    scheduled_at: float | None = None


class Wait(msgspec.Struct, frozen=True, kw_only=True, tag_field="verdict"):
    """Propose again later: at `until` (seconds since the epoch), or when the gate of the flow run opens."""

    accepted: ClassVar[bool] = False
    until: float | None = None
    gate: bool = False


class Abort(msgspec.Struct, frozen=True, tag_field="verdict"):
    """The run stays as it is, and whoever proposed leaves."""

    accepted: ClassVar[bool] = False
    reason: str


class GoOn(msgspec.Struct, frozen=True, tag_field="verdict"):
    """The run stays as it is, and whoever proposed goes on as if it had been accepted. There is one: `GO_ON`."""

    accepted: ClassVar[bool] = False


Verdict = Accept | AcceptIf | Reject | Wait | Abort | GoOn

ACCEPT: Final = Accept()
GO_ON: Final = GoOn()
