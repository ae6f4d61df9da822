"""The steps of a transaction, each written once, as a coroutine over a port: ``with`` blocks, ``async with`` awaits.

A step that a subclass replaces, in either colour, is used as it is, by its own transaction and by its parent.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from contextvars import Token
from typing import Any, Final, Self, TypeVar, cast

from callsheet._kernel.critical import critical
from callsheet._kernel.host import current_host
from callsheet._kernel.ports import LoopPort, Port, apart, step, sync_port
from callsheet._kernel.threads import start_thread
from callsheet._model.kept import Kept
from callsheet._model.transactions import CommitMode, IsolationLevel, TransactionState
from callsheet._transactions.hooks import run_hooks
from callsheet.context import ContextModel, current_run
from callsheet.exceptions import ConfigurationError, LockLost, SerializationError
from callsheet.locking.holders import generate_default_holder
from callsheet.records.base import RecordStore

T = TypeVar("T")
_ENDED = frozenset({TransactionState.COMMITTED, TransactionState.ROLLED_BACK})


class Steps(ContextModel):
    """What happens to a transaction, in both colours. Users see `callsheet.transactions.Transaction`."""

    store: Any
    key: str | None
    children: list[Any]
    commit_mode: CommitMode | None
    isolation_level: IsolationLevel | None
    state: TransactionState
    on_commit_hooks: list[Callable[..., Any]]
    on_rollback_hooks: list[Callable[..., Any]]
    overwrite: bool
    logger: Any
    write_on_commit: bool

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._staged: Any = None
        self.holder: str | None = None  # of the lock, while it is held for this transaction
        self._releases = False  # whether it was taken by this transaction, and not by one around
        self._rolling_back = False
        self.climbs = True  # a rollback, to the transaction around
        self.entered_by: Any = None  # whose body entered it

    @classmethod
    def get_active(cls) -> Self | None:
        """Give the innermost transaction whose block is running, or `None`.

        The body of a task run is such a block too. Where nothing else asked for it, its transaction is made here.
        """
        entered, run = cls.__var__.get(), current_run.get()
        while run is not None:
            if entered is not None and entered.entered_by is run:
                return entered
            own = run.own_transaction()
            if own is not None and own._token is not None:  # else it is being left, and the one around is active
                return own
            parent = run.cell.parent
            run = None if parent is None else parent.actor
        return entered

    def get_parent(self) -> Self | None:
        """Give the transaction around: inside its block the one before it, afterwards the one active now."""
        if self._token is None:
            return self.get_active()
        before = self._token.old_value
        return None if before is Token.MISSING else before

    def add_child(self, transaction: Self) -> None:
        """Take over a transaction: it is committed and rolled back with this one."""
        self.children.append(transaction)

    # ------------------------------------------------------------------------------------- blocking

    def __enter__(self) -> Self:
        self._blocking(self.enter)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._blocking(self.leave, exc_info[1] if exc_info else None)

    def begin(self) -> None:
        """Take the lock where the isolation asks for it, and look whether the record is there already."""
        self._blocking(self._begin)

    def commit(self) -> bool:
        """Commit the children, call the commit hooks, write what was staged. Errors are logged and roll back.

        Returns:
            Whether this call committed it.
        """
        return self._blocking(self._commit)

    def rollback(self) -> bool:
        """Call the rollback hooks, last to first, then roll back the children, last to first. Errors are logged.

        Returns:
            Whether this call rolled it back: not if it was committed, or a hook failed.
        """
        return self._blocking(self._rollback)

    def reset(self) -> None:
        """Hand this transaction to its parent, make that the active one, and roll it back if this one was."""
        self._blocking(self._reset)

    def read(self) -> Any:
        """Give the record that is committed under the key (of a plain record store: its value), or `None`."""
        return self._blocking(self._read)

    # -------------------------------------------------------------------------------------- awaited

    async def __aenter__(self) -> Self:
        await self.enter(_loop_port())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        error = cast("BaseException | None", exc_info[1] if exc_info else None)
        if isinstance(error, GeneratorExit):  # nothing can be awaited any more
            self.__exit__(*exc_info)
        else:
            await self.leave(_loop_port(), error)

    async def abegin(self) -> None:
        """Do what `begin` does without blocking the event loop."""
        await self._begin(_loop_port())

    async def acommit(self) -> bool:
        """Do what `commit` does without blocking the event loop.

        Returns:
            Whether this call committed it.
        """
        return await self._commit(_loop_port())

    async def arollback(self) -> bool:
        """Do what `rollback` does without blocking the event loop.

        Returns:
            Whether this call rolled it back.
        """
        return await self._rollback(_loop_port())

    async def areset(self) -> None:
        """Do what `reset` does without blocking the event loop."""
        await self._reset(_loop_port())

    async def aread(self) -> Any:
        """Give what `read` gives without blocking the event loop."""
        return await self._read(_loop_port())

    # ----------------------------------------------------------------------------------------- once

    async def enter(self, port: Port) -> None:
        """Begin, and become the active transaction; for code that lives on a port.

        Raises:
            RuntimeError: It was entered already.
            ConfigurationError: The store cannot give the isolation that is asked for.
        """
        if self._token is not None:
            raise RuntimeError("Context already entered. Context enter calls cannot be nested.")
        parent = self.get_active()
        if self.commit_mode is None:
            self.commit_mode = CommitMode.LAZY if parent is None else parent.commit_mode
        if self.isolation_level is None:
            self.isolation_level = IsolationLevel.READ_COMMITTED if parent is None else parent.isolation_level
        if self._has_record() and not self.store.supports_isolation_level(self.isolation_level):
            level = cast("IsolationLevel", self.isolation_level).name
            raise ConfigurationError(
                f"Isolation level {level} is not supported by provided configuration. Please ensure you've provided "
                "a lock file directory or lock manager when using the SERIALIZABLE isolation level."
            )
        self.state = TransactionState.ACTIVE
        try:
            await self.do("begin", port)
        except BaseException:
            await self._unlock(port)
            raise
        self._token = self.__var__.set(self)
        self.entered_by = current_run.get()

    async def leave(self, port: Port, error: BaseException | None) -> None:
        """Commit or roll back as the mode says, and make the parent the active one; for code that lives on a port.

        Args:
            port: Where that code lives.
            error: What the block raised, if it did. It is not raised here.

        Raises:
            RuntimeError: It was not entered.
        """
        if self._token is None:
            raise RuntimeError("Asymmetric use of context. Context exit called without an enter.")
        try:
            if error is not None:
                await self.do("rollback", port)
            else:
                await self._settle(port)
        except BaseException:
            if error is None:  # a commit that raises, or an interruption of one
                await self.do("rollback", port)
            raise
        finally:
            await self.do("reset", port)

    async def _settle(self, port: Port) -> None:
        if self.commit_mode is CommitMode.EAGER:
            await self.do("commit", port)
        parent = self.get_parent()
        # One that outlives the block of its parent ends as that did; otherwise the parent answers for it.
        ended = parent.state if parent is not None and parent._token is None else None
        if ended is TransactionState.ROLLED_BACK:
            await self.do("rollback", port)
        elif parent is None or ended is TransactionState.COMMITTED:
            if self.commit_mode is CommitMode.OFF:
                await self.do("rollback", port)
            elif self.commit_mode is CommitMode.LAZY:
                await self.do("commit", port)

    async def _begin(self, port: Port) -> None:
        if self._has_record() and self.isolation_level is IsolationLevel.SERIALIZABLE:
            await self._lock(port)
        if self._has_record() and not self.overwrite and await self._ask(port, "exists", self.key):
            # One of ours is read as well: a record that cannot be is as good as none, and the commit replaces it.
            read: Any = getattr(cast("type[Any]", type(self.store)), "usable_by", None)
            if read is None or await read(self.store, _way(port), self.key):
                self.state = TransactionState.COMMITTED

    async def _commit(self, port: Port) -> bool:
        if self.state in _ENDED:
            await self._unlock(port)
            return False
        try:
            for child in tuple(self.children):
                await child.do("commit", port)
            await run_hooks("commit", self.on_commit_hooks, self, port, sheltered=False)
            if self.write_on_commit and self._has_record():
                await self._write(port)
            self.state = TransactionState.COMMITTED
        except SerializationError as error:
            self.logger.warning(
                "Encountered an error while serializing result for transaction %r: %s Code execution will continue, "
                "but the transaction will not be committed.",
                self.key,
                error,
            )
        except Exception:
            self.logger.exception("An error was encountered while committing transaction %r", self.key)
        except BaseException:
            await self.do("rollback", port)
            raise
        if self.state is TransactionState.COMMITTED:
            await self._unlock(port)
            return True
        await self.do("rollback", port)
        return False

    async def _rollback(self, port: Port) -> bool:
        if self.state in _ENDED:
            await self._unlock(port)
            return False
        if self._rolling_back:  # asked for by one of its own hooks
            return False
        self._rolling_back = True
        try:
            await run_hooks("rollback", reversed(self.on_rollback_hooks), self, port, sheltered=True)
            self.state = TransactionState.ROLLED_BACK
            for child in reversed(self.children):
                await child.do("rollback", port)
            return True
        except Exception:
            self.logger.exception("An error was encountered while rolling back transaction %r", self.key)
            return False
        finally:
            self._rolling_back = False
            await self._unlock(port)

    async def _reset(self, port: Port) -> None:
        parent = self.get_parent()
        if parent is not None:
            parent.add_child(self)
        token, self._token = self._token, None
        if token is not None:
            try:
                self.__var__.reset(token)
            except ValueError:
                pass  # left in another context than it was entered in: that one has nothing of it
        if parent is not None and self.climbs and self.state is TransactionState.ROLLED_BACK:
            await parent.do("rollback", port)

    async def _read(self, port: Port) -> Any:
        if not self._has_record():
            return None
        record = await self._ask(port, "read", self.key, holder=self.holder or self._default_holder())
        return getattr(record, "result", None) if isinstance(self.store, RecordStore) else record

    # --------------------------------------------------------------------------------------- helpers

    def _blocking(self, core: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        with critical:
            return step(core(sync_port(), *args))

    async def do(self, name: str, port: Port) -> Any:
        """Do one of the public steps in the way of the port, also where a subclass has replaced it."""
        method, twin = getattr(self, name), getattr(self, f"a{name}")
        if port.host is None:
            if getattr(method, "__func__", None) is not _REPLACEABLE[name]:
                return critical.lift(method)
        elif getattr(twin, "__func__", None) is not _REPLACEABLE[f"a{name}"]:
            return await twin()
        elif getattr(method, "__func__", None) is not _REPLACEABLE[name]:
            return await port.call(method)
        return await getattr(self, f"_{name}")(port)

    async def _ask(self, port: Port, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the store in the way of the port; one without a twin for the loop is called on a thread."""
        if port.host is None:
            return critical.lift(getattr(self.store, name), *args, **kwargs)
        twin = getattr(self.store, f"a{name}", None)
        if twin is not None:
            return await twin(*args, **kwargs)
        method = getattr(self.store, name)
        return await apart(
            lambda: method(*args, **kwargs), port, lambda job: start_thread(job, "callsheet-transaction")
        )

    def _default_holder(self) -> str:
        return getattr(self.store, "generate_default_holder", generate_default_holder)()

    def _has_record(self) -> bool:
        return self.store is not None and bool(self.key)

    async def _write(self, port: Port) -> None:
        holder, key = self.holder or self._default_holder(), self.key
        if self.holder is not None and not await self._ask(port, "is_lock_holder", key, holder=holder):
            raise LockLost(f"The lock of transaction {key!r} was taken over by another holder: nothing was written.")
        if isinstance(self.store, RecordStore):
            await self._ask(port, "write", key, self._staged, holder=holder)
        elif isinstance(self._staged, Kept):
            await self._ask(port, "persist_result_record", self._staged, holder=holder)
        else:
            await self._ask(port, "write", self._staged, key=key, holder=holder)

    async def _lock(self, port: Port) -> None:
        holder = self._default_holder()
        around = self.get_parent()
        while around is not None:
            if around.key == self.key and around.holder == holder:
                self.holder = holder
                return  # it is held for this very code already, and must stay held when this block ends
            before = around.get_parent()
            around = None if before is around else before
        self.logger.debug("Acquiring lock for transaction %r", self.key)
        await self._ask(port, "acquire_lock", self.key, holder=holder)
        self.holder, self._releases = holder, True

    async def _unlock(self, port: Port) -> None:
        holder, self.holder = self.holder, None
        if holder is None or not self._releases:
            return
        self.logger.debug("Releasing lock for transaction %r", self.key)
        try:
            with nullcontext() if port.host is None else _shield():
                await self._ask(port, "release_lock", self.key, holder=holder)
        except ValueError as error:
            self.logger.warning("The lock of transaction %r was lost meanwhile: %s", self.key, error)


_REPLACEABLE: Final = {
    name: vars(Steps)[name]
    for name in ("begin", "commit", "rollback", "reset", "abegin", "acommit", "arollback", "areset")
}


def _way(port: Port) -> Any:
    from callsheet._results.ways import along

    return along(port)


def _loop_port() -> LoopPort:
    host = current_host()
    if host is None:
        raise RuntimeError("This is awaited on asyncio or trio. In sync code use `with`, and methods without the `a`.")
    return LoopPort(host)


def _shield() -> AbstractContextManager[Any]:
    from anyio import CancelScope

    return CancelScope(shield=True)
