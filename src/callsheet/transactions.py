"""Transactions: blocks of work that are committed together, or undone together.

::

    enter ── begin ──► ACTIVE ── stage ──► STAGED ── commit ──► COMMITTED
                          │                   └── rollback ──► ROLLED_BACK, and then the parent's rollback
                          └ a record for the key is there already: COMMITTED at once
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ClassVar, TypeVar, cast

from callsheet._model.transactions import CommitMode, IsolationLevel, TransactionState
from callsheet._transactions.steps import Steps
from callsheet._unset import NotSet
from callsheet.context import current_transaction
from callsheet.exceptions import MissingContextError, NestedTooDeeply
from callsheet.logging.loggers import get_logger, get_run_logger

__all__ = [
    "CommitMode",
    "IsolationLevel",
    "Transaction",
    "TransactionState",
    "get_transaction",
    "transaction",
]

F = TypeVar("F", bound=Callable[..., Any])
Hook = Callable[["Transaction"], Any]
_FIELDS = (
    "store",
    "key",
    "children",
    "commit_mode",
    "isolation_level",
    "state",
    "on_commit_hooks",
    "on_rollback_hooks",
    "overwrite",
    "logger",
    "write_on_commit",
)


class Transaction(Steps):
    """A block of work that is committed or rolled back as a whole. Made by `transaction`; equal by its fields.

    Attributes:
        store: Where the record is: a result store or a record store; `None` keeps none.
        key: Name of the record; `None` keeps none.
        children: Transactions that ended inside this one and are left to it, in the order in which they ended.
        commit_mode: When it commits; `None` until entered means "as the parent".
        isolation_level: What others may do meanwhile; `None` until entered means "as the parent".
        state: How far it has come.
        on_commit_hooks: Called with the transaction before it is committed, first to last.
        on_rollback_hooks: Called with the transaction when it is rolled back, last to first.
        overwrite: Whether a record that is there already is ignored and replaced.
        logger: Where it says what it does.
        write_on_commit: Whether the commit writes what was staged.

    Example:
        >>> with Transaction(key="report") as txn:
        ...     txn.stage("done", on_commit_hooks=[lambda txn: print("committing", txn.key)])
        committing report
        >>> txn.is_committed()
        True
    """

    __var__: ClassVar[ContextVar[Any]] = current_transaction
    __hash__ = None  # type: ignore[assignment]  # it is mutable, and equal by its fields

    def __init__(
        self,
        *,
        store: Any = None,
        key: str | None = None,
        children: Iterable[Transaction] = (),
        commit_mode: CommitMode | None = None,
        isolation_level: IsolationLevel | None = IsolationLevel.READ_COMMITTED,
        state: TransactionState = TransactionState.PENDING,
        on_commit_hooks: Iterable[Hook] = (),
        on_rollback_hooks: Iterable[Hook] = (),
        overwrite: bool = False,
        logger: Any = None,
        write_on_commit: bool = True,
    ) -> None:
        super().__init__(
            store=store,
            key=key,
            children=list(children),
            commit_mode=None if commit_mode is None else CommitMode(commit_mode),
            isolation_level=None if isolation_level is None else IsolationLevel(isolation_level),
            state=TransactionState(state),
            on_commit_hooks=list(on_commit_hooks),
            on_rollback_hooks=list(on_rollback_hooks),
            overwrite=overwrite,
            logger=logger or get_logger("transactions"),
            write_on_commit=write_on_commit,
        )
        self._values: dict[str, Any] = {}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _FIELDS)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key={self.key!r}, state={self.state.name}, commit_mode={self.commit_mode})"

    # ------------------------------------------------------------------------------------- state

    def is_pending(self) -> bool:
        """Tell whether it has not been entered."""
        return self.state is TransactionState.PENDING

    def is_active(self) -> bool:
        """Tell whether it has been entered and nothing was staged yet."""
        return self.state is TransactionState.ACTIVE

    def is_staged(self) -> bool:
        """Tell whether a value was staged and neither committed nor rolled back."""
        return self.state is TransactionState.STAGED

    def is_committed(self) -> bool:
        """Tell whether it has been committed, or found its record committed when it was entered."""
        return self.state is TransactionState.COMMITTED

    def is_rolled_back(self) -> bool:
        """Tell whether it has been rolled back."""
        return self.state is TransactionState.ROLLED_BACK

    # --------------------------------------------------------------------------------------- values

    def set(self, name: str, value: Any) -> None:
        """Keep a value for later in the transaction, for its children and its hooks.

        Args:
            name: Its name.
            value: The value; the object itself is kept.

        Example:
            >>> with transaction() as txn:
            ...     txn.set("key", "value")
            ...     txn.get("key")
            'value'
        """
        self._values[name] = value

    def get(  # pyright: ignore[reportIncompatibleMethodOverride]  # the reference's name and signature
        self, name: str, default: Any = NotSet
    ) -> Any:
        """Give a copy of a value that was set here or, if it was not, in a transaction around.

        Args:
            name: Its name.
            default: What to give where none was set; `None` counts as one.

        Returns:
            A deep copy: changing it changes nothing that was set.

        Raises:
            ValueError: No value was set under that name, and there is no default.
            NestedTooDeeply: The value cannot be copied.

        Example:
            >>> with transaction() as parent:
            ...     parent.set("items", [1, 2])
            ...     with transaction() as child:
            ...         child.get("items").append(3)
            ...         child.get("items"), child.get("other", None)
            ([1, 2], None)
        """
        try:
            value = copy.deepcopy(self._values.get(name, NotSet))
        except RecursionError:
            raise NestedTooDeeply(f"The value that was set as {name!r} has too many levels to be copied.") from None
        if value is not NotSet:
            return value
        parent = self.get_parent()
        if parent is not None and parent is not self:
            return parent.get(name, default)
        if default is NotSet:
            raise ValueError(f"Could not retrieve value for unknown key: {name}")
        return default

    def stage(
        self, value: Any, on_rollback_hooks: Iterable[Hook] | None = None, on_commit_hooks: Iterable[Hook] | None = None
    ) -> None:
        """Keep a value to be written by the commit. Does nothing once the transaction is committed.

        Args:
            value: The value, or a `ResultRecord`, which is then written as it is.
            on_rollback_hooks: Hooks to add.
            on_commit_hooks: Hooks to add.
        """
        if self.is_committed():
            return
        self._staged = value
        self.on_rollback_hooks += on_rollback_hooks or ()
        self.on_commit_hooks += on_commit_hooks or ()
        self.state = TransactionState.STAGED


def get_transaction() -> Transaction | None:
    """Give the innermost transaction whose block is running, or `None`.

    Example:
        >>> with transaction() as txn:
        ...     get_transaction() is txn
        True
        >>> get_transaction() is None
        True
    """
    return Transaction.get_active()


def transaction(
    key: str | None = None,
    store: Any = None,
    commit_mode: CommitMode | None = None,
    isolation_level: IsolationLevel | None = None,
    overwrite: bool = False,
    write_on_commit: bool = True,
    logger: Any = None,
) -> TransactionBlock:
    """Open a transaction, with ``with`` or ``async with``.

    When the block ends, what was staged in it is committed, as `commit_mode` says; when it raises, everything that
    was not committed is rolled back, and the error goes on.

    Args:
        key: Name of the record that the commit writes. Without one nothing is written.
        store: Where the record is; by default, if there is a key, the current result store.
        commit_mode: When it commits; by default as the transaction around, and lazily without one.
        isolation_level: What others may do meanwhile; by default as the transaction around, else `READ_COMMITTED`.
        overwrite: Whether a record that is there already is ignored and replaced.
        write_on_commit: Whether the commit writes what was staged.
        logger: Where it says what it does; by default the logger of the current run.

    Returns:
        A block that gives the `Transaction` when it is entered.

    Example:
        >>> with transaction() as txn:
        ...     txn.stage("half-done", on_rollback_hooks=[lambda txn: print("undoing")])
        ...     raise ValueError("no")
        Traceback (most recent call last):
        ...
        ValueError: no
    """
    return TransactionBlock(
        key=key,
        store=store,
        commit_mode=commit_mode,
        isolation_level=isolation_level,
        overwrite=overwrite,
        write_on_commit=write_on_commit,
        logger=logger,
    )


class TransactionBlock:
    """What `transaction` gives: makes a `Transaction` when it is entered. It also decorates functions."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields
        self._entered: list[Transaction] = []

    def __enter__(self) -> Transaction:
        made = self._make().__enter__()
        self._entered.append(made)
        return made

    def __exit__(self, *exc_info: object) -> None:
        self._entered.pop().__exit__(*exc_info)

    async def __aenter__(self) -> Transaction:
        made = await self._make().__aenter__()
        self._entered.append(made)
        return made

    async def __aexit__(self, *exc_info: object) -> None:
        await self._entered.pop().__aexit__(*exc_info)

    def __call__(self, fn: F) -> F:
        """Decorate a function: each call of it is such a block.

        Returns:
            A function of the same colour.
        """

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            async with self._make():
                return await fn(*args, **kwargs)

        def called(*args: Any, **kwargs: Any) -> Any:
            with self._make():
                return fn(*args, **kwargs)

        return cast("F", wraps(fn)(awaited if iscoroutinefunction(fn) else called))

    def _make(self) -> Transaction:
        fields = dict(self._fields)
        if fields["key"] and fields["store"] is None:
            from callsheet.results import get_result_store

            fields["store"] = get_result_store()
        if getattr(fields["store"], "metadata_storage", None) is not None:
            fields["store"] = _with_metadata(fields["store"])
        if fields["logger"] is None:
            try:
                fields["logger"] = get_run_logger()
            except MissingContextError:
                pass
        return Transaction(**fields)


def _with_metadata(store: Any) -> Any:
    """Give a result store that keeps metadata with the results where a flow's own keeps none."""
    from callsheet.filesystems import NullFileSystem

    if isinstance(store.metadata_storage, NullFileSystem):
        return store.model_copy(update={"metadata_storage": None})
    return store
