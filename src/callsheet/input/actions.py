"""Storing, reading and deleting what flow runs are handed. Without an id, the current flow run is meant."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from callsheet._engine import run_inputs
from callsheet._engine.dual import dual
from callsheet._engine.run_inputs import this_sender
from callsheet.context import FlowRunContext

if TYPE_CHECKING:
    from pydantic import BaseModel

    from callsheet._model.runs import FlowRunInput

__all__ = [
    "acreate_flow_run_input",
    "acreate_flow_run_input_from_model",
    "adelete_flow_run_input",
    "afilter_flow_run_input",
    "aread_flow_run_input",
    "create_flow_run_input",
    "create_flow_run_input_from_model",
    "delete_flow_run_input",
    "filter_flow_run_input",
    "read_flow_run_input",
]


def the_flow_run(flow_run_id: UUID | str | None = None) -> UUID:
    """Give the id that is meant.

    Raises:
        RuntimeError: None is given, and no flow run is active.
    """
    if flow_run_id is not None:
        return flow_run_id if isinstance(flow_run_id, UUID) else UUID(flow_run_id)
    context = FlowRunContext.get()
    if context is None:
        raise RuntimeError("Must either provide a flow run ID or be within a flow run.")
    return context.flow_run.id


async def acreate_flow_run_input(
    key: str, value: Any, flow_run_id: UUID | str | None = None, sender: str | None = None
) -> None:
    """Store a value for a flow run.

    Args:
        key: Under which key: letters, digits, and ``. _ : -``.
        value: What JSON can hold.
        flow_run_id: The flow run. Default: the current one.
        sender: Who hands it in. Default: the current flow run, if any.

    Raises:
        ObjectAlreadyExists: There is a value under this key.
        ObjectNotFound: There is no such flow run.
        RuntimeError: No flow run is given, and none is active.
        ValueError: The key has other characters.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def remember() -> int:
        ...     create_flow_run_input("answer", 42)
        ...     return read_flow_run_input("answer")
        >>> remember()
        42
    """
    run_id, place = the_flow_run(flow_run_id), run_inputs.place_here()
    try:
        await run_inputs.create(place, run_id, key, run_inputs.to_json(value), sender or this_sender())
    finally:
        await place.reader.aclose()


async def acreate_flow_run_input_from_model(
    key: str, model_instance: BaseModel, flow_run_id: UUID | str | None = None, sender: str | None = None
) -> None:
    """Store a pydantic model for a flow run, as `create_flow_run_input` does.

    Args:
        key: Under which key.
        model_instance: The model.
        flow_run_id: The flow run. Default: the current one.
        sender: Who hands it in. Default: the current flow run, if any.
    """
    await acreate_flow_run_input(key, model_instance.model_dump(mode="json"), flow_run_id, sender)


async def aread_flow_run_input(key: str, flow_run_id: UUID | str | None = None) -> Any:
    """Read a value that a flow run was handed.

    Args:
        key: Its key.
        flow_run_id: The flow run. Default: the current one.

    Returns:
        The value; `None` where there is none.

    Raises:
        RuntimeError: No flow run is given, and none is active.
        ValueError: The key has characters that none has.
    """
    run_id, place = the_flow_run(flow_run_id), run_inputs.place_here()
    try:
        found = await run_inputs.read(place, run_id, key)
    finally:
        await place.reader.aclose()
    return None if found is None else run_inputs.from_json(found.value)


async def afilter_flow_run_input(
    key_prefix: str,
    limit: int = 1,
    exclude_keys: Iterable[str] | None = None,
    flow_run_id: UUID | str | None = None,
) -> list[FlowRunInput]:
    """Read what a flow run was handed under keys that begin alike, oldest first.

    Args:
        key_prefix: How they begin.
        limit: How many at most.
        exclude_keys: Keys to leave out.
        flow_run_id: The flow run. Default: the current one.

    Returns:
        What is stored, with keys and senders; the values are JSON.

    Raises:
        RuntimeError: No flow run is given, and none is active.
    """
    run_id, place = the_flow_run(flow_run_id), run_inputs.place_here()
    try:
        return await run_inputs.find(place, run_id, key_prefix, limit, exclude_keys or ())
    finally:
        await place.reader.aclose()


async def adelete_flow_run_input(key: str, flow_run_id: UUID | str | None = None) -> None:
    """Forget a value that a flow run was handed. Where there is none, nothing happens.

    Args:
        key: Its key.
        flow_run_id: The flow run. Default: the current one.

    Raises:
        RuntimeError: No flow run is given, and none is active.
        ValueError: The key has characters that none has.
    """
    run_id, place = the_flow_run(flow_run_id), run_inputs.place_here()
    try:
        await run_inputs.delete(place, run_id, key)
    finally:
        await place.reader.aclose()


create_flow_run_input = dual(acreate_flow_run_input)
create_flow_run_input_from_model = dual(acreate_flow_run_input_from_model)
read_flow_run_input = dual(aread_flow_run_input)
filter_flow_run_input = dual(afilter_flow_run_input)
delete_flow_run_input = dual(adelete_flow_run_input)
