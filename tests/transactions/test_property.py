"""Random trees of transactions against an independently written model of the rules."""

from __future__ import annotations

from dataclasses import dataclass, field

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callsheet.records.memory import MemoryRecordStore
from callsheet.transactions import CommitMode, Transaction, get_transaction

MODES = (None, CommitMode.EAGER, CommitMode.LAZY, CommitMode.OFF)


class Boom(Exception):
    pass


@dataclass
class Node:
    """One block of a made-up program, and what goes wrong in it."""

    name: int
    mode: CommitMode | None
    stages: bool
    recorded: bool  # a record is there before
    bad_commit: bool  # its commit hook raises
    bad_rollback: bool  # its rollback hook raises
    acts: str  # what the body does after its children: "", "raise", "rollback", "commit"
    catches: bool  # whether an error is caught around the block
    children: list[Node] = field(default_factory=list)


def nodes(depth: int) -> st.SearchStrategy[Node]:
    children = st.lists(nodes(depth - 1), max_size=3) if depth else st.just([])
    rare = st.sampled_from([False, False, False, True])
    return st.builds(
        Node,
        name=st.just(0),
        mode=st.sampled_from(MODES),
        stages=st.booleans(),
        recorded=rare,
        bad_commit=rare,
        bad_rollback=rare,
        acts=st.sampled_from(["", "", "", "raise", "rollback", "commit"]),
        catches=st.booleans(),
        children=children,
    )


def numbered(node: Node) -> Node:
    count = 0
    waiting = [node]
    while waiting:
        one = waiting.pop(0)
        one.name, count = count, count + 1
        waiting += one.children
    return node


# ------------------------------------------------------------------------------------------ the model


class Model:
    """The rules as the page tells them, as a state machine over plain dictionaries."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.state: dict[int, str] = {}
        self.mode: dict[int, CommitMode] = {}
        self.below: dict[int, list[Node]] = {}
        self.written: set[int] = set()

    def run(self, node: Node, parent: Node | None) -> bool:
        """Give whether the block lets an error out."""
        name = node.name
        self.mode[name] = node.mode or (self.mode[parent.name] if parent else CommitMode.LAZY)
        self.state[name] = "COMMITTED" if node.recorded else "ACTIVE"
        self.below[name] = []
        if node.stages and not node.recorded:
            self.state[name] = "STAGED"
        error = False
        for child in node.children:
            if self.run(child, node) and not child.catches:
                error = True
                break
        if not error:
            if node.acts == "raise":
                error = True
            elif node.acts == "rollback":
                self.roll_back(node)
            elif node.acts == "commit":
                self.commit(node)
        if error:
            self.roll_back(node)
        elif self.mode[name] is CommitMode.EAGER:
            self.commit(node)
        if not error and parent is None:
            if self.mode[name] is CommitMode.OFF:
                self.roll_back(node)
            elif self.mode[name] is CommitMode.LAZY:
                self.commit(node)
        if parent is not None:
            self.below[parent.name].append(node)
            if self.state[name] == "ROLLED_BACK":
                self.roll_back(parent)
        return error

    def is_over(self, node: Node) -> bool:
        return self.state[node.name] in {"COMMITTED", "ROLLED_BACK"}

    def commit(self, node: Node) -> None:
        if self.is_over(node):
            return
        for child in self.below[node.name]:
            self.commit(child)
        if self.has_hooks(node):
            self.events.append(f"commit {node.name}")
            if node.bad_commit:
                self.roll_back(node)
                return
        self.written.add(node.name)
        self.state[node.name] = "COMMITTED"

    def roll_back(self, node: Node) -> None:
        if self.is_over(node):
            return
        if self.has_hooks(node):
            self.events.append(f"rollback {node.name}")
            if node.bad_rollback:
                return
        self.state[node.name] = "ROLLED_BACK"
        for child in reversed(self.below[node.name]):
            self.roll_back(child)

    @staticmethod
    def has_hooks(node: Node) -> bool:
        return node.stages and not node.recorded


# ------------------------------------------------------------------------------------ the real thing


class Program:
    """The same program with real transactions, in one of the colours or both mixed."""

    def __init__(self, colour: str) -> None:
        self.colour = colour
        self.events: list[str] = []
        self.made: dict[int, Transaction] = {}
        self.store = MemoryRecordStore()

    def hook(self, node: Node, kind: str, bad: bool):
        def note(txn: Transaction) -> None:
            self.events.append(f"{kind} {node.name}")
            if bad:
                raise Boom

        async def anote(txn: Transaction) -> None:
            await anyio.sleep(0)
            note(txn)

        return anote if self.colour != "with" and node.name % 2 else note

    async def run(self, node: Node) -> None:
        if node.recorded:
            self.store.write(str(node.name), "old")
        txn = self.made[node.name] = Transaction(commit_mode=node.mode, store=self.store, key=str(node.name))
        is_async = self.colour == "async with" or (self.colour == "mixed" and node.name % 3)
        await txn.__aenter__() if is_async else txn.__enter__()
        try:
            await self.body(node, txn, is_async)
        except Boom as error:
            await txn.__aexit__(Boom, error, None) if is_async else txn.__exit__(Boom, error, None)
            raise
        await txn.__aexit__(None, None, None) if is_async else txn.__exit__(None, None, None)

    async def body(self, node: Node, txn: Transaction, is_async: bool) -> None:
        if node.stages:
            txn.stage(
                "new",
                on_commit_hooks=[self.hook(node, "commit", node.bad_commit)],
                on_rollback_hooks=[self.hook(node, "rollback", node.bad_rollback)],
            )
        for child in node.children:
            try:
                await self.run(child)
            except Boom:
                if not child.catches:
                    raise
        if node.acts == "raise":
            raise Boom
        if node.acts:
            await getattr(txn, f"a{node.acts}")() if is_async else getattr(txn, node.acts)()


async def check(tree: Node, colour: str) -> None:
    model, program = Model(), Program(colour)
    error = model.run(tree, None)
    try:
        await program.run(tree)
        raised = False
    except Boom:
        raised = True
    assert raised == error
    assert program.events == model.events
    assert {name: txn.state.name for name, txn in program.made.items()} == model.state
    new = {name for name in program.made if program.store.exists(str(name))}
    old = {int(name) for name, record in program.store._records.items() if record.result == "old"}
    assert new - old == model.written
    assert get_transaction() is None


@pytest.mark.parametrize("colour", ["with", "async with", "mixed"])
@settings(max_examples=60)
@given(tree=nodes(3).map(numbered))
def test_random_trees_follow_the_rules(colour, tree):
    # Coroutine hooks of the blocking form need the loop to be driven, as it is in runs.
    from callsheet import drive

    anyio.run(lambda: drive(check(tree, colour)))
