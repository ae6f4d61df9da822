"""What a recording says of each attempt of a flow run, made ready to be compared. Pure; the engine's `Memory` gives results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from callsheet._engine import decode
from callsheet._engine.changes import Order, orders_of
from callsheet._engine.memory import Memory, attempt_of_step, is_step
from callsheet._engine.past import FOR_SIGNAL, Past, bodies_begun, details_of, fork_of, past_of
from callsheet._engine.signalling import SIGNAL, SIGNAL_UNTIL, signal_of
from callsheet._engine.sleeping import SLEEP
from callsheet._engine.steps import PREFIX
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import OutcomeRecord, RunRecord, StateRecord
from callsheet._rules.guards import AWAITING_RETRY, RETRYING
from callsheet._rules.identity import calls_of_body
from callsheet.testing.recordings import Recording

_S: Final = StateType
_BY_ITSELF: Final = frozenset({_S.COMPLETED, _S.FAILED})
_OF_SLEEPS: Final = "sleep-"


class Call(NamedTuple):
    """A call that is recorded."""

    record: RunRecord
    outcome: OutcomeRecord | None  # of a subflow's run, none where that did not end


class Attempt:
    """What is recorded of one attempt of a flow run, and how far its replay has come.

    Attributes:
        number: Which attempt it is, from 1.
        is_whole: It came to an end by itself, so that all calls of it are recorded.
        end: The state in which the run ended; `None` where another attempt followed.
        memory: What gives its results.
        calls: By identity; those that have come are taken out.
        orders: By identity, which call it is, and the order of the body in which that was made.
        open: Names of task runs that had no outcome, by key: they were under way, or were cancelled.
        pauses: Keys of its pauses; those that have come are taken out.
        steps: Keys of the steps that the body itself has made, by identity: ``sleep``, ``signal:…``.
        waits: Names of the calls that wait for what is not recorded.
    """

    def __init__(self, number: int, end: StateRecord | None, memory: Memory, *, is_last: bool) -> None:
        self.number = number
        self.end = end
        self.is_whole = memory.is_whole = not is_last or (end is not None and end.type in _BY_ITSELF)
        self.memory = memory
        self.calls: dict[bytes, Call] = {}
        self.orders: dict[bytes, tuple[bytes, Order]] = {}
        self.open: dict[str, list[str]] = {}
        self.pauses: set[str] = set()
        self.steps: dict[bytes, str] = {}
        self.waits: list[str] = []

    @property
    def _all_orders(self) -> list[Order]:
        return list({id(order): order for _, order in self.orders.values()}.values())

    @property
    def names(self) -> list[str]:
        """The calls of the body itself, in order; those of a life that was cut off before those of the next one."""
        return [name for order in self._all_orders for name in order.names]

    def offset(self, order: Order) -> int:
        """Give how many come before an order."""
        orders = self._all_orders
        return sum(len(one.names) for one in orders[: orders.index(order)])

    def place(self, identity: bytes) -> int | None:
        """Give the number of a call that has come, if it is one of the body itself."""
        found = self.orders.get(identity)
        return None if found is None else self.offset(found[1]) + found[1].place(found[0])

    def next(self) -> tuple[int, str] | None:
        """Give the number of the first call of the body itself that is recorded and has not come, and what it is."""
        for identity, call in self.calls.items():
            if identity in self.orders:
                _, order = self.orders[identity]
                if order.first < len(order.names):
                    return self.offset(order) + order.first, order.names[order.first]
                return self.place(identity) or 0, f"{call.record.definition.name}, another element"
        return None

    def next_open(self) -> str | None:
        """Give the name of a task run that was under way, or was cancelled, and has not come."""
        return next((name for names in self.open.values() for name in names), None)


class Recorded:
    """Everything that a recording says, by flow run.

    Args:
        recording: The recording.
    """

    def __init__(self, recording: Recording) -> None:
        self.runs = {one.id: one for one in recording.runs}
        self.states: dict[UUID, list[StateRecord]] = {}
        for state in recording.states:
            self.states.setdefault(state.run_id, []).append(state)
        self._inside: dict[UUID, dict[UUID, RunRecord]] = {}
        for one in recording.runs:
            if one.flow_run_id is not None:
                self._inside.setdefault(one.flow_run_id, {})[one.id] = one
        self._outcomes: dict[UUID, list[OutcomeRecord]] = {}
        self.outcomes: dict[UUID, OutcomeRecord] = {}
        for outcome in recording.outcomes:
            self._outcomes.setdefault(outcome.flow_run_id, []).append(outcome)
            self.outcomes[outcome.run_id] = outcome
        self._signals: dict[UUID, set[str]] = {}
        for handed in recording.inputs:
            if (name := signal_of(handed.key)) is not None:
                self._signals.setdefault(handed.run_id, set()).add(name)

    def attempts(self, run_id: UUID) -> list[Attempt]:
        """Give the attempts of a flow run, from the first one, or from that for which somebody asked last."""
        states = self.states.get(run_id, [])
        begins = begins_of(states)
        asked = [n for n, at in enumerate(begins) if at and states[at - 1].type in TERMINAL_STATES]
        first = asked[-1] if asked else 0
        of = self._attempts_of_runs(run_id, [states[at].at for at in begins])
        return [self._attempt(run_id, n, begins, of) for n in range(first, len(begins))]

    def passed(self, run_id: UUID) -> tuple[str, ...]:
        """Give the keys of the pauses from which a flow run was resumed."""
        return past_of(self.runs[run_id], self.states.get(run_id, [])).passed

    def identity(self, run: RunRecord) -> bytes | None:
        """Give the identity of the call of a run, where it is on record."""
        outcome = self.outcomes.get(run.id)
        return decode.extra_of(run).get("identity") if outcome is None else outcome.identity

    def _attempts_of_runs(self, run_id: UUID, times: list[int]) -> dict[UUID, int]:
        """Tell in which attempt runs were made: by time or, where that is the same, because a call came once more."""
        found: dict[UUID, int] = {}
        attempt = 0
        seen: set[bytes | None] = set()
        for one in self._inside.get(run_id, {}).values():
            identity = self.identity(one)
            while attempt + 1 < len(times) and (
                one.created > times[attempt + 1] or (one.created == times[attempt + 1] and identity in seen)
            ):
                attempt += 1
                seen.clear()
            if identity is not None:
                seen.add(identity)
            found[one.id] = attempt
        return found

    def _attempt(self, run_id: UUID, n: int, begins: list[int], of: dict[UUID, int]) -> Attempt:
        record, states = self.runs[run_id], self.states.get(run_id, [])
        past = past_of(record, states[: begins[n] + 1])._replace(attempts=n)
        is_last = n + 1 == len(begins)
        until = None if is_last else begins[n + 1]
        made = {one: run for one, run in self._inside.get(run_id, {}).items() if of[one] == n}
        memory = self._memory(past, n, made, of)
        end = states[-1] if is_last and states and states[-1].type in TERMINAL_STATES else None
        attempt = Attempt(n + 1, end, memory, is_last=is_last)
        self._add_calls(attempt, run_id, made, lives=len(past.begun))
        fork = past.fork
        known = sorted(((call.record, one) for one, call in attempt.calls.items()), key=lambda pair: pair[0].id)
        begun = {source: bodies_begun(self.states.get(source, [])) for source in self.states}
        parent = run_id.bytes if fork is None else fork.seed
        attempt.orders = orders_of(parent, known, begun)
        attempt.steps = self._steps_of_body(parent, attempt, self._signals.get(run_id, ()))
        attempt.calls = {identity: attempt.calls[identity] for _, identity in known}
        attempt.pauses = set(filter(None, map(_pause_of_body, states[begins[n] : until])))
        return attempt

    def _steps_of_body(self, parent: bytes, attempt: Attempt, signals: Iterable[str]) -> dict[bytes, str]:
        """Tell which steps of an attempt are the body's own, and of which kind: on record are only their identities."""
        made = [one.identity for one in attempt.memory.steps_left() if attempt_of_step(one) == attempt.number]
        kinds = [SLEEP, *(key for name in signals for key in (f"{SIGNAL}{name}", f"{SIGNAL_UNTIL}{name}"))]
        return {
            identity: kind
            for kind in kinds
            for identity in calls_of_body(parent, [(f"{PREFIX}{kind}", one) for one in made])
        }

    def _memory(self, past: Past, n: int, made: dict[UUID, RunRecord], of: dict[UUID, int]) -> Memory:
        """Give what the engine would remember in an attempt, had all of it ended in a life before."""
        inside = self._inside.get(past.run_id, {})
        if past.reuse is not None:
            made = {one: run for one, run in inside.items() if of[one] <= n}
        outcomes = [
            outcome
            for outcome in self._outcomes.get(past.run_id, ())
            if outcome.run_id in made or (is_step(outcome) and attempt_of_step(outcome) <= n + 1)
        ]
        memory = Memory(past, outcomes, made, {})
        fork = past.fork if n == 0 else None
        while fork is not None:
            source = fork.source_id
            memory.borrow(self._outcomes.get(source, ()), self._inside.get(source, {}), fork.before)
            fork = fork_of(self.runs[source])
        return memory

    def _add_calls(self, attempt: Attempt, run_id: UUID, made: dict[UUID, RunRecord], *, lives: int) -> None:
        """Note the calls of an attempt. What a task has called is the task's: its body is not called."""
        for one in attempt.memory.left():
            if one.record.parent_id == one.record.flow_run_id:
                attempt.calls[one.outcome.identity] = Call(one.record, one.outcome)
            else:
                attempt.memory.take(one.outcome.identity)
        for run in made.values():
            identity = self.identity(run)
            if run.parent_id != run_id:
                continue
            if identity is not None:
                attempt.calls.setdefault(identity, Call(run, self.outcomes.get(run.id)))
            elif run.kind is Kind.TASK and not decode.is_tracker(run) and not (lives > 1 and _has_crashed(run)):
                attempt.open.setdefault(run.definition.key, []).append(run.definition.name)


def begins_of(states: Sequence[StateRecord]) -> list[int]:
    """Give which states attempts of a run begin with. A life that goes on after another one is no attempt."""
    begins = [0] if states else []
    for at, state in enumerate(states):
        is_new = state.name == AWAITING_RETRY or (state.name == RETRYING and states[at - 1].type is _S.RUNNING)
        if at and is_new:
            begins.append(at)
    return begins


def _has_crashed(run: RunRecord) -> bool:
    return run.state is not None and run.state.type is _S.CRASHED


def _pause_of_body(state: StateRecord) -> str | None:
    """Give the key of a pause that a body may have asked for: not that of a long sleep, or wait for a signal."""
    key = details_of(state).pause_key if state.type is _S.PAUSED else None
    return None if key is None or key.startswith((_OF_SLEEPS, FOR_SIGNAL)) else key
