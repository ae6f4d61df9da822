"""Keys of results, and what is under them, as far as it concerns a store."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC
from typing import Any, Final

import msgspec
from pydantic_core import ValidationError

from callsheet._clock import utc_now
from callsheet._ids import new_token
from callsheet._results import access
from callsheet._results.records import ResultRecord, parse_head
from callsheet._results.serializing import Serializer
from callsheet._results.ways import Way
from callsheet._results.wires import Wire, head_length
from callsheet._results.wrappers import EncryptedSerializer
from callsheet.context import TaskRunContext
from callsheet.exceptions import MissingResult, ResultDamaged, ResultNotFound, SerializationError, StorageError
from callsheet.logging.loggers import engine_log

_LOG: Final = engine_log("callsheet.results")
_wire: Final = msgspec.json.Decoder(Wire).decode


def DEFAULT_STORAGE_KEY_FN() -> str:  # noqa: N802 - the name that programs use
    """Make a storage key that nobody else has: 32 random hex digits."""
    return new_token()


def format_storage_key(template: str) -> str:
    """Fill in a storage key's template, with parameters and what `callsheet.runtime` knows.

    Args:
        template: such as ``{flow_run.name}/{parameters[day]}.json``.

    Returns:
        The key.

    Raises:
        KeyError: it names a parameter that does not exist.
        AttributeError: it names something that no run has.
    """
    runtime = importlib.import_module("callsheet.runtime")
    parts = {name: getattr(runtime, name) for name in ("deployment", "flow_run", "task_run")}
    context = TaskRunContext.get()
    return template.format(**parts, parameters={} if context is None else context.parameters)


def lock_manager_of_transaction() -> Any:
    """Give the lock manager of the active transaction's store, if there is one."""
    # Where nobody has imported transactions, none is active.
    transactions = sys.modules.get("callsheet.transactions")
    active = None if transactions is None else transactions.Transaction.get_active()
    return None if active is None else getattr(getattr(active, "store", None), "lock_manager", None)


# ------------------------------------------------------------------------------------ what is under a key


async def read_head(way: Way, storage: Any, key: str, *, whole: bool) -> Wire | None:
    """Give the metadata under a key, or `None` where there is none that could be used.

    Args:
        way: how to wait.
        storage: which has it.
        key: the key.
        whole: whether the metadata is all that is there, and not the beginning of a record.
    """
    try:
        head, size = await access.peek(way, storage, key)
        needed = size if whole else head_length(head)
        if needed > len(head) and size >= needed:
            head, size = await access.peek(way, storage, key, needed)
        if whole:
            return _wire(head)
        wire, start = parse_head(head)
        if wire.size == size - start:
            return wire
        raise ResultDamaged(f"It is torn: {wire.size} bytes were written, {size - start} are there.")
    except ResultNotFound:
        return None
    except (MissingResult, ValidationError, msgspec.MsgspecError, RecursionError) as error:
        _LOG.warning("What is kept under the key '%s' in %r cannot be used: %s", key, storage, error)
    except StorageError as error:
        _LOG.warning("It cannot be known whether there is a result under the key '%s': %s", key, error)
    return None


def is_over(wire: Wire) -> bool:
    """Tell whether a result has expired."""
    over = wire.expiration
    return over is not None and (over.replace(tzinfo=UTC) if over.tzinfo is None else over) <= utc_now()


def load_record(content: bytes, serializer: Serializer[Any]) -> tuple[ResultRecord[Any], str | None]:
    """Give the record that bytes hold, and its digest.

    Args:
        content: the bytes.
        serializer: of the store that reads.

    Raises:
        ResultDamaged: they hold something else.
        SerializationError: they cannot be read.
    """
    try:
        wire, _ = parse_head(content)
        if isinstance(serializer, EncryptedSerializer):
            check_type(wire.serializer.get("type"))
        return ResultRecord[Any].deserialize(content, serializer), wire.digest
    except ValidationError as error:
        raise ResultDamaged("This is no result of callsheet: it has no metadata.") from error


def check_encryption(record: ResultRecord[Any], serializer: Serializer[Any]) -> None:
    """Refuse a record that is not encrypted, where the store encrypts.

    Raises:
        SerializationError: it is not.
    """
    if isinstance(serializer, EncryptedSerializer):
        check_type(record.metadata.serializer.type)


def check_type(kind: Any) -> None:
    """Refuse a type that does not encrypt.

    Raises:
        SerializationError: it does not.
    """
    if str(kind).partition("/")[0] != "encrypted":
        raise SerializationError(
            f"This store encrypts its results, but what is kept here was written by {kind!r}: somebody else may "
            f"have put it there. It is not read."
        )


def digest_in(head: bytes | memoryview) -> str | None:
    """Give the digest that the head of a record names."""
    return parse_head(bytes(head))[0].digest
