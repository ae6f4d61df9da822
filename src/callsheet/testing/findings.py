"""What can be wrong with a history."""

from __future__ import annotations

from enum import Enum
from uuid import UUID

import msgspec

__all__ = ["Finding", "Promise"]


class Promise(str, Enum):
    """What every history keeps to. A `Finding` names the promise that was broken."""

    TRANSITIONS = "a run goes through legal transitions only"
    ENDS_ONCE = "a run ends once, and nothing follows"
    WHOLE = "no state is there whose predecessor is missing"
    TIMES = "no state is older than its run"
    ATTEMPTS = "a run has at most one attempt more than retries, recoveries and suspensions together"
    CHILDREN_FIRST = "what runs inside a flow run ends before it"
    FINISHED_ONCE = "what has completed inside a flow run does not run again"
    OUTCOMES = "the run journal says of a run what its states say"
    OWNED_BY_THE_LIVING = "no run belongs to an engine that is gone"
    REFERENCES = "a run refers to runs that exist"
    SETTLED = "what was durable can be read"
    ACKNOWLEDGED = "what was acknowledged is there"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong with a history.

    Attributes:
        promise: Which promise is broken.
        text: What was found, in one line.
        run_id: Id of the run that it is about, if it is about one.
        seq: Number of the state that it is about, if it is about one.

    Example:
        >>> print(Finding(promise=Promise.SETTLED, text="3 batches are left in the redo log"))
        SETTLED: 3 batches are left in the redo log
    """

    promise: Promise
    text: str
    run_id: UUID | None = None
    seq: int | None = None

    def __str__(self) -> str:
        return f"{self.promise.name}: {self.text}"
