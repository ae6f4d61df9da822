"""The run journal: under which identity a task's outcome is remembered, and in which form.

The form is that of all records (`callsheet._results.wires`); `callsheet._results.journalled.recall` reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Mapping
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from callsheet._engine.futures import RunFuture
from callsheet._kernel.driver import current_backend_task
from callsheet._kernel.ports import apart
from callsheet._model.kinds import StateType
from callsheet._model.records import ResultBlob
from callsheet._results.files import write_file
from callsheet._results.parts import Parts, join, size_of
from callsheet._results.pickling import dump
from callsheet._results.wires import RECORD, Wire, frame, frame_short
from callsheet._rules.digest import inputs_digest
from callsheet._rules.identity import ROOT, Branches, keyed_identity
from callsheet._version import __version__
from callsheet.exceptions import ConfigurationError, SerializationError
from callsheet.logging.loggers import engine_log
from callsheet.settings import get_current_settings

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._kernel.ports import Port

_LOG: Final = engine_log("callsheet.results")
INLINE_LIMIT = 64 * 1024  # bytes; a larger result would hold everybody's write lock for milliseconds
_REMEMBERED: Final = (StateType.COMPLETED, StateType.FAILED)
RESULT: Final = "result"  # among a state's details in the history: the metadata of its run's result
_DIGESTED: Final = 4096  # bytes of inputs, or members of one collection, above which nothing is compared later
_DIGESTED_PARTS: Final = 256
_FROM_A_RUN: Final = b"run"
_SCALARS: Final[frozenset[type]] = frozenset({bool, int, float, str})
_MSGPACK: Final = {"type": "msgpack"}
_PICKLE: Final = {"type": "pickle"}
_pack = msgspec.msgpack.Encoder().encode


class Remembered(msgspec.Struct):
    """What a run's final proposal says besides the state, for the run journal and for those who look for its result."""

    details: bytes | None = None
    identity: bytes | None = None
    inputs_digest: bytes | None = None
    result: ResultBlob | None = None
    recorded: bool = True


class Calls:
    """Names the calls that one run's body makes, branch by branch (see `_rules.identity`)."""

    __slots__ = ("_branches", "_foreign", "_own", "parent")

    def __init__(self, parent: bytes) -> None:
        self.parent: Final = parent  # the identity of the run
        self._branches = Branches(parent)
        self._own: object = None
        self._foreign: WeakKeyDictionary[Any, bytes] | None = None

    def begin(self) -> None:
        """Note that the body begins, here; another attempt counts its calls from the start."""
        if not self._branches.is_fresh():
            self._branches = Branches(self.parent)
        self._own = current_backend_task() or threading.get_ident()
        self._foreign = None

    def is_own_branch(self) -> bool:
        """Tell whether the caller is the body itself, and no task or thread that it has started."""
        return self._own == (current_backend_task() or threading.get_ident())

    def identify(self, key: str, parameters: dict[str, Any]) -> bytes:
        """Give the identity of the call that is being made."""
        branches = self._branches
        here = current_backend_task()
        if here is None or here is self._own or self._own is None:
            return branches.identify(ROOT, key)
        if self._foreign is None:
            self._foreign = WeakKeyDictionary()
        branch = self._foreign.get(here)
        if branch is None:
            branch = self._foreign[here] = branches.anchor(key, inputs_digest(parameters))
        return branches.identify(branch, key)

    def named(self, name: str) -> bytes:
        """Give the identity of what has a name of its own in this body, wherever it is called."""
        return keyed_identity(self.parent, name)


def digest_of_inputs(run: Any, known: Mapping[int, Any] | None) -> bytes | None:
    """Digest what a run is called with, in a bounded time; what came from another run counts as that, not by content."""
    parameters, bound = run.parameters, len(run.definition._bound)
    if bound:
        parameters = dict(list(parameters.items())[bound:])
    origin = partial(_origin, known) if run.inputs else None
    return inputs_digest(parameters, origin, limit=_DIGESTED, parts=_DIGESTED_PARTS)


def idempotency_token(run: Any) -> str | None:
    """Give what tells a call in a flow run from all others, in each of its attempts and lives.

    Never made of the task run's id: after a crash there is another one for the same call.
    """
    flow = run.cell.flow
    if flow is None or run.identity is None:
        return None
    return blake2b(flow.id.bytes + run.identity, digest_size=16).hexdigest()


def _origin(known: Mapping[int, Any] | None, value: Any) -> bytes | None:
    if isinstance(value, RunFuture):  # its type, as many objects of others have any attribute that is asked for
        return value.run.identity or _FROM_A_RUN
    return _FROM_A_RUN if known is not None and id(value) in known else None


def details_of_result(metadata: bytes) -> bytes:
    """Give the details of a state that says where its run's result is."""
    return _pack({RESULT: metadata})


def record_outcome(run: Any, rest: Remembered, final: Any, port: Port) -> Remembered | Coroutine[Any, Any, Remembered]:
    """Add to a final proposal what the run journal remembers of a run that a flow run's body has called.

    Returns:
        The proposal, or where the result is large, what gives it.
    """
    if run.identity is None or final.type not in _REMEMBERED:
        return rest
    rest.identity, rest.inputs_digest = run.identity, run.digest
    value = final.data
    if value is None or run.kept is not None:  # nothing to be kept, or the journal says where it is
        return rest
    if (short := _short_record(value)) is not None:
        rest.result = short
        return rest
    record = _record_of(value)
    if record is None:
        rest.recorded = False
        return rest
    if size_of(record[1]) <= INLINE_LIMIT:
        rest.result = _in_row(*record)
        return rest
    return _with_large(run, rest, *record, port)


async def _with_large(run: Any, rest: Remembered, wire: Wire, payload: Parts, port: Port) -> Remembered:
    rest.result = await _store_large(run.core, run.cell.id, wire, payload, port)
    rest.recorded = rest.result is not None
    return rest


async def to_blob(core: Core, run_id: UUID, value: Any, port: Port) -> tuple[bool, ResultBlob | None]:
    """Make the record of a result or exception; a large one is written to a file of its own first.

    Returns:
        Whether it could be kept, and what the journal keeps. Of `None` nothing needs to be kept.
    """
    if value is None:
        return True, None
    record = _record_of(value)
    if record is None:
        return False, None
    small = size_of(record[1]) <= INLINE_LIMIT
    blob = _in_row(*record) if small else await _store_large(core, run_id, *record, port)
    return blob is not None, blob


def _record_of(value: Any) -> tuple[Wire, Parts] | None:
    """Give the head and the payload of a record; `None` of what cannot be kept."""
    try:
        return _serialize(value)
    except SerializationError:
        return None
    except ConfigurationError as error:  # no key to encrypt with
        _LOG.warning("A result is not remembered: %s", error)
        return None


def _short_record(value: Any) -> ResultBlob | None:
    """Make the record of a number or a short text, as `_serialize` says; `None` of other values."""
    if type(value) not in _SCALARS or get_current_settings().results_default_serializer.startswith("encrypted"):
        return None
    payload = _packed(value)
    if payload is None or len(payload) > INLINE_LIMIT:
        return None
    content = frame_short("msgpack", __version__, payload)
    return ResultBlob(RECORD, len(content), content)


def _packed(value: Any) -> bytes | None:
    try:
        return _pack(value)
    except (OverflowError, UnicodeEncodeError):  # an integer over 64 bits, half of a surrogate pair
        return None


def _in_row(wire: Wire, payload: Parts) -> ResultBlob:
    content = join(frame(wire, payload))
    return ResultBlob(RECORD, len(content), inline=content)


async def _store_large(core: Core, run_id: UUID, wire: Wire, payload: Parts, port: Port) -> ResultBlob | None:
    """Write a large record to a file of its own; `None` where that cannot be done."""
    folder = core.blobs
    if folder is None:  # a history in memory
        content = await apart(lambda: join(frame(wire, payload)), port, core.workers.run)
        return ResultBlob(RECORD, len(content), inline=content)
    path = folder / str(run_id)
    try:
        size = await apart(lambda: _keep(path, wire, payload, sync=core.acknowledges_all), port, core.workers.run)
    except OSError as error:
        _LOG.warning("A result could not be written to '%s', it is not remembered: %s", path, error)
        return None
    return ResultBlob(RECORD, size, uri=path.name, digest=bytes.fromhex(wire.digest or ""))


def to_row(value: Any) -> ResultBlob | None:
    """Make the record of a value that the journal keeps in its row, whatever its size.

    Raises:
        SerializationError: It cannot be serialized.
    """
    if value is None:
        return None
    return _in_row(*_serialize(value))


def _keep(path: Path, wire: Wire, payload: Parts, *, sync: bool) -> int:
    """Write an immutable file and give its size. Its row has the digest, so a torn or foreign one is noticed."""
    parts = frame(wire, payload)
    write_file(path, parts, sync=sync)
    return size_of(parts)


def _serialize(value: Any) -> tuple[Wire, Parts]:
    """Give the head and the payload of a record. What reads it is chosen by the name in the head, as for any record."""
    kind = get_current_settings().results_default_serializer
    if kind.startswith("encrypted"):  # then nothing lies about in the open, the history neither
        from callsheet._results.serializing import resolve_serializer

        serializer = resolve_serializer(kind)
        return Wire(None, serializer.describe(), __version__), serializer.dump_parts(value)
    if type(value) in _SCALARS and (payload := _packed(value)) is not None:
        return Wire(None, _MSGPACK, __version__), [payload]
    return Wire(None, _PICKLE, __version__), dump(value)
