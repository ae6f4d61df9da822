"""Every sentence of the rules of transactions, in both colours, on every event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from callsheet import flow
from callsheet._model.transactions import CommitMode, IsolationLevel, TransactionState
from callsheet.exceptions import ConfigurationError, SerializationError
from callsheet.records.base import RecordStore, TransactionRecord
from callsheet.records.memory import MemoryRecordStore
from callsheet.transactions import Transaction, get_transaction, transaction

LAZY, EAGER, OFF = CommitMode.LAZY, CommitMode.EAGER, CommitMode.OFF
SERIALIZABLE = IsolationLevel.SERIALIZABLE


def note(calls: list[str], name: str) -> Callable[[Transaction], None]:
    return lambda txn: calls.append(name)


def failing(txn: Transaction) -> None:
    raise ValueError("no")


class NoLocks(RecordStore):
    """A store of a user's: a dictionary."""

    def __init__(self) -> None:
        self.records: dict[str, Any] = {}
        self.error: Exception | None = None

    def read(self, key, holder=None):
        return TransactionRecord(key, self.records[key]) if key in self.records else None

    def write(self, key, result, holder=None):
        if self.error is not None:
            raise self.error
        self.records[key] = result

    def exists(self, key):
        return key in self.records


class Block:
    """A transaction's block in one of the two colours, for tests that are written once."""

    def __init__(self, is_async: bool, txn: Transaction) -> None:
        self.is_async, self.txn = is_async, txn

    async def __aenter__(self) -> Transaction:
        return await self.txn.__aenter__() if self.is_async else self.txn.__enter__()

    async def __aexit__(self, *exc_info: Any) -> Any:
        if self.is_async:
            return await self.txn.__aexit__(*exc_info)
        return self.txn.__exit__(*exc_info)


class Colour:
    """Calls the steps in one colour."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async

    def block(self, cls: type[Transaction] = Transaction, **fields: Any) -> Block:
        return Block(self.is_async, cls(**fields))

    async def do(self, txn: Transaction, step: str) -> Any:
        return await getattr(txn, f"a{step}")() if self.is_async else getattr(txn, step)()


@pytest.fixture(params=[False, True], ids=["with", "async with"])
def colour(request) -> Colour:
    return Colour(request.param)


pytestmark = pytest.mark.anyio

# ------------------------------------------------------------------------------------------- fields


def test_the_fields_and_their_defaults():
    txn = Transaction()
    assert (txn.store, txn.key, txn.children, txn.commit_mode) == (None, None, [], None)
    assert (txn.isolation_level, txn.state) == (IsolationLevel.READ_COMMITTED, TransactionState.PENDING)
    assert (txn.on_commit_hooks, txn.on_rollback_hooks) == ([], [])
    assert (txn.overwrite, txn.write_on_commit) == (False, True)
    assert txn.logger.name == "callsheet.transactions"
    with pytest.raises(TypeError):
        Transaction("key")  # type: ignore


def test_equality_is_by_fields():
    assert Transaction() == Transaction()
    assert Transaction(key="a") == Transaction(key="a") != Transaction(key="b")
    assert Transaction(key="a") != "a"
    first = Transaction()
    first.set("x", 1)
    assert first == Transaction()  # what is private does not count
    with pytest.raises(TypeError):
        hash(first)


@pytest.mark.parametrize("state", TransactionState)
def test_each_state_has_its_question(state):
    txn = Transaction(state=state)
    for other in TransactionState:
        assert getattr(txn, f"is_{other.value.lower()}")() == (other is state)


def test_a_transaction_shares_no_list_with_another_or_with_its_maker():
    hooks = [failing]
    txn = Transaction(on_commit_hooks=hooks)
    txn.stage(1, on_commit_hooks=[failing])
    assert len(hooks) == 1
    assert Transaction().children is not Transaction().children


# ------------------------------------------------------------------------------------------- enter


async def test_entering_twice_is_an_error(colour):
    async with colour.block() as txn:
        with pytest.raises(RuntimeError, match=r"Context already entered\. Context enter calls cannot be nested\."):
            await colour.block().__class__(colour.is_async, txn).__aenter__()


async def test_leaving_without_entering_is_an_error(colour):
    with pytest.raises(RuntimeError, match=r"Asymmetric use of context\. Context exit called without an enter\."):
        await Block(colour.is_async, Transaction()).__aexit__(None, None, None)
    with pytest.raises(RuntimeError, match="Asymmetric use of context"):
        Transaction().__exit__()
    with pytest.raises(RuntimeError, match="Asymmetric use of context"):
        await Transaction().__aexit__()


async def test_a_missing_mode_is_the_parents_and_lazy_at_the_root(colour):
    async with colour.block() as root:
        assert root.commit_mode is LAZY
    async with colour.block(commit_mode=EAGER), colour.block() as child:
        assert child.commit_mode is EAGER


async def test_a_missing_isolation_is_the_parents_only_if_none_was_passed(colour):
    async with colour.block(isolation_level=None) as root:
        assert root.isolation_level is IsolationLevel.READ_COMMITTED
    async with colour.block(isolation_level=SERIALIZABLE):
        async with colour.block() as child:
            assert child.isolation_level is IsolationLevel.READ_COMMITTED
        async with colour.block(isolation_level=None) as child:
            assert child.isolation_level is SERIALIZABLE


async def test_a_level_that_the_store_cannot_give_is_refused(colour):
    message = (
        "Isolation level SERIALIZABLE is not supported by provided configuration. Please ensure you've provided a "
        "lock file directory or lock manager when using the SERIALIZABLE isolation level."
    )
    with pytest.raises(ConfigurationError) as caught:
        async with colour.block(store=NoLocks(), key="k", isolation_level=SERIALIZABLE):
            pytest.fail("entered")
    assert str(caught.value) == message
    assert get_transaction() is None
    async with colour.block(store=NoLocks(), isolation_level=SERIALIZABLE):
        pass  # without a key nothing is locked


async def test_it_is_active_before_it_begins_and_current_only_afterwards(colour):
    seen = []

    class Looking(Transaction):
        def begin(self):
            seen.append((self.state, get_transaction()))
            super().begin()

    async with colour.block(Looking) as txn:
        assert get_transaction() is txn
        assert txn.is_active()
    assert seen == [(TransactionState.ACTIVE, None)]
    assert get_transaction() is None


async def test_a_begin_that_fails_leaves_no_lock_and_no_current_transaction(colour):
    class Broken(MemoryRecordStore):
        def exists(self, key):
            raise OSError("gone")

    store = Broken()
    with pytest.raises(OSError, match="gone"):
        async with colour.block(store=store, key="k", isolation_level=SERIALIZABLE):
            pytest.fail("entered")
    assert get_transaction() is None
    assert not store.is_locked("k")


# ------------------------------------------------------------------------------------------- begin


async def test_a_record_that_is_there_commits_at_once_and_the_body_still_runs(colour):
    store, ran = MemoryRecordStore(), []
    store.write("k", "old")
    async with colour.block(store=store, key="k") as txn:
        assert txn.is_committed()
        ran.append(True)
        txn.stage("new", on_commit_hooks=[failing])
        assert txn.is_committed()
        assert not txn.on_commit_hooks
        assert await colour.do(txn, "commit") is False
    assert ran == [True]
    assert store.read("k").result == "old"


async def test_overwrite_ignores_a_record_that_is_there(colour):
    store = MemoryRecordStore()
    store.write("k", "old")
    async with colour.block(store=store, key="k", overwrite=True) as txn:
        assert txn.is_active()
        txn.stage("new")
    assert store.read("k").result == "new"


async def test_the_lock_is_held_from_begin_to_the_end(colour):
    store = MemoryRecordStore()
    async with colour.block(store=store, key="k", isolation_level=SERIALIZABLE) as txn:
        assert store.is_locked("k")
        assert store.is_lock_holder("k")  # code in the body is the holder too
        txn.stage(1)
    assert not store.is_locked("k")
    async with colour.block(store=store, key="k", isolation_level=SERIALIZABLE) as txn:
        assert txn.is_committed()
        assert store.is_locked("k")
    assert not store.is_locked("k")


@pytest.mark.parametrize("mode", CommitMode)
@pytest.mark.parametrize("is_there", [False, True])
async def test_the_lock_is_released_when_the_body_fails(colour, mode, is_there):
    store = MemoryRecordStore()
    if is_there:
        store.write("k", 1)
    with pytest.raises(ValueError, match="no"):
        async with colour.block(store=store, key="k", isolation_level=SERIALIZABLE, commit_mode=mode):
            raise ValueError("no")
    assert not store.is_locked("k")


async def test_a_block_in_a_block_of_the_same_key_does_not_release_the_lock(colour):
    store = MemoryRecordStore()
    same = {"store": store, "key": "k", "isolation_level": SERIALIZABLE}
    async with colour.block(**same):
        async with colour.block(**same, commit_mode=EAGER) as inner:
            inner.stage(1)
        assert store.is_locked("k")
    assert not store.is_locked("k")


# -------------------------------------------------------------------------------------------- exit


async def test_an_error_rolls_back_resets_and_goes_on(colour):
    calls: list[str] = []
    error = ValueError("no")
    with pytest.raises(ValueError) as caught:
        async with colour.block() as txn:
            txn.stage(1, on_rollback_hooks=[note(calls, "undone")])
            raise error
    assert caught.value is error
    assert txn.is_rolled_back()
    assert calls == ["undone"]
    assert get_transaction() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_what_is_no_exception_rolls_back_and_goes_on_too(colour, error):
    calls: list[str] = []
    with pytest.raises(error):
        async with colour.block() as txn:
            txn.stage(1, on_rollback_hooks=[note(calls, "undone")])
            raise error
    assert (txn.state, calls, get_transaction()) == (TransactionState.ROLLED_BACK, ["undone"], None)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (None, LAZY, "COMMITTED"),
        (None, EAGER, "COMMITTED"),
        (None, OFF, "ROLLED_BACK"),
        (LAZY, LAZY, "COMMITTED"),
        (LAZY, OFF, "COMMITTED"),
        (LAZY, EAGER, "COMMITTED"),
        (OFF, OFF, "ROLLED_BACK"),
        (OFF, LAZY, "ROLLED_BACK"),
        (OFF, EAGER, "COMMITTED"),
        (EAGER, OFF, "COMMITTED"),
        (EAGER, None, "COMMITTED"),
    ],
)
async def test_who_commits_by_the_modes(colour, outer, inner, expected):
    if outer is None:
        async with colour.block(commit_mode=inner) as txn:
            txn.stage(1)
    else:
        async with colour.block(commit_mode=outer):
            async with colour.block(commit_mode=inner) as txn:
                txn.stage(1)
            assert txn.is_committed() == ((inner or outer) is EAGER)
    assert txn.state.name == expected


async def test_an_off_root_keeps_what_was_committed_in_it(colour):
    async with colour.block(commit_mode=OFF) as txn:
        txn.stage(1)
        assert await colour.do(txn, "commit") is True
    assert txn.is_committed()


async def test_only_an_off_transaction_that_was_staged_or_not_is_rolled_back(colour):
    async with colour.block(commit_mode=OFF) as txn:
        pass
    assert txn.is_rolled_back()


# ------------------------------------------------------------------------------------------- reset


async def test_the_parent_gets_its_children_in_the_order_in_which_they_end(colour):
    async with colour.block() as parent:
        async with colour.block(key="a") as first:
            assert parent.children == []
        async with colour.block(key="b") as second:
            pass
        assert [child is one for child, one in zip(parent.children, (first, second), strict=True)] == [True, True]
        assert get_transaction() is parent


async def test_a_rollback_climbs(colour):
    calls: list[str] = []
    async with colour.block() as root:
        root.stage(0, on_rollback_hooks=[note(calls, "root")])
        async with colour.block() as middle:
            middle.stage(0, on_rollback_hooks=[note(calls, "middle")])
            async with colour.block() as leaf:
                leaf.stage(0, on_rollback_hooks=[note(calls, "leaf")])
                assert await colour.do(leaf, "rollback") is True
            assert middle.is_rolled_back()
    assert calls == ["leaf", "middle", "root"]
    assert root.is_rolled_back()


async def test_the_parent_is_rolled_back_after_the_context_is_restored(colour):
    seen = []
    async with colour.block() as parent:
        parent.on_rollback_hooks.append(lambda txn: seen.append(get_transaction()))
        async with colour.block() as child:
            child.on_rollback_hooks.append(lambda txn: seen.append(get_transaction()))
            await colour.do(child, "rollback")
    assert [one is other for one, other in zip(seen, (child, parent), strict=True)] == [True, True]


async def test_the_parent_is_the_one_before_and_afterwards_the_active_one(colour):
    seen = []
    async with colour.block() as parent:
        assert parent.get_parent() is None
        async with colour.block() as child:
            assert child.get_parent() is parent
            child.stage(1, on_rollback_hooks=[lambda txn: seen.append(txn.get_parent())])
        assert child.get_parent() is parent
        await colour.do(parent, "rollback")
    assert seen[0] is parent
    assert child.get_parent() is None
    assert Transaction.get_active() is None


async def test_reset_runs_even_where_a_rollback_raises(colour):
    class Bad(Transaction):
        def rollback(self):
            raise TypeError("bad")

    with pytest.raises(TypeError, match="bad"):
        async with colour.block(Bad):
            raise ValueError("no")
    assert get_transaction() is None


# ------------------------------------------------------------------------------------------- stage


async def test_staging_keeps_the_value_and_adds_hooks(colour):
    calls: list[str] = []
    store = MemoryRecordStore()
    async with colour.block(store=store, key="k", on_commit_hooks=[note(calls, "first")]) as txn:
        txn.stage("one", on_commit_hooks=[note(calls, "second")])
        assert txn.is_staged()
        txn.stage("two", on_commit_hooks=[note(calls, "third")])
    assert calls == ["first", "second", "third"]
    assert store.read("k").result == "two"


# ------------------------------------------------------------------------------------------ commit


async def test_children_commit_first_then_own_hooks_then_the_write(colour):
    order: list[str] = []

    class Store(MemoryRecordStore):
        def write(self, key, result, holder=None):
            order.append(f"write {key}")
            super().write(key, result, holder)

    store = Store()
    async with colour.block(store=store, key="p") as parent:
        parent.stage(1, on_commit_hooks=[note(order, "p1"), note(order, "p2")])
        for name in ("a", "b"):
            async with colour.block(store=store, key=name) as child:
                child.stage(1, on_commit_hooks=[note(order, name)])
        assert order == []
    assert order == ["a", "write a", "b", "write b", "p1", "p2", "write p"]


async def test_a_commit_tells_whether_it_committed(colour):
    async with colour.block() as txn:
        assert await colour.do(txn, "commit") is True
        assert await colour.do(txn, "commit") is False
        assert await colour.do(txn, "rollback") is False
    async with colour.block() as txn:
        await colour.do(txn, "rollback")
        assert await colour.do(txn, "commit") is False
        assert await colour.do(txn, "rollback") is False


async def test_nothing_is_written_without_store_key_or_the_wish(colour):
    store = MemoryRecordStore()
    async with colour.block(store=store) as txn:
        txn.stage(1)
    async with colour.block(store=store, key="k", write_on_commit=False) as txn:
        txn.stage(1)
    assert txn.is_committed()
    assert not store.exists("k")
    assert await colour.do(Transaction(key="k"), "read") is None


@pytest.mark.parametrize(
    ("error", "text", "level"),
    [
        (
            SerializationError("odd"),
            (
                "Encountered an error while serializing result for transaction 'k': odd Code execution will continue, "
                "but the transaction will not be committed."
            ),
            "WARNING",
        ),
        (OSError("full"), "An error was encountered while committing transaction 'k'", "ERROR"),
    ],
)
async def test_a_write_that_fails_is_logged_and_rolls_back(colour, caplog, error, text, level):
    calls: list[str] = []
    store = NoLocks()
    store.error = error
    with caplog.at_level("INFO", "callsheet.transactions"):
        async with colour.block(store=store, key="k") as txn:
            txn.stage(1, on_commit_hooks=[note(calls, "commit")], on_rollback_hooks=[note(calls, "rollback")])
    assert (txn.state, calls) == (TransactionState.ROLLED_BACK, ["commit", "rollback"])
    records = [record for record in caplog.records if record.getMessage() == text]
    assert [record.levelname for record in records] == [level]
    assert bool(records[0].exc_info) == (level == "ERROR")


async def test_a_failed_commit_gives_false(colour):
    async with colour.block(on_commit_hooks=[failing]) as txn:
        assert await colour.do(txn, "commit") is False
        assert txn.is_rolled_back()


async def test_a_child_that_fails_in_its_own_commit_does_not_stop_the_parent(colour):
    async with colour.block() as parent, colour.block(on_commit_hooks=[failing]) as child:
        child.stage(1)
    assert (parent.state.name, child.state.name) == ("COMMITTED", "ROLLED_BACK")


async def test_a_child_whose_commit_raises_rolls_the_parent_back(colour):
    class Bad(Transaction):
        def commit(self):
            raise ValueError("bad")

    async with colour.block() as parent:
        async with colour.block() as good:
            pass
        async with colour.block(Bad) as bad:
            pass
    assert (parent.state.name, good.state.name, bad.state.name) == ("ROLLED_BACK", "COMMITTED", "ROLLED_BACK")


async def test_a_root_whose_commit_raises_is_rolled_back_and_the_error_goes_on(colour):
    class Bad(Transaction):
        def commit(self):
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        async with colour.block(Bad) as txn:
            pass
    assert txn.is_rolled_back()
    assert get_transaction() is None


async def test_an_interrupted_commit_rolls_back_and_goes_on(colour):
    def interrupt(txn):
        raise KeyboardInterrupt

    store = MemoryRecordStore()
    with pytest.raises(KeyboardInterrupt):
        async with colour.block(store=store, key="k", isolation_level=SERIALIZABLE) as txn:
            txn.stage(1, on_commit_hooks=[interrupt])
    assert txn.is_rolled_back()
    assert get_transaction() is None
    assert not store.is_locked("k")
    assert not store.exists("k")


# ---------------------------------------------------------------------------------------- rollback


async def test_own_hooks_run_last_to_first_before_the_children_last_to_first(colour):
    calls: list[str] = []
    with pytest.raises(ValueError, match="no"):
        async with colour.block() as parent:
            parent.stage(1, on_rollback_hooks=[note(calls, "p1"), note(calls, "p2")])
            for name in ("c0", "c1"):
                async with colour.block() as child:
                    child.stage(1, on_rollback_hooks=[note(calls, name)])
            raise ValueError("no")
    assert calls == ["p2", "p1", "c1", "c0"]


async def test_a_child_that_committed_is_not_undone(colour):
    with pytest.raises(ValueError, match="no"):
        async with colour.block() as parent:
            async with colour.block(commit_mode=EAGER) as child:
                child.stage(1, on_rollback_hooks=[failing])
            raise ValueError("no")
    assert (parent.state.name, child.state.name) == ("ROLLED_BACK", "COMMITTED")


async def test_an_error_of_an_own_hook_leaves_it_as_it_was_and_the_children_alone(colour, caplog):
    store = MemoryRecordStore()
    async with colour.block(store=store, key="k", isolation_level=SERIALIZABLE, commit_mode=OFF) as parent:
        async with colour.block() as child:
            child.stage(1)
        parent.stage(1, on_rollback_hooks=[failing])
        with caplog.at_level("ERROR", "callsheet.transactions"):
            assert await colour.do(parent, "rollback") is False
        assert parent.is_staged()
        assert child.is_staged()
        assert not store.is_locked("k")
    assert "An error was encountered while rolling back transaction 'k'" in caplog.messages


async def test_a_child_whose_rollback_raises_makes_it_false(colour, caplog):
    class Bad(Transaction):
        def rollback(self):
            raise ValueError("bad")

    async with colour.block() as parent:
        async with colour.block(Bad, commit_mode=LAZY):
            pass
        assert await colour.do(parent, "rollback") is False
        assert parent.is_rolled_back()
    assert "An error was encountered while rolling back transaction None" in caplog.messages


async def test_a_hook_that_rolls_back_once_more_changes_nothing(colour):
    calls = []

    def again(txn):
        calls.append(txn.rollback())

    async with colour.block(commit_mode=OFF) as txn:
        txn.stage(1, on_rollback_hooks=[again])
    assert calls == [False]
    assert txn.is_rolled_back()


# ------------------------------------------------------------------------------------------- hooks


async def test_hooks_get_the_transaction_and_are_logged(colour, caplog):
    got = []

    def told(txn):
        got.append(txn)

    class Callable_:
        def __call__(self, txn):
            got.append(txn)

    def silent(txn):
        got.append(txn)

    silent.log_on_run = False
    with caplog.at_level("INFO", "callsheet.transactions"):
        async with colour.block() as txn:
            txn.stage(1, on_commit_hooks=[told, functools.partial(told), Callable_(), silent])
        async with colour.block(commit_mode=OFF) as other:
            other.stage(1, on_rollback_hooks=[told])
    assert [one is txn for one in got] == [True] * 4 + [False]
    assert [record.getMessage() for record in caplog.records] == [
        "Running commit hook 'told'",
        "Commit hook 'told' finished running successfully",
        "Running commit hook 'told'",
        "Commit hook 'told' finished running successfully",
        "Running commit hook 'Callable_'",
        "Commit hook 'Callable_' finished running successfully",
        "Running rollback hook 'told'",
        "Rollback hook 'told' finished running successfully",
    ]
    assert {record.levelname for record in caplog.records} == {"INFO"}


@pytest.mark.parametrize("kind", ["commit", "rollback"])
async def test_a_hook_that_fails_is_logged_and_the_rest_do_not_run(colour, caplog, kind):
    calls: list[str] = []
    hooks = [failing, note(calls, "never")] if kind == "commit" else [note(calls, "never"), failing]
    with caplog.at_level("INFO", "callsheet.transactions"):
        async with colour.block(commit_mode=LAZY if kind == "commit" else OFF) as txn:
            txn.stage(1, **{f"on_{kind}_hooks": hooks})
    assert not calls
    assert f"An error was encountered while running {kind} hook 'failing'" in caplog.messages
    assert f"{kind.capitalize()} hook 'failing' finished running successfully" not in caplog.messages
    assert txn.state.name == ("ROLLED_BACK" if kind == "commit" else "STAGED")


async def test_coroutine_functions_are_awaited_as_hooks(colour):
    calls: list[str] = []

    async def hook(txn):
        await anyio.sleep(0)
        calls.append(txn.key)

    async with colour.block(key="c") as txn:
        txn.stage(1, on_commit_hooks=[hook])
    async with colour.block(key="r", commit_mode=OFF) as txn:
        txn.stage(1, on_rollback_hooks=[hook])
    assert calls == ["c", "r"]


# ------------------------------------------------------------------------------------- read and values


async def test_reading_a_record_store_gives_the_value(colour):
    store = MemoryRecordStore()
    async with colour.block(store=store, key="k") as txn:
        assert await colour.do(txn, "read") is None
        txn.stage({"a": 1})
    assert await colour.do(txn, "read") == {"a": 1}


async def test_values_are_kept_themselves_and_given_as_copies(colour):
    value = [1, 2]
    async with colour.block() as txn:
        txn.set("v", value)
        value.append(3)
        assert txn.get("v") == [1, 2, 3]
        txn.get("v").append(4)
        assert txn.get("v") == [1, 2, 3]
        assert value == [1, 2, 3]


async def test_values_come_from_the_parents_also_when_set_later(colour):
    async with colour.block() as parent, colour.block() as child:
        parent.set("v", [1])
        child.get("v").append(2)
        assert child.get("v") == [1]
        child.set("v", "own")
        assert (child.get("v"), parent.get("v")) == ("own", [1])
        parent.set("none", None)
        assert child.get("none") is None


async def test_an_unknown_value_is_an_error_or_the_default(colour):
    default: list[int] = []
    async with colour.block() as txn, colour.block() as child:
        for one in (txn, child):
            with pytest.raises(ValueError, match="Could not retrieve value for unknown key: v"):
                one.get("v")
            assert one.get("v", default) is default
            assert one.get("v", None) is None


# -------------------------------------------------------------------------------------- transaction()


def test_transaction_gives_a_block_for_with():
    with transaction(key="k", store=MemoryRecordStore(), commit_mode=OFF, overwrite=True, write_on_commit=False) as txn:
        assert isinstance(txn, Transaction)
        assert (txn.key, txn.commit_mode, txn.overwrite, txn.write_on_commit) == ("k", OFF, True, False)
        assert txn.isolation_level is IsolationLevel.READ_COMMITTED
        with transaction() as child:
            assert child.commit_mode is OFF


def test_transaction_inherits_the_isolation():
    with transaction(isolation_level=SERIALIZABLE), transaction() as child:
        assert child.isolation_level is SERIALIZABLE


async def test_transaction_gives_a_block_for_async_with():
    store = MemoryRecordStore()
    async with transaction(key="k", store=store) as txn:
        assert get_transaction() is txn
        txn.stage(1)
    assert store.read("k").result == 1


def test_a_block_can_be_entered_again_and_decorates_functions():
    block = transaction()
    with block as first, block as second:
        assert second.get_parent() is first

    @transaction(commit_mode=EAGER)
    def work(x):
        return get_transaction().commit_mode, x

    assert work(1) == (EAGER, 1)
    assert get_transaction() is None


async def test_a_block_decorates_coroutine_functions():
    @transaction()
    async def work() -> Transaction | None:
        return get_transaction()

    assert (await work()).is_committed()


def test_in_a_run_the_run_logger_is_used():
    @flow
    def f():
        with transaction() as txn:
            return txn.logger.name

    assert f() == "callsheet.flow_runs"


def test_the_awaited_form_needs_a_loop():
    coroutine = Transaction().acommit()
    with pytest.raises(RuntimeError, match="awaited on asyncio or trio"):
        coroutine.send(None)
