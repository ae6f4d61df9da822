"""Every order in which messages about a flow run and its task runs may come: rules, model and checker.

With one task run to the fixpoint; `make proofs` also takes two to the fixpoint and three to twelve messages.
What a world may come to is searched breadth first. For every step the rules are compared with the model of their
table, and what they accept with the transitions that the history checker thinks legal.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple
from uuid import UUID

import pytest

from callsheet._ids import state_id
from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._model.records import StateRecord
from callsheet._rules.facts import Facts
from callsheet._rules.table import judge
from callsheet._rules.verdicts import Accept, AcceptIf, Reject
from callsheet.testing import transitions
from rules_model import expected
from test_rules import as_tuple

S = StateType
WHOLE = bool(os.environ.get("CALLSHEET_PROOFS"))
RETRIES = 1
NOW = 100.0
RUN = UUID(int=1)


class Run(NamedTuple):
    """A run. `due`: it waits for a moment that has not come."""

    type: StateType | None = None
    name: str | None = None
    attempt: int = 0
    order: str | None = None
    due: bool = False


class Ask(NamedTuple):
    """A message: a state that is proposed, by the run itself or by somebody else."""

    type: StateType
    name: str
    foreign: bool = False
    restart: bool = False


def asks(*types: StateType, **more: bool) -> tuple[Ask, ...]:
    return tuple(Ask(one, one.value.capitalize(), **more) for one in types)


OWN = asks(S.SCHEDULED, S.PENDING, S.RUNNING, S.COMPLETED, S.FAILED, S.CANCELLED, S.CRASHED)
TASK_ASKS = (*OWN, Ask(S.COMPLETED, "RolledBack"), Ask(S.RUNNING, "Retrying"), *asks(S.CANCELLED, foreign=True))
FLOW_ASKS = (
    *OWN,
    Ask(S.RUNNING, "Retrying"),
    Ask(S.PAUSED, "Paused"),
    Ask(S.PAUSED, "Suspended"),
    *asks(S.CANCELLING, S.CANCELLED, S.PAUSED, S.FAILED, foreign=True),
    *asks(S.RUNNING, foreign=True, restart=True),
    Ask(S.SCHEDULED, "AwaitingRetry", foreign=True, restart=True),
)


@cache
def answer(kind: Kind, run: Run, ask: Ask, paused: bool, suspended: bool) -> Run:
    """Judge a message twice, and give what becomes of the run."""
    facts = Facts(
        now=NOW,
        due_at=NOW + 1 if run.due else None,
        attempts=run.attempt,
        retries=RETRIES,
        retriable=True,
        retry_delay=1.0,
        delivered=run.order,  # type: ignore[arg-type]
        flow_paused=paused,
        flow_suspended=suspended,
        pause_pending=run.type is S.PAUSED,
        pause_ordered=run.type is S.PAUSED,
        restart=ask.restart,
        foreign=ask.foreign,
        run_id=RUN,
        seq=1,
    )
    verdict = judge(kind, run.type, ask.type, facts, current_name=run.name, proposed_name=ask.name)
    wanted = expected(kind, (run.type, run.name), (ask.type, ask.name), facts)
    assert as_tuple(verdict) == wanted, (kind, run, ask, facts)
    if isinstance(verdict, (Accept, AcceptIf)):
        after = Run(ask.type, ask.name, run.attempt, run.order)
    elif isinstance(verdict, Reject):
        after = Run(verdict.type, verdict.name, run.attempt, run.order, due=verdict.scheduled_at is not None)
    else:
        return run
    if after.type is S.RUNNING and run.type is not S.RUNNING and run.type is not S.PAUSED:
        after = after._replace(attempt=after.attempt + 1)
    elif after.name == "Retrying" and run.type is S.RUNNING:
        after = after._replace(attempt=after.attempt + 1)
    if ask.restart and run.type in TERMINAL_STATES:
        after = after._replace(attempt=0, order=None)
    _is_legal(kind, run, ask, after)
    return after


def _is_legal(kind: Kind, run: Run, ask: Ask, after: Run) -> None:
    """Compare a step with what the history checker thinks of it."""
    what = (kind, run, ask, after)
    assert after.attempt <= RETRIES + 1, what
    new = _record(after, 2)
    if run.type is None:
        assert transitions.begins(new) is None, what
        return
    old = _record(run, 1)
    if run.type in TERMINAL_STATES:
        assert ask.restart or transitions.is_rollback(kind, old, new), what
    elif not ask.restart and run[:2] != after[:2]:
        assert transitions.follows(old, new) is None, what


def _record(run: Run, seq: int) -> StateRecord:
    assert run.type is not None
    return StateRecord(
        id=state_id(RUN, seq), run_id=RUN, seq=seq, type=run.type, name=run.name or "", at=0, message=None
    )


def sent(run: Run, every: tuple[Ask, ...]) -> Iterator[Ask]:
    """Give the messages that somebody may send about a run, however late they come: nobody undoes what has not ended,
    starts what is running, or goes on with what is not paused."""
    for ask in every:
        if ask.name == "RolledBack" and run.type not in TERMINAL_STATES:
            continue
        begins = ask.type in {S.SCHEDULED, S.PENDING, S.RUNNING} and ask.name != "Retrying" and not ask.restart
        if begins and run.attempt:
            continue
        if ask.name == "Retrying" and run.name != "AwaitingRetry":
            continue
        if ask.type is S.RUNNING and ask.restart and run.type is not S.PAUSED:
            continue
        if ask.type is S.SCHEDULED and ask.restart and run.type not in TERMINAL_STATES:
            continue
        yield ask


World = tuple[int, ...]  # the flow run, and its task runs in an order that makes equal worlds equal; by number

RUNS: list[Run] = []
NUMBERS: dict[Run, int] = {}


def number(run: Run) -> int:
    """Give the number of a run as it is."""
    if run not in NUMBERS:
        NUMBERS[run] = len(RUNS)
        RUNS.append(run)
    return NUMBERS[run]


@cache
def next_of_flow(flow: int) -> tuple[tuple[int, bool], ...]:
    """Give what a flow run may become by one message, order or moment, and whether its task runs are told to leave."""
    run = RUNS[flow]
    found = {(answer(Kind.FLOW, run, ask, False, False), False) for ask in sent(run, FLOW_ASKS)}
    alive = run.type is not None and run.type not in TERMINAL_STATES
    if alive and run.order is None:
        found.add((run._replace(order="suspend"), False))
    if alive and run.order != "cancel":
        found.add((run._replace(order="cancel"), True))
    if run.due:
        found.add((run._replace(due=False), False))
    return tuple((number(one), told) for one, told in found)


@cache
def next_of_task(task: int, paused: bool, suspended: bool) -> tuple[int, ...]:
    """Give what a task run may become."""
    run = RUNS[task]
    found = {answer(Kind.TASK, run, ask, paused, suspended) for ask in sent(run, TASK_ASKS)}
    for after in found:
        assert not _starts(run, after) or not (paused or suspended or run.order == "cancel"), (run, after)
    if run.due:
        found.add(run._replace(due=False))
    return tuple(map(number, found))


@cache
def left(task: int) -> int:
    """Give a task run that was told to leave."""
    run = RUNS[task]
    return task if run.type is None or run.type in TERMINAL_STATES else number(run._replace(order="cancel"))


@cache
def gates(flow: int) -> tuple[bool, bool]:
    """Tell whether tasks wait at the gate of a flow run, and whether they are not to start at all."""
    run = RUNS[flow]
    paused = run.type is S.PAUSED and run.name == "Paused"
    return paused, run.order == "suspend" or (run.type is S.PAUSED and run.name == "Suspended")


def steps(world: World) -> Iterator[World]:
    """Give every world that one message, order or moment leads to."""
    flow, *tasks = world
    for after, told in next_of_flow(flow):
        yield (after, *(sorted(map(left, tasks)) if told else tasks))
    for index, task in enumerate(tasks):
        others = [*tasks[:index], *tasks[index + 1 :]]
        for after in next_of_task(task, *gates(flow)):
            yield (flow, *sorted([after, *others]))


def _starts(run: Run, after: Run) -> bool:
    return after.type is S.RUNNING and run.type is not S.RUNNING


@pytest.mark.parametrize(("tasks", "most"), [(1, None), (2, None), (3, 12)] if WHOLE else [(1, None)])
def test_every_order_of_messages(tasks: int, most: int | None) -> None:
    begin: World = tuple(map(number, itertools.repeat(Run(), 1 + tasks)))
    seen, edge, depth = {begin}, {begin}, 0
    while edge and depth != most:
        depth += 1
        edge = {new for world in edge for new in steps(world)} - seen
        seen |= edge
    print(f"{len(seen)} worlds, {answer.cache_info().currsize} different messages, depth {depth}")
    assert depth >= 12
