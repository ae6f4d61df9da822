"""How `map` pairs its arguments: what is iterated, what goes into every run as it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import GeneratorType
from typing import Any, cast

from callsheet._engine.futures import TaskFuture
from callsheet._engine.state_values import value_here
from callsheet._engine.upstream import UPSTREAM
from callsheet._model.states import State
from callsheet.annotations import BaseAnnotation, allow_failure, quote, unmapped
from callsheet.exceptions import MappingLengthMismatch, MappingMissingIterable


def pair(task: Any, parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the parameters of each run.

    Args:
        task: The mapped task; its defaults are never mapped over.
        parameters: What was passed, by name, without defaults.

    Raises:
        MappingMissingIterable: There is nothing to iterate over.
        MappingLengthMismatch: The iterables differ in length.
    """
    collected = task._binder.var_keyword
    static: dict[str, Any] = {}
    mapped: dict[str, list[Any]] = {}
    for name, value in _flat(parameters, collected):
        items = _items(value)
        if items is None:
            static[name] = value.unwrap() if isinstance(value, unmapped) else value
        else:
            mapped[name] = items
    if not mapped:
        raise MappingMissingIterable(
            "No iterable parameters were received. Parameters for map must include at least one iterable. "
            f"Parameters: {parameters}"
        )
    lengths = {name: len(items) for name, items in mapped.items()}
    if len(set(lengths.values())) > 1:
        raise MappingLengthMismatch(
            "Expected iterable parameters with equal lengths, got lengths: "
            + ", ".join(f"'{name}': {length}" for name, length in lengths.items())
        )
    return _bound(task, static, mapped, next(iter(lengths.values())), collected)


def _bound(
    task: Any, static: dict[str, Any], mapped: dict[str, list[Any]], length: int, collected: str | None
) -> Iterator[dict[str, Any]]:
    binder = task._binder
    plain = not (collected or binder.defaults or binder.var_positional) and len(static) + len(mapped) == len(
        binder.names
    )
    for index in range(length):
        given = {**static, **{name: items[index] for name, items in mapped.items()}}
        if plain:
            yield given
            continue
        if collected is not None:
            given[collected] = {name: given.pop(name) for name in list(given) if name not in binder.names}
        yield binder.with_defaults(given)


def _flat(parameters: dict[str, Any], collected: str | None) -> Iterator[tuple[str, Any]]:
    for name, value in parameters.items():
        if name == collected:
            yield from cast("dict[str, Any]", value).items()
        else:
            yield name, value


def _items(value: Any) -> list[Any] | None:
    """Give the elements of an argument that is mapped over, `None` for one that is not."""
    if isinstance(value, unmapped):
        return None
    if isinstance(value, allow_failure):
        inner = cast("allow_failure[Any]", value).unwrap()
        items = None if isinstance(inner, UPSTREAM) else _items(inner)
        return None if items is None else [allow_failure(item) for item in items]
    if isinstance(value, quote):
        return _items(cast("quote[Any]", value).unquote())
    if isinstance(value, BaseAnnotation):
        return None
    if isinstance(value, TaskFuture):
        return _resolved(cast("TaskFuture[Any]", value).result())
    if isinstance(value, State):
        return _resolved(value_here(cast("State[Any]", value)))
    return _resolved(value)


def _resolved(value: Any) -> list[Any] | None:
    if isinstance(value, (str, bytes, bytearray)) or not _is_iterable(value):
        return None
    return list(cast("Iterable[Any]", value))


def _is_iterable(value: Any) -> bool:
    # What can be iterated only once is used up here; what merely has a length and items is data.
    return isinstance(value, (list, tuple, set, frozenset, range, GeneratorType)) or (
        not hasattr(value, "model_fields") and isinstance(value, Iterable) and not isinstance(value, dict)
    )
