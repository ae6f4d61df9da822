"""The run journal: under which identity a task's outcome is remembered, and in which form."""

from __future__ import annotations

import logging
import pickle
import threading
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

import msgspec

from callsheet._kernel.driver import current_backend_task
from callsheet._kernel.ports import apart
from callsheet._model.kinds import StateType
from callsheet._model.records import ResultBlob
from callsheet._rules.digest import inputs_digest
from callsheet._rules.identity import ROOT, Branches

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._kernel.ports import Port

_LOG: Final = logging.getLogger("callsheet.results")
INLINE_LIMIT = 64 * 1024  # bytes; a larger result would hold everybody's write lock for milliseconds
RECORD: Final = "record"  # the codec of a journal entry that is the metadata of a record
RESULT: Final = "result"  # among a state's details in the history: the metadata of its run's result
_REMEMBERED: Final = (StateType.COMPLETED, StateType.FAILED)
_SCALARS: frozenset[type] = frozenset({bool, int, float, str, bytes})
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Calls:
    """Names the calls that one run's body makes, branch by branch (see `_rules.identity`)."""

    __slots__ = ("_branches", "_foreign", "_own")

    def __init__(self, parent: bytes) -> None:
        self._branches = Branches(parent)
        self._own: object = None
        self._foreign: WeakKeyDictionary[Any, bytes] | None = None

    def begin(self) -> None:
        """Note that the body begins, here; another attempt counts its calls from the start."""
        self._branches = Branches(self._branches.parent)
        self._own = current_backend_task() or threading.get_ident()
        self._foreign = None

    def identify(self, key: str, parameters: dict[str, Any]) -> bytes:
        """Give the identity of the call that is being made."""
        here = current_backend_task()
        if here is None or here is self._own or self._own is None:
            return self._branches.identify(ROOT, key)
        if self._foreign is None:
            self._foreign = WeakKeyDictionary()
        branch = self._foreign.get(here)
        if branch is None:
            branch = self._foreign[here] = self._branches.anchor(key, inputs_digest(parameters))
        return self._branches.identify(branch, key)


def details_of_result(metadata: bytes) -> bytes:
    """Give the details of a state that says where its run's result is."""
    return _pack({RESULT: metadata})


def encode(value: Any) -> tuple[bool, str, bytes]:
    """Serialize a result or exception.

    Returns:
        Whether it could be serialized; the codec; the bytes. `None` has the codec ``none`` and no bytes.
    """
    if value is None:
        return True, "none", b""
    try:
        if type(value) in _SCALARS:
            return True, "msgpack", _pack(value)
    except OverflowError:  # an integer over 64 bits
        pass
    try:
        return True, "pickle", pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:  # the user's object may raise anything
        pass
    try:
        import cloudpickle

        return True, "cloudpickle", cloudpickle.dumps(value)  # pyright: ignore[reportUnknownMemberType]
    except Exception:
        return False, "none", b""


class Unusable(Exception):
    """Raised when what was recorded cannot be had back; whoever recorded it runs again."""


def decode(blob: ResultBlob | None, folder: Path | None) -> Any:
    """Give the result or exception that `encode` made bytes of.

    Args:
        blob: What was recorded; `None` stands for `None`.
        folder: Of the files of large ones.

    Raises:
        Unusable: Its file is gone or torn, or the bytes cannot be read here.
    """
    if blob is None:
        return None
    try:
        body = blob.inline if blob.uri is None or folder is None else (folder / blob.uri).read_bytes()
        if body is None or len(body) != blob.size:
            raise Unusable("it is torn")
        if blob.digest is not None and blake2b(body, digest_size=16).digest() != blob.digest:
            raise Unusable("it is damaged")
        return _unpack(body) if blob.codec == "msgpack" else pickle.loads(body)  # noqa: S301 - ours
    except Exception as error:  # the user's classes may raise anything
        raise Unusable(f"{type(error).__name__}: {error}") from error


async def record_outcome(run: Any, rest: dict[str, Any], final: Any, port: Port) -> dict[str, Any]:
    """Add to a final proposal what the run journal remembers of a run that a flow run's body has called."""
    if run.identity is None or final.type not in _REMEMBERED:
        return rest
    rest["identity"] = run.identity
    if run.kept is not None:  # the journal says where it is
        return rest
    rest["recorded"], codec, body = encode(final.data)
    if codec != "none":
        rest["result"] = blob = await to_blob(run.core, run.cell.id, codec, body, port)
        rest["recorded"] = rest["recorded"] and blob is not None
    return rest


async def to_blob(core: Core, run_id: UUID, codec: str, body: bytes, port: Port) -> ResultBlob | None:
    """Give the blob of a serialized result; a large one is written to a file of its own first."""
    if codec == "none":
        return None
    if len(body) <= INLINE_LIMIT:
        return ResultBlob(codec, len(body), inline=body)
    folder = core.blobs
    if folder is None:  # a history in memory
        return ResultBlob(codec, len(body), inline=body)
    try:
        name = await apart(lambda: keep_blob(folder, run_id, body), port, core.workers.run)
    except OSError as error:
        _LOG.warning("A result of %s bytes could not be written to '%s': %s", len(body), folder, error)
        return None
    return ResultBlob(codec, len(body), uri=name, digest=blake2b(body, digest_size=16).digest())


def keep_blob(folder: Path, run_id: UUID, body: bytes) -> str:
    """Write an immutable file and give its name. Its row carries length and digest, so a torn one is noticed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / str(run_id)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(body)
    unfinished.replace(path)
    return path.name
