"""What is written down of a flow and of each of its runs, besides what every run has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from callsheet._model.kinds import Durability, Kind
from callsheet._model.records import Definition

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor

_IN_JSON: frozenset[type] = frozenset({type(None), int, str, float, bool})
_to_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


def describe_flow(flow: Any) -> tuple[Definition, bytes, Definition]:
    """Give what the history knows of a flow, what each of its runs carries, and its runs' trackers."""
    described = flow._described
    if described is None:
        key = flow._entrypoint
        extra: dict[str, Any] = {"parameters": list(flow._binder.names)}
        if flow.version is not None:
            extra["version"] = flow.version
        if flow.retries:
            extra["policy"] = [flow.retries, flow.retry_delay_seconds]
        definition = Definition(Kind.FLOW, key, flow.name, flow._digest()[:16])
        tracker = Definition(Kind.TASK, key, flow.name, flow._digest()[:16])
        described = flow._described = (definition, _pack(extra), tracker)
    return described


def identity_of_subflow(core: Core, flow: Any, parent: Any, parameters: dict[str, Any]) -> bytes | None:
    """Name a call of a flow in a run, by which its run is found again; `None` where nothing is kept."""
    if parent is None or parent.flow_actor is None or core.durability is Durability.OFF:
        return None
    return parent.calls.identify(describe_flow(flow)[0].key, parameters)


def parameters_of(run: FlowRunActor) -> tuple[bytes, list[str]]:
    """Give a run's parameters as JSON, and the names of those for which that has only a placeholder."""
    parameters = run.parameters
    if all(type(value) in _IN_JSON for value in parameters.values()):
        try:
            return _to_json(parameters), []
        except (TypeError, ValueError, OverflowError):
            pass
    said = run.definition.serialize_parameters(parameters)
    opaque = [
        name
        for name, value in parameters.items()
        if type(value) is not str and said.get(name) == f"<{type(value).__name__}>"
    ]
    try:
        return _to_json(said), opaque
    except UnicodeEncodeError:
        readable, halves = _made_readable(said)
        return _to_json(readable), sorted({*opaque, *halves})


def _made_readable(said: dict[str, Any]) -> tuple[dict[str, Any], set[str]]:
    """Write file names whose bytes are no text down readably, and name those parameters: they are of no use for a restart."""
    import json  # 4 ms of every cold start, for what few programs have
    import re

    half = re.compile("[\ud800-\udfff]")  # of a pair that stands for one character
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in said.items()}
    halves = {name for name, text in texts.items() if half.search(text)}
    raw = {name: msgspec.Raw(half.sub(lambda one: f"\\\\u{ord(one[0]):x}", texts[name])) for name in halves}
    return {**said, **raw}, halves


def extra_of(run: FlowRunActor, opaque: list[str]) -> bytes:
    """Give what is known of a run and never filtered by: of its flow, of the call that made it, of its run key."""
    extra = run.extra
    if opaque or run.identity is not None:
        said = _unpack(extra)
        if opaque:
            said["opaque"] = opaque
        if run.identity is not None:
            said["identity"] = run.identity
        extra = _pack(said)
    return extra if run.keyed is None else run.keyed.among(extra)
