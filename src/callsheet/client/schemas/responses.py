"""What the client answers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from callsheet._model.states import State

T = TypeVar("T")


class SetStateStatus(str, Enum):
    """What became of a state that was proposed."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    ABORT = "ABORT"
    WAIT = "WAIT"


class StateAcceptDetails(msgspec.Struct, kw_only=True):
    """The run entered the proposed state."""

    type: ClassVar[str] = "accept_details"


class StateRejectDetails(msgspec.Struct, kw_only=True):
    """The run entered another state instead."""

    type: ClassVar[str] = "reject_details"
    reason: str | None = None


class StateAbortDetails(msgspec.Struct, kw_only=True):
    """The run stays as it is."""

    type: ClassVar[str] = "abort_details"
    reason: str | None = None


class StateWaitDetails(msgspec.Struct, kw_only=True):
    """The run stays as it is for now; propose again after so many seconds."""

    type: ClassVar[str] = "wait_details"
    delay_seconds: int
    reason: str | None = None


class OrchestrationResult(msgspec.Struct, kw_only=True):
    """The verdict on a proposed state.

    Attributes:
        state: The state that the run entered: the proposed one or, if it was rejected, the one instead.
            `None` where it entered none.
        status: The kind of verdict.
        details: The reason for it.
    """

    state: State[Any] | None
    status: SetStateStatus
    details: StateAcceptDetails | StateRejectDetails | StateAbortDetails | StateWaitDetails


class Page(list[T], Generic[T]):
    """A list of what was read, and how to go on.

    Attributes:
        cursor: Give it to the next read of the same kind, with the same filters and order, for what comes after
            this page. `None`: this was all. Unlike an `offset`, it skips and repeats nothing while runs are added.

    Example:
        >>> Page(["a"], cursor=None) == ["a"]
        True
    """

    def __init__(self, items: Iterable[T] = (), *, cursor: bytes | None = None) -> None:
        super().__init__(items)
        self.cursor = cursor
