"""Run keys: which run has the key of a call, and what it has come to.

The store decides who has a key: the run is created on the condition that nobody else has it, and its body starts when
that is committed. Inside one process the callers of a key first agree on one of them, its leader, who looks into
the history for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

import msgspec

from callsheet._engine.upstream import UPSTREAM, run_id_of
from callsheet._kernel.signals import Once
from callsheet._model.kinds import StateType
from callsheet._rules.digest import inputs_digest
from callsheet.exceptions import RunKeyConflict

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._model.records import RunRecord
    from callsheet._model.states import State

RUN_KEY: Final = "run_key"  # among what a run's record carries
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode
INTERRUPTED: Final = _pack({"interrupted": True})
"""The details of a state in which something from outside has ended a run, where its type does not say so."""
_to_json = msgspec.json.Encoder().encode


class Keyed(NamedTuple):
    """What a run's record says of its key. `expires` is in microseconds since the epoch."""

    key: str
    digest: bytes  # of the parameters
    expires: int | None

    def among(self, extra: bytes) -> bytes:
        """Give what a run's record carries, with this."""
        return _pack({**_unpack(extra), RUN_KEY: self})

    def check(self, digest: bytes) -> None:
        """Compare the parameters of another call with those of the run.

        Raises:
            RunKeyConflict: They differ.
        """
        if digest != self.digest:
            raise RunKeyConflict(
                f"The run key {self.key!r} belongs to a run of this flow with other parameters. Call the flow with the same "
                "parameters as that run, or under another key."
            )


def keyed_by(record: RunRecord) -> Keyed | None:
    """Give the key that a run in the history has or had."""
    found = None if record.extra is None else _unpack(record.extra).get(RUN_KEY)
    return None if found is None else Keyed(*found)


def digest_of(flow: Any, parameters: Mapping[str, Any]) -> bytes:
    """Digest the parameters of a call, so that equal ones of another process have the same digest.

    What came from a run counts as that run. A value of which neither an unmistakable nor a JSON form exists counts by
    its type only.
    """
    skipped = flow._binder.names[0] if flow._bound else None
    given = {name: value for name, value in parameters.items() if name != skipped}
    whole = inputs_digest(given, _origin)
    if whole is not None:
        return whole
    parts = blake2b(digest_size=16)
    for name in sorted(given):
        one = {name: given[name]}
        parts.update(inputs_digest(one, _origin) or _to_json(flow.serialize_parameters(one)))
    return parts.digest()


def _origin(value: Any) -> bytes | None:
    source = run_id_of(value) if isinstance(value, UPSTREAM) else None
    return None if source is None else source.bytes


class Holder:
    """What the callers of one key in this process share while their leader is at it."""

    __slots__ = ("_core", "_where", "is_known", "is_over", "keyed", "run", "run_id", "state")

    def __init__(self, core: Core, where: tuple[str, str]) -> None:
        self._core = core
        self._where = where
        self.is_known = Once()  # which run has the key, unless it is over before
        self.is_over = Once()  # nobody is at it any more
        self.keyed: Keyed | None = None
        self.run_id: UUID | None = None
        self.run: FlowRunActor | None = None  # where it lives in this engine
        self.state: State[Any] | None = None  # in which it has ended elsewhere, or earlier

    def knows(self, run_id: UUID, keyed: Keyed) -> None:
        """Say which run has the key."""
        self.run_id, self.keyed = run_id, keyed
        self.is_known.set()

    def lives(self, run: FlowRunActor, keyed: Keyed) -> None:
        """Say that the run with the key lives in this engine, until its end."""
        self.run = run
        self.knows(run.cell.id, keyed)
        run.when_ended().subscribe(self.leave)

    def leave(self) -> None:
        """Let the others go on: with the outcome, where there is one, or with another look."""
        self._core.keyed.pop(self._where, None)
        self.is_known.set()
        self.is_over.set()

    @property
    def outcome(self) -> FlowRunActor | State[Any] | None:
        """Give what has ended for good: the run, or a state that the history has."""
        run = self.run
        if run is None:
            return self.state
        final = run.final
        return None if final is None or (final.type is StateType.CRASHED and final.made is None) else run
