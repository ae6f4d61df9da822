"""What the states of a flow run say of its earlier lives. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from callsheet._clock import micros
from callsheet._engine import decode
from callsheet._model.kinds import StateType
from callsheet._model.records import RunRecord, StateRecord
from callsheet._model.states import StateDetails
from callsheet._rules.guards import AWAITING_RETRY, RETRYING

_S: Final = StateType
_REUSE: Final = "reuse"
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode
RESUMING: Final = "Resuming"
"""The name of the Scheduled state of a run that waits to be taken up after a suspension."""

FOR_SIGNAL: Final = "signal:"
"""How keys of suspensions begin that last until a signal comes; its name follows."""


CUT_OFF: Final = frozenset({_S.COMPLETED, _S.FAILED})
"""What is not run again in an attempt that was cut off: a failure that its body has dealt with is dealt with."""
FORK: Final = "fork"
"""Among what a run carries: the `Fork` that it is."""


class Reuse(msgspec.Struct, frozen=True):
    """What a run that somebody runs again takes over from its earlier attempts: what has completed.

    Attributes:
        before: Only runs that were made before that; `None`: all of them. Microseconds since the epoch.
    """

    before: int | None = None


class Fork(msgspec.Struct, frozen=True):
    """Which other flow run a run has taken over from, and until when. Its calls have the identities that they had there.

    Attributes:
        source: The id of the other run.
        before: Only runs that were made there before that, in microseconds since the epoch.
        seed: Of which the identities of the calls in it are made.
    """

    source: bytes
    before: int
    seed: bytes

    @property
    def source_id(self) -> UUID:
        """The id of the other run."""
        return UUID(bytes=self.source)


class Past(NamedTuple):
    """The earlier lives of one flow run. Times are microseconds since the epoch."""

    run_id: UUID
    attempts: int  # before the one that begins now; one that was cut off is the same one
    since: int  # when that one began, 0 for the first
    due: int | None  # before when it does not begin
    passed: tuple[str, ...]  # keys of the pauses that it was resumed from
    stopped: StateRecord | None  # the Paused state in which it was cut off, or left
    cancelled: bool  # it was about to end as Cancelled
    running: int  # microseconds spent running
    begun: tuple[int, ...]  # when its body was called, each time
    reuse: Reuse | None  # where somebody asked for the attempt that was cut off, or begins now
    fork: Fork | None


def past_of(record: RunRecord, states: Sequence[StateRecord]) -> Past:
    """Give what the states of a flow run say."""
    attempts, due = _attempts(record, states)
    last = next((state for state in reversed(states) if state.type is not _S.PENDING), None)
    return Past(
        run_id=record.id,
        attempts=attempts,
        since=begun(states),
        due=due,
        passed=_passed(states),
        stopped=last if last is not None and last.type is _S.PAUSED else None,
        cancelled=last is not None and last.type is _S.CANCELLING,
        running=sum(after.at - one.at for one, after in itertools.pairwise(states) if one.type is _S.RUNNING),
        begun=bodies_begun(states),
        reuse=_reuse(states),
        fork=fork_of(record),
    )


def fork_of(record: RunRecord) -> Fork | None:
    """Give which other run a run was forked from."""
    said = decode.extra_of(record).get(FORK)
    return None if said is None else Fork(*said)


def with_fork(extra: bytes | None, fork: Fork) -> bytes:
    """Give what a run carries, with the fork that it is."""
    said: dict[str, Any] = {} if extra is None else _unpack(extra)
    said.pop("run_key", None)  # a key is of one run
    return _pack({**said, FORK: (fork.source, fork.before, fork.seed)})


def with_reuse(details: StateDetails, reuse: Reuse) -> bytes:
    """Give the details of the state from which a run goes on that somebody runs again."""
    encoded = decode.encode_details(details)
    return _pack({**({} if encoded is None else _unpack(encoded)), _REUSE: {"before": reuse.before}})


def _reuse(states: Sequence[StateRecord]) -> Reuse | None:
    for state in reversed(states):
        if state.name in (AWAITING_RETRY, RETRYING):
            said = {} if state.details is None else _unpack(state.details)
            return Reuse(said[_REUSE]["before"]) if _REUSE in said else None
    return None


def begun(states: Sequence[StateRecord]) -> int:
    """Give when the last attempt of a run began, 0 for the first."""
    return max((state.at for state in states if state.name in (AWAITING_RETRY, RETRYING)), default=0)


def bodies_begun(states: Sequence[StateRecord]) -> tuple[int, ...]:
    """Give when the body of a run was called, each time: in each attempt, and in each life of one."""
    return tuple(state.at for state in states if state.type is _S.PENDING or state.name in (AWAITING_RETRY, RETRYING))


def _attempts(record: RunRecord, states: Sequence[StateRecord]) -> tuple[int, int | None]:
    for state in reversed(states):
        if state.type is _S.RUNNING:
            return record.attempt - 1, None
        if state.name == AWAITING_RETRY:
            due = details_of(state).scheduled_time
            return record.attempt, None if due is None else micros(due)
    return 0, None


def _passed(states: Sequence[StateRecord]) -> tuple[str, ...]:
    passed: dict[str, None] = {}
    for state, after in itertools.pairwise((*states, None)):
        details = details_of(state) if state is not None and state.type is _S.PAUSED else None
        if details is None or details.pause_key is None:
            continue
        passed.pop(details.pause_key, None)  # an answer may have been of no use, and the run paused again
        if after is not None and _is_over(details, after):
            passed[details.pause_key] = None
    return tuple(passed)


def _is_over(details: StateDetails, after: StateRecord) -> bool:
    """Tell whether a pause ended by a resumption, or because its time had come."""
    if after.type is _S.RUNNING or after.name == RESUMING:
        return True
    until = details.scheduled_time
    return after.type is _S.PENDING and until is not None and after.at >= micros(until)


def details_of(state: StateRecord) -> StateDetails:
    """Give what is known of a state besides its type, name and message."""
    return decode.state(state, StateDetails()).state_details


# --------------------------------------------------------------------------------------- of a task run


class Tried(NamedTuple):
    """How many attempts of a task have failed, and before when the next one does not begin (microseconds)."""

    failed: int
    due: int | None


class _Failure(msgspec.Struct):
    """What the details of a state say of the attempt that failed before it."""

    identity: bytes | None = None
    failed: int = 0
    scheduled_time: datetime | None = None


_failure = msgspec.msgpack.Decoder(_Failure).decode


def tried_of(states: Sequence[StateRecord]) -> tuple[bytes, Tried] | None:
    """Give what the states of a task run that was under way say of its attempts, with the identity of its call."""
    for at in range(len(states) - 1, -1, -1):
        details = states[at].details
        failure = None if details is None else _failure(details)
        if failure is not None and failure.identity is not None:
            begun_again = any(state.type is _S.RUNNING for state in states[at:])
            due = None if begun_again or failure.scheduled_time is None else micros(failure.scheduled_time)
            return failure.identity, Tried(failure.failed, due)
    return None
