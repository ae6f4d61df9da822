"""What runs keep: the records of their results, the keys of the cache, and the transactions around tasks' bodies.

A task run with a result to keep, with hooks for commit or rollback, or with a transaction around it runs its body in
a transaction of its own (`body`). For every other task run there is none, unless its body asks for it (`lazily`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from callsheet._clock import utc_now
from callsheet._engine.bodies import used_up
from callsheet._engine.keys import cache_key
from callsheet._kernel.ports import step, sync_port
from callsheet._kernel.scopes import DEADLINE
from callsheet._model.kinds import StateType
from callsheet._model.transactions import IsolationLevel, TransactionState
from callsheet._results.keeping import keep as write
from callsheet._results.ways import along
from callsheet.context import current_transaction
from callsheet.exceptions import MissingResult, ResultNotFound, SerializationError, StorageError
from callsheet.results import DEFAULT_STORAGE_KEY_FN, ResultRecord, ResultStore
from callsheet.settings import get_current_settings
from callsheet.transactions import Transaction

if TYPE_CHECKING:
    from callsheet._engine.actor import Actor
    from callsheet._engine.leaving import Final as Ending
    from callsheet._engine.task_run import TaskRunActor
    from callsheet._kernel.ports import Port

_S: Final = StateType
_UNUSABLE: Final = (MissingResult, SerializationError, StorageError)


# ------------------------------------------------------------------------------------------------ stores


def store_of(run: Actor) -> ResultStore:
    """Give the result store of a run: its parent's, with what its own definition says."""
    parent = None if run.cell.parent is None else run.cell.parent.actor
    around = ResultStore() if parent is None else parent.result_store
    definition = run.definition
    if run.is_flow:
        return step(around.aupdate_for_flow(definition))
    if parent is None or Transaction.get_active() is not None:  # whose lock manager counts too
        return step(around.aupdate_for_task(definition))
    known = parent.stores
    found = known.get(id(definition))
    if found is None or found[0] is not definition:
        found = known[id(definition)] = (definition, step(around.aupdate_for_task(definition)))
    return found[1]


# -------------------------------------------------------------------------------------- a task's transaction


async def body(run: TaskRunActor, port: Port) -> Any:
    """Call a task's body in a transaction, or take its record from the cache.

    Returns:
        What the body returned, or the value of the record.
    """
    key = await cache_key(run, port) if run.persists else None
    alone = _isolation(run) is IsolationLevel.SERIALIZABLE
    if key is not None and not alone and not _refreshes(run):
        # Found without a transaction: what is committed can be read by everybody, and would leave it nothing to do.
        record = await _read(run, port, key, None)
        if record is not None:
            return _take(run, record)
    transaction = await open_transaction(run, port, key)
    try:
        look = alone and key is not None and not _refreshes(run)  # whoever had the lock may have made it
        try:
            record = await _look(run, port, key or "", transaction.holder) if look else None
            value = used_up(await run.call_body(port)) if record is None else _take(run, record)
            final = run.conclude(value)
        except BaseException as error:
            await give_up(run, port, transaction, error)
            raise
        if record is None:
            await settle(run, port, transaction, final)
        else:
            transaction.state = TransactionState.COMMITTED
            await transaction.leave(port, None)
        return value
    finally:
        run.transaction = None


async def open_transaction(run: TaskRunActor, port: Port, key: str | None) -> Transaction:
    """Enter the transaction of an attempt, which takes the lock where that is asked for.

    Args:
        run: The run.
        port: Where it lives.
        key: Under which others look for its result, if they do.
    """
    store, isolation = None, None
    if run.persists:
        store = run.result_store
        isolation = _isolation(run)
        if key is None:  # nobody else looks for it: it is the run's own
            key, isolation = DEFAULT_STORAGE_KEY_FN(), IsolationLevel.READ_COMMITTED
    made = Transaction(
        store=store,
        key=key,
        isolation_level=isolation,
        overwrite=True,  # whoever looks for a record does so without the transaction, and reads it only once
        write_on_commit=run.persists,
        logger=_LoggerOf(run),
    )
    parent = Transaction.get_active()
    if parent is not current_transaction.get():  # it was made in another context
        current_transaction.set(parent)
    await made.enter(port)
    run.transaction, run.around = made, None
    return made


def _isolation(run: TaskRunActor) -> IsolationLevel | None:
    """Give how a run's transaction is isolated: as its policy says, else the transaction around it."""
    level = getattr(run.definition.cache_policy, "isolation_level", None)
    if level is not None:
        return IsolationLevel(level)
    around = Transaction.get_active()
    return None if around is None else around.isolation_level


async def _look(run: TaskRunActor, port: Port, key: str, holder: str | None) -> ResultRecord[Any] | None:
    """Give what `_read` gives, as it is in the storage now: one in memory may have been replaced by another process."""
    store: ResultStore = run.result_store
    if store.remembered(key) is not None and not await store.exists_by(along(port), key):
        return None
    return await _read(run, port, key, holder)


async def _read(run: TaskRunActor, port: Port, key: str, holder: str | None) -> ResultRecord[Any] | None:
    """Give the record under a key, or `None` where there is none that can be used."""
    store: ResultStore = run.result_store
    try:
        record = store.remembered(key) or await store.read_by(along(port), key, holder)
    except ResultNotFound:
        return None
    except _UNUSABLE as error:
        run.logger().warning("The recorded result of key %r cannot be used, the task runs: %s", key, error)
        return None
    return None if record.metadata.is_expired(utc_now()) else record


def _take(run: TaskRunActor, record: ResultRecord[Any]) -> Any:
    """Make a record the result of a run."""
    run.kept, run.is_cached = record, True
    return record.result


async def settle(run: TaskRunActor, port: Port, transaction: Transaction, final: Ending) -> None:
    """Stage what an attempt ended with, and leave the transaction: it commits now, or with the one around it."""
    task = run.definition
    value: Any = final.data
    if final.type is not _S.COMPLETED:
        transaction.write_on_commit = False  # a failure is no result that another run could use
    elif transaction.write_on_commit:
        value = run.kept = run.result_store.create_result_record(
            final.data, key=transaction.key, expiration=_expiration(task.cache_expiration)
        )
    transaction.stage(
        value, on_rollback_hooks=[_mark_of(run), *task.on_rollback_hooks], on_commit_hooks=task.on_commit_hooks
    )
    try:
        await transaction.leave(port, None)
    finally:
        if transaction.is_rolled_back():  # what was staged was not written
            run.kept = None


async def give_up(run: TaskRunActor, port: Port, transaction: Transaction, error: BaseException) -> None:
    """Roll back what an attempt did; what is around it as well, unless there may be another attempt."""
    fails = isinstance(error, Exception) or run.scope.reason == DEADLINE
    if fails and run.cell.attempt <= run.definition.retries:
        run.around, transaction.climbs = transaction.get_parent(), False
    await transaction.leave(port, error)


@contextmanager
def unseen() -> Generator[None]:
    """Leave the active transaction of the surroundings as it is, which are the caller's."""
    before = current_transaction.get()
    try:
        yield
    finally:
        current_transaction.set(before)


def lazily(run: TaskRunActor) -> Transaction:
    """Give the transaction of a run whose body asks for one, made now."""
    made = Transaction(isolation_level=None, logger=_LoggerOf(run))
    step(made.enter(sync_port()))
    made.entered_by = run  # whoever asked
    return made


def _refreshes(run: TaskRunActor) -> bool:
    refresh = run.definition.refresh_cache
    return get_current_settings().tasks_refresh_cache if refresh is None else bool(refresh)


def _expiration(after: timedelta | None) -> Any:
    return None if after is None else utc_now() + after


def _mark_of(run: TaskRunActor) -> Any:
    def mark(transaction: Transaction) -> None:
        del transaction
        run.undone = True
        run.say_undone()  # or, if it has not ended yet, later

    mark.log_on_run = False  # type: ignore[attr-defined]
    return mark


class _LoggerOf:
    """A run's logger, made when something is said."""

    __slots__ = ("_run",)

    def __init__(self, run: Actor) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run.logger(), name)


# ------------------------------------------------------------------------------------ results without one


async def keep(run: Actor, port: Port, final: Ending) -> None:
    """Write the result of a run that ends without a transaction of its own: a flow's, or a failure."""
    failed = final.type is _S.FAILED
    if not (failed or (run.is_flow and final.type is _S.COMPLETED)):
        return
    if failed and (final.data is None or run.kept is not None):
        return
    try:
        # Of the run alone: nobody looks for its key, so it is not kept apart.
        store = run.result_store.model_copy(update={"metadata_storage": None})
        record = store.create_result_record(final.data, key=DEFAULT_STORAGE_KEY_FN())
        if await write(along(port), store, record, log=run.logger()):
            run.kept = record
    except Exception:  # the storage may be of the user's own making
        run.logger().exception("The result of %s run %r could not be persisted.", run.noun.lower(), run.name)
