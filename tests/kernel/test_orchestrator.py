"""The orchestrator: the tree of live runs, verdicts as answers, and the order of what it accepts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from callsheet._clock import SYSTEM_CLOCK
from callsheet._ids import new_id
from callsheet._kernel.messages import CancelTree, Cell, Leave, Orphan, Propose, Register, SetState
from callsheet._kernel.orchestrator import Orchestrator
from callsheet._kernel.scopes import CANCEL, RunScope
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import Definition, RunCreated, StateEntered, usual_states
from callsheet._rules.verdicts import GO_ON, Abort, Reject

_S = StateType


class Queue:
    """A journal that only remembers."""

    def __init__(self) -> None:
        self.keeps = True
        self.entries: list[Any] = []

    def put(self, *entries: Any) -> int:
        self.entries += entries
        return len(self.entries)

    def states(self, cell: Cell) -> list[str]:
        return [entry.name for entry in self.spelled_out() if entry.run_id == cell.id]

    def spelled_out(self) -> list[StateEntered]:
        """Give every state in the order of acceptance, also those that runs entered as they came into being."""
        states: list[StateEntered] = []
        for entry in self.entries:
            if isinstance(entry, RunCreated):
                states += usual_states(entry)
            elif isinstance(entry, StateEntered):
                states.append(entry)
        return states


class Actor:
    def __init__(self) -> None:
        self.scope = RunScope()
        self.is_flow = False
        self.name = "actor"


@pytest.fixture
def queue() -> Queue:
    return Queue()


@pytest.fixture
def sheet(queue: Queue) -> Any:
    made = Orchestrator(queue, SYSTEM_CLOCK)
    yield made
    made.mailbox.close()


def begin(sheet: Orchestrator, parent: Cell | None = None, kind: Kind = Kind.FLOW, *, start: bool = True) -> Cell:
    cell = Cell(new_id(), kind, Definition(kind, "m.f", "f", "0"), parent, Actor())
    cell.actor.cell = cell
    sheet.mailbox.ask(Register(cell=cell, name="f", start=start))
    return cell


def propose(sheet: Orchestrator, cell: Cell, type: StateType, **rest: Any) -> Any:
    return sheet.mailbox.ask(Propose(cell=cell, type=type, name=type.value.capitalize(), **rest)).verdict


def test_a_life_is_written_in_order(sheet: Orchestrator, queue: Queue) -> None:
    cell = begin(sheet, start=False)
    assert propose(sheet, cell, _S.RUNNING).accepted
    assert propose(sheet, cell, _S.COMPLETED).accepted
    assert isinstance(queue.entries[0], RunCreated)
    assert queue.states(cell) == ["Pending", "Running", "Completed"]
    assert [entry.seq for entry in queue.spelled_out()] == [1, 2, 3]
    assert (cell.ended, cell.attempt, sheet.roots) == (True, 1, {})


def test_what_has_ended_stays_so(sheet: Orchestrator, queue: Queue) -> None:
    cell = begin(sheet)
    propose(sheet, cell, _S.COMPLETED)
    assert isinstance(propose(sheet, cell, _S.FAILED), Abort)
    assert queue.states(cell)[-1] == "Completed"


def test_a_failure_with_attempts_left_is_answered_with_another_attempt(sheet: Orchestrator, queue: Queue) -> None:
    cell = begin(sheet, kind=Kind.TASK)
    verdict = propose(sheet, cell, _S.FAILED, retries=1)
    assert isinstance(verdict, Reject)
    assert (verdict.type, verdict.name) == (_S.RUNNING, "Retrying")
    assert propose(sheet, cell, _S.FAILED, retries=1).accepted
    assert queue.states(cell) == ["Pending", "Running", "Retrying", "Failed"]


def test_the_tree(sheet: Orchestrator) -> None:
    root = begin(sheet)
    task = begin(sheet, root, Kind.TASK)
    below = begin(sheet, task, Kind.TASK)
    assert (below.flow, below.root_id, task.flow) == (root, root.id, root)
    assert list(sheet.roots) == [root]
    assert sheet.alive() == [below, task, root]
    childless = sheet.when_childless(root)
    assert childless is not None
    propose(sheet, below, _S.COMPLETED)
    assert not childless.is_set
    propose(sheet, task, _S.COMPLETED)
    assert childless.is_set
    assert sheet.when_childless(root) is None
    idle = sheet.when_idle()
    assert not idle.is_set
    propose(sheet, root, _S.COMPLETED)
    assert idle.is_set
    assert sheet.when_idle().is_set


def test_a_run_that_could_not_be_made_to_leave_outlives_its_parent_in_the_tree(sheet: Orchestrator) -> None:
    root = begin(sheet)
    stuck = begin(sheet, root, Kind.TASK)
    propose(sheet, root, _S.CRASHED)
    idle = sheet.when_idle()
    assert (sheet.alive(), idle.is_set) == ([stuck], False)
    propose(sheet, stuck, _S.COMPLETED)
    assert (sheet.alive(), idle.is_set) == ([], True)


def test_cancelling_a_tree_begins_at_the_leaves(sheet: Orchestrator) -> None:
    order: list[str] = []
    root = begin(sheet)
    task = begin(sheet, root, Kind.TASK)
    for name, cell in (("root", root), ("task", task)):
        cell.actor.scope.subscribe(lambda name=name: order.append(name))
    sheet.mailbox.tell(CancelTree(root, CANCEL))
    assert order == ["task", "root"]
    assert isinstance(propose(sheet, root, _S.COMPLETED), Reject), "a body that swallows the order changes nothing"
    assert propose(sheet, task, _S.COMPLETED).accepted, "a task that finished its work has"


def test_only_the_children(sheet: Orchestrator) -> None:
    root = begin(sheet)
    task = begin(sheet, root, Kind.TASK)
    sheet.mailbox.tell(CancelTree(root, CANCEL, whole=False))
    assert (root.actor.scope.reason, task.actor.scope.reason) == (None, CANCEL)


def test_an_orphan_ends_crashed_and_only_once(sheet: Orchestrator, queue: Queue) -> None:
    cell = begin(sheet)
    sheet.mailbox.leave(Orphan(cell))
    assert not cell.ended
    sheet.mailbox.sweep()
    sheet.mailbox.ask(Orphan(cell))
    assert queue.states(cell) == ["Pending", "Running", "Crashed"]


def test_leaving_without_a_final_state(sheet: Orchestrator, queue: Queue) -> None:
    cell = begin(sheet, start=False)
    sheet.mailbox.ask(Leave(cell))
    sheet.mailbox.ask(Leave(cell))
    assert (cell.ended, sheet.roots, queue.states(cell)) == (True, {}, ["Pending"])


def test_nothing_is_written_where_nothing_is_kept(queue: Queue) -> None:
    queue.keeps = False
    sheet = Orchestrator(queue, SYSTEM_CLOCK)
    cell = begin(sheet)
    assert propose(sheet, cell, _S.COMPLETED).accepted
    assert queue.entries == []
    sheet.mailbox.close()


def test_after_a_fork_nothing_is_kept_and_nobody_is_waited_for(sheet: Orchestrator, queue: Queue) -> None:
    root = begin(sheet)
    begin(sheet, root, Kind.TASK)
    written = len(queue.entries)
    sheet.forget()
    assert sheet.when_childless(root) is None
    assert propose(sheet, root, _S.COMPLETED).accepted
    assert len(queue.entries) == written


def test_what_threads_report_at_once_is_written_in_the_order_of_acceptance(sheet: Orchestrator, queue: Queue) -> None:
    root = begin(sheet)

    def work() -> None:
        for _ in range(100):
            cell = begin(sheet, root, Kind.TASK)
            propose(sheet, cell, _S.COMPLETED)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen: dict[Any, int] = {}
    for state in queue.spelled_out():
        assert state.seq == seen.get(state.run_id, 0) + 1
        seen[state.run_id] = state.seq
    assert not root.children


@pytest.mark.parametrize("kind", Kind)
def test_what_is_begun_below_a_cancelled_run_does_not_start(sheet: Orchestrator, queue: Queue, kind: Kind) -> None:
    """A call that was under way when the order came registers its run after it."""
    root = begin(sheet)
    order = SetState(run_id=root.id, kind=Kind.FLOW, type=_S.CANCELLING, name="Cancelling")
    assert sheet.mailbox.ask(order).verdict.accepted
    late = begin(sheet, root, kind)
    assert late.actor.scope.reason == CANCEL
    assert isinstance(propose(sheet, late, _S.RUNNING), Reject)
    assert queue.states(late) == ["Pending", "Cancelled"]
    assert sheet.mailbox.ask(order).verdict is GO_ON, "it is Cancelling already"
    assert queue.states(root) == ["Pending", "Running", "Cancelling"]
