"""Judging a whole history. Pure: records go in, findings come out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import OutcomeRecord, RunRecord, StateRecord
from callsheet._results.wires import METADATA
from callsheet.testing import transitions
from callsheet.testing.findings import Finding, Promise

_S = StateType
_extra: Final = msgspec.msgpack.Decoder(dict[str, Any]).decode


class History(msgspec.Struct):
    """Everything that is judged. `forced` are runs whose states somebody set against the rules, on purpose."""

    runs: dict[UUID, RunRecord] = {}
    states: dict[UUID, tuple[StateRecord, ...]] = {}
    outcomes: dict[UUID, tuple[OutcomeRecord, ...]] = {}
    engines: frozenset[UUID] | None = None  # those that are alive; `None` for a history in memory, which has no others
    forced: frozenset[UUID] = frozenset()
    unsettled: bool = False

    def of(self, run_id: UUID) -> tuple[StateRecord, ...]:
        """Give the states of a run."""
        return self.states.get(run_id, ())

    def described(self, run: RunRecord) -> dict[str, Any]:
        """Give what is stored with a run beside its columns."""
        return {} if run.extra is None else _extra(run.extra)


def judged(history: History) -> Iterator[Finding]:
    """Give everything that is wrong with a history, run by run."""
    if history.unsettled:
        yield Finding(promise=Promise.SETTLED, text="Batches are left in the redo log after they were adopted.")
    for run in history.runs.values():
        for judge in _JUDGES:
            yield from judge(history, run)
    for flow_run_id, outcomes in history.outcomes.items():
        yield from _outcomes(history, flow_run_id, outcomes)


def missing(history: History, acknowledged: Mapping[UUID, str]) -> Iterator[Finding]:
    """Give what callers were told and history does not say."""
    for run_id, wanted in acknowledged.items():
        run = history.runs.get(run_id)
        if run is None:
            text = f"Run {run_id} was acknowledged as {wanted}, and is not there."
            yield Finding(promise=Promise.ACKNOWLEDGED, text=text, run_id=run_id)
            continue
        end = transitions.end_of(history.of(run_id))
        if end is None or end.type.value != wanted.upper():
            yield _finding(Promise.ACKNOWLEDGED, run, f"was acknowledged as {wanted}, but is {_now(history, run)}")


# ------------------------------------------------------------------------------------------ one run


def _transitions(history: History, run: RunRecord) -> Iterator[Finding]:
    """Judge every step of a run that nobody forced."""
    states = history.of(run.id)
    if run.id in history.forced or not states:
        return
    why = transitions.begins(states[0])
    if why is not None and states[0].seq == 1:
        yield _finding(Promise.TRANSITIONS, run, f"begins as {states[0].name}: {why}", states[0].seq)
    ended: StateRecord | None = None
    for before, after in itertools.pairwise(states):
        if transitions.is_begun_again(run.kind, before, after):
            ended = None
            continue
        if before.type in transitions.ENDED:
            ended = ended or before
        if ended is not None:
            if not transitions.is_rollback(run.kind, before, after):
                text = f"ended as {ended.name} in state {ended.seq}, and entered {after.name} after that"
                yield _finding(Promise.ENDS_ONCE, run, text, after.seq)
        elif (why := transitions.follows(before, after)) and not _is_gap(before, after):
            text = f"went from {before.name} to {after.name}: {why}"
            yield _finding(Promise.TRANSITIONS, run, text, after.seq)


def _numbers(history: History, run: RunRecord) -> Iterator[Finding]:
    """Judge whether all states are there, and whether the run's own row tells of the newest."""
    states = history.of(run.id)
    current = run.state
    if not states or current is None:
        yield _finding(Promise.WHOLE, run, "is there without any state")
        return
    if states[0].seq != 1:
        yield _finding(Promise.WHOLE, run, f"begins with state {states[0].seq}", states[0].seq)
    for before, after in itertools.pairwise(states):
        if _is_gap(before, after):
            text = f"has no state between {before.seq} ({before.name}) and {after.seq} ({after.name})"
            yield _finding(Promise.WHOLE, run, text, after.seq)
    last = states[-1]
    if (last.seq, last.type, last.name, last.at) != (current.seq, current.type, current.name, current.at):
        text = f"is said to be {current.name} (state {current.seq}), but its newest state is {last.name} ({last.seq})"
        yield _finding(Promise.WHOLE, run, text, last.seq)


def _is_gap(before: StateRecord, after: StateRecord) -> bool:
    return after.seq - before.seq > (2 if transitions.may_skip_a_number(before) else 1)


def _times(history: History, run: RunRecord) -> Iterator[Finding]:
    for state in history.of(run.id):
        if state.at < run.created:
            text = f"entered {state.name} {(run.created - state.at) / 1e6:g} s before it was created"
            yield _finding(Promise.TIMES, run, text, state.seq)


def _attempts(history: History, run: RunRecord) -> Iterator[Finding]:
    if run.id in history.forced:
        return
    states = history.of(run.id)
    policy: Sequence[Any] = history.described(run).get("policy") or (0,)
    suspensions = sum(state.type is _S.PAUSED and state.name == "Suspended" for state in states)
    begun_again = sum(transitions.is_begun_again(run.kind, *pair) for pair in itertools.pairwise(states))
    root = run if run.root_id is None else history.runs.get(run.root_id, run)
    allowed = (1 + policy[0]) * (1 + begun_again) + root.recoveries + suspensions
    found = transitions.starts(states)
    if found > allowed:
        text = (
            f"was started {found} times, with {policy[0]} retries, {root.recoveries} recoveries and "
            f"{suspensions} suspensions"
        )
        yield _finding(Promise.ATTEMPTS, run, text)


def _references(history: History, run: RunRecord) -> Iterator[Finding]:
    around = {
        "the run that made it": run.parent_id,
        "the flow run around it": run.flow_run_id,
        "the task run that tracks it": run.parent_task_run_id,
        "the root of its tree": run.root_id,
    }
    for what, other in around.items():
        if other is not None and other not in history.runs:
            yield _finding(Promise.REFERENCES, run, f"names {other} as {what}, which is not there")
    for parameter, sources in () if _is_by_hand(history, run) else run.inputs:
        for source in sources:
            if source not in history.runs:
                text = f"has the result of {source} as its input {parameter!r}, which is not there"
                yield _finding(Promise.REFERENCES, run, text)


def _owner(history: History, run: RunRecord) -> Iterator[Finding]:
    """Judge whether somebody sees to a root run as long as it has to be seen to."""
    states = history.of(run.id)
    if history.engines is None or run.parent_id is not None or not states or run.state is None:
        return
    waits = run.state.type is _S.SCHEDULED or run.state.name == "Suspended"
    ended = transitions.end_of(states) is not None
    if run.owner is not None and (ended or run.state.name == "Suspended"):
        yield _finding(Promise.OWNED_BY_THE_LIVING, run, f"is {run.state.name} and still belongs to {run.owner}")
    elif run.owner is not None and run.owner not in history.engines:
        yield _finding(Promise.OWNED_BY_THE_LIVING, run, f"belongs to the engine {run.owner}, which is gone")
    elif run.owner is None and run.kind is Kind.FLOW and not (ended or waits or transitions.was_chosen(run.state)):
        yield _finding(Promise.OWNED_BY_THE_LIVING, run, f"is {run.state.name} and belongs to no engine")


def _inside(history: History, run: RunRecord) -> Iterator[Finding]:
    """Judge a run by the flow run around it, and a subflow's run by the task run that tracks it."""
    if _is_by_hand(history, run):
        return
    for around in (run.flow_run_id, run.parent_task_run_id):
        outer = None if around is None else history.runs.get(around)
        if outer is None or outer.id in history.forced or run.id in history.forced:
            continue
        theirs = transitions.end_of(history.of(outer.id))
        if theirs is None:
            continue
        states = history.of(run.id)
        own = transitions.end_of(states)
        if own is not None and own.at > theirs.at:
            text = f"ended as {own.name} {(own.at - theirs.at) / 1e6:g} s after {_name(outer)} around it"
            yield _finding(Promise.CHILDREN_FIRST, run, text, own.seq)
        elif own is None and states and not _left_early(states[-1]):
            text = f"is {states[-1].name}, though {_name(outer)} around it has ended as {theirs.name}"
            yield _finding(Promise.CHILDREN_FIRST, run, text, states[-1].seq)


def _is_by_hand(history: History, run: RunRecord) -> bool:
    """Tell whether a run was made by hand (`Task.create_run`), and is run by nobody."""
    return "dynamic_key" in history.described(run)


def _left_early(state: StateRecord) -> bool:
    """Tell whether a run may stay in a state that is no end: its inputs failed, or its body chose to leave so."""
    return state.name == "NotReady" or transitions.was_chosen(state)


_JUDGES: Final[tuple[Callable[[History, RunRecord], Iterator[Finding]], ...]] = (
    _numbers,
    _transitions,
    _times,
    _attempts,
    _references,
    _owner,
    _inside,
)


# -------------------------------------------------------------------------------------- run journal


def _outcomes(history: History, flow_run_id: UUID, outcomes: Sequence[OutcomeRecord]) -> Iterator[Finding]:
    completed: dict[bytes, OutcomeRecord] = {}
    for outcome in outcomes:
        run = history.runs.get(outcome.run_id)
        if run is None and _is_step(outcome):
            continue
        if run is None:
            text = (
                f"The run journal of {flow_run_id} says {outcome.status.value} of {outcome.run_id}, which is not there."
            )
            yield Finding(promise=Promise.OUTCOMES, text=text, run_id=outcome.run_id)
            continue
        own = run.id == flow_run_id  # of a flow run under a run key; its body may end in a state that is not final
        end = run.state if own else transitions.end_of(history.of(run.id))
        if not own and run.flow_run_id != flow_run_id:
            yield _finding(Promise.OUTCOMES, run, f"is in the run journal of {flow_run_id}, in which it is not")
        if end is None or end.type is not outcome.status:
            text = f"is {outcome.status.value} by the run journal, but {_now(history, run)} by its states"
            yield _finding(Promise.OUTCOMES, run, text)
            continue
        if outcome.status is not _S.COMPLETED:
            continue
        first = completed.get(outcome.identity)
        if first is not None and first.recorded and _is_kept(first) and not _began_anew(history, first, run):
            text = f"completed again what {_name(history.runs[first.run_id])} had completed in the same flow run"
            yield _finding(Promise.FINISHED_ONCE, run, text)
        completed[outcome.identity] = outcome


def _is_step(outcome: OutcomeRecord) -> bool:
    """Tell whether an outcome is that of a step of the flow's body, such as a durable sleep, which is no run."""
    return outcome.run_id.bytes[:12] == outcome.identity[:12]


def _is_kept(outcome: OutcomeRecord) -> bool:
    """Tell whether the journal itself has the result. A record elsewhere may be gone, and then its task runs again."""
    return outcome.result is None or outcome.result.codec != METADATA


def _began_anew(history: History, first: OutcomeRecord, second: RunRecord) -> bool:
    """Tell whether a body around a run was retried, or begun again, after an earlier run of the same call had ended.

    A retry calls everything again (ADR 0008), and a restart what it was asked to; a recovery does not.
    """
    ended = transitions.end_of(history.of(first.run_id))
    since = 0 if ended is None else ended.at
    around = second.parent_id
    while around is not None and (run := history.runs.get(around)) is not None:
        states = history.of(run.id)
        anew = [state.at for state in states if state.name == "Retrying"]
        anew += [
            after.at
            for before, after in itertools.pairwise(states)
            if transitions.is_begun_again(run.kind, before, after)
        ]
        if any(since <= at <= second.created for at in anew):
            return True
        around = run.parent_id
    return False


# ---------------------------------------------------------------------------------------- in words


def _finding(promise: Promise, run: RunRecord, text: str, seq: int | None = None) -> Finding:
    return Finding(promise=promise, text=f"{_name(run)} {text}.", run_id=run.id, seq=seq)


def _name(run: RunRecord) -> str:
    return f"{'flow' if run.kind is Kind.FLOW else 'task'} run {run.name!r} ({run.id})"


def _now(history: History, run: RunRecord) -> str:
    states = history.of(run.id)
    return states[-1].name if states else "in no state"
