"""What flow runs are handed while they run: stored in the history, under a key, as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from uuid import UUID

import msgspec

from callsheet._clock import from_micros, monotonic, until_look
from callsheet._dual import is_stepped
from callsheet._engine.history import the_run
from callsheet._engine.places import LoopPlace, Place, ThreadPlace, core_of, current_core
from callsheet._engine.waiting import scope_here
from callsheet._ids import new_id
from callsheet._kernel.host import current_host
from callsheet._kernel.ports import LoopPort, Port, sync_port
from callsheet._kernel.signals import Once
from callsheet._model.kinds import Kind
from callsheet._model.records import InputDropped, InputFree, InputRecord, InputStored
from callsheet._model.runs import FlowRunInput
from callsheet.context import FlowRunContext
from callsheet.exceptions import ObjectAlreadyExists, SerializationError

SENDER: Final = "callsheet.flow-run."
"""What the name of a sender that is a flow run begins with; its id follows."""
_KEY: Final = re.compile(r"[A-Za-z0-9._:\-]+")


class Bell:
    """Something that may ring many times, for one who waits on one-shot conditions."""

    def __init__(self) -> None:
        self.once = Once()
        self.ring: Callable[[], None] = self._ring

    def _ring(self) -> None:
        self.once.set()

    def renew(self) -> None:
        """Be silent again; what rings from here on is heard at the next wait."""
        self.once = Once()


def check_key(key: str) -> str:
    """Refuse a key that addresses cannot carry.

    Raises:
        ValueError: It is empty, or has other characters than letters, digits, and ``. _ : -``.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(
            "Keys of run inputs must have only letters, digits, hyphens, underscores, colons and dots; "
            f"{key!r} does not."
        )
    return key


def to_json(value: Any) -> str:
    """Write a value as JSON.

    Raises:
        SerializationError: It contains itself, or has too many levels.
        NotImplementedError: It, or something in it, has no form in JSON.
    """
    try:
        return msgspec.json.encode(value, enc_hook=_plain).decode()
    except RecursionError:
        raise SerializationError(
            f"This {type(value).__name__} cannot be written as JSON: it contains itself, or has too many levels."
        ) from None


def _plain(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise NotImplementedError(f"{value!r} cannot be written as JSON")
    return dump(mode="json")


def from_json(text: str) -> Any:
    """Read JSON."""
    return msgspec.json.decode(text)


def place_here(client: Any = None) -> Place:
    """Give the place from which the dual function that is under way reads and writes.

    Args:
        client: On whose history. Default: the one of the place of the call.

    Raises:
        TypeError: It is no client.
        RuntimeError: It is not open.
    """
    host, core = current_host(), current_core() if client is None else core_of(client)
    if is_stepped() or host is None:
        return ThreadPlace(core)
    return LoopPlace(core, host)


def port_here() -> Port:
    """Give how the dual function that is under way waits."""
    host = current_host()
    return sync_port() if is_stepped() or host is None else LoopPort(host)


def this_sender() -> str | None:
    """Name the current flow run as a sender."""
    context = FlowRunContext.get()
    return None if context is None else f"{SENDER}{context.flow_run.id}"


def stored(
    run_id: UUID, key: str, value: str, *, at: int, sender: str | None = None, id: UUID | None = None
) -> InputStored:
    """Give the entry that stores a value, whatever is there."""
    return InputStored(run_id=run_id, key=check_key(key), id=id or new_id(), at=at, value=value, sender=sender)


async def create(place: Place, run_id: UUID, key: str, value: str, sender: str | None) -> FlowRunInput:
    """Store a value for a flow run.

    Raises:
        ObjectAlreadyExists: There is one under this key.
        ObjectNotFound: There is no such flow run.
        ValueError: The key has characters that it may not have.
    """
    at = place.core.clock.micros()
    entry = stored(run_id, key, value, at=at, sender=sender)
    entry = msgspec.structs.replace(entry, guards=(InputFree(run_id, key, entry.id),))
    await place.catch_up()
    await the_run(place.reader, Kind.FLOW, run_id)
    if await place.apart(lambda: place.core.commit_guarded(entry)) is not None:
        raise ObjectAlreadyExists(help_message=f"The flow run {run_id} has an input under the key {key!r} already.")
    for ring in place.core.expecting:
        ring()
    return _shown(InputRecord(run_id=run_id, key=key, id=entry.id, at=at, value=value, sender=sender))


async def read(place: Place, run_id: UUID, key: str) -> FlowRunInput | None:
    """Give what is stored under a key, or `None`."""
    check_key(key)
    await place.catch_up()
    found = await place.reader.read_inputs(run_id, key=key)
    return _shown(found[0]) if found else None


async def find(
    place: Place, run_id: UUID, prefix: str, limit: int | None, exclude: Iterable[str] = ()
) -> list[FlowRunInput]:
    """Give what is stored under keys that begin so, oldest first."""
    left_out = frozenset(exclude)
    await place.catch_up()
    found = await place.reader.read_inputs(run_id, prefix=prefix, limit=None if left_out else limit)
    return [_shown(record) for record in found if record.key not in left_out][:limit]


async def next_of(
    place: Place, port: Port, run_id: UUID, prefix: str, exclude: set[str], timeout: float | None, poll_interval: float
) -> FlowRunInput | None:
    """Wait for a value under a key that begins so, and give the oldest; `None`: there was none in time."""
    core, scope = place.core, scope_here()
    deadline = None if timeout is None else monotonic() + timeout
    bell = Bell()
    core.expect(bell.ring, expected=True)
    try:
        while True:
            bell.renew()
            found = await find(place, run_id, prefix, 1, exclude)
            if found:
                return found[0]
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return None
            await port.wait(bell.once, until_look(left, poll_interval), scope)
    finally:
        core.expect(bell.ring, expected=False)


async def delete(place: Place, run_id: UUID, key: str) -> bool:
    """Forget what is stored under a key; tell whether there was anything."""
    check_key(key)
    await place.catch_up()
    there = bool(await place.reader.read_inputs(run_id, key=key))
    if there:
        place.core.journal.put(InputDropped(run_id, key))
    return there


def _shown(record: InputRecord) -> FlowRunInput:
    at = from_micros(record.at)
    return FlowRunInput(
        id=record.id,
        flow_run_id=record.run_id,
        key=record.key,
        value=record.value,
        sender=record.sender,
        created=at,
        updated=at,
    )
