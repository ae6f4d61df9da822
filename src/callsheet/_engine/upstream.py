"""Inputs that come from other runs: finding them, waiting for them, putting their results in their place."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from callsheet._clock import monotonic
from callsheet._engine.futures import DistributedTaskFuture, RunFuture, TaskFuture
from callsheet._engine.state_values import with_value
from callsheet._engine.waiting import wait_for_input, wait_in_life
from callsheet._kernel.signals import Once
from callsheet._model.kept import KeptElsewhere
from callsheet._model.kinds import StateType
from callsheet._model.states import State
from callsheet._model.values import value_of
from callsheet._results.ways import along
from callsheet.annotations import BaseAnnotation, allow_failure, quote, unmapped
from callsheet.utilities.collections import Replacer, find, replace, trace

if TYPE_CHECKING:
    from callsheet._engine.run import Run
    from callsheet._kernel.ports import Port

UPSTREAM: tuple[type, ...] = (TaskFuture, State)
_WRAPPERS = (allow_failure, unmapped, quote)
_UNTRACED: frozenset[type] = frozenset({bool, type(None), type(Ellipsis), type(NotImplemented)})
_LEAVES: frozenset[type] = frozenset({int, float, str, bytes, bool, type(None)})
_COLLECTIONS: tuple[type[Sized], ...] = (list, tuple, set, frozenset, dict)
_REMEMBERED = 256  # results whose origin a flow run still knows; they are kept alive for as long
_SEARCHED = 1000  # members; a larger collection that goes into many runs must not be searched for each of them

Inputs = tuple[tuple[str, tuple[UUID, ...]], ...]


class NotReady(Exception):
    """Raised when an input's run did not complete."""


class Origins(OrderedDict[int, tuple[Any, UUID]]):
    """Which run an object came from, by identity. Bounded: the objects are kept alive, or ids would be reused."""

    def remember(self, value: Any, run_id: UUID) -> None:
        """Remember the origin of a result, and of its members where it is a short tuple or list."""
        if _is_told_apart(value):
            self[id(value)] = (value, run_id)
        if type(value) in (tuple, list) and len(value) <= 32:
            self.update({id(member): (member, run_id) for member in value if _is_told_apart(member)})
        while len(self) > _REMEMBERED:
            self.popitem(last=False)


def _is_told_apart(value: Any) -> bool:
    """Tell whether an object is known by its identity: not one of those that everybody has."""
    cls = cast("type[Any]", type(value))
    return not (cls in _UNTRACED or (cls is int and -5 <= value <= 256) or isinstance(value, UPSTREAM))


def find_inputs(
    parameters: Mapping[str, Any], wait_for: Iterable[Any] | None, origins: Origins | None
) -> tuple[dict[str, list[Any]], Inputs]:
    """Find what a run's parameters come from.

    Returns:
        Futures and states by parameter, and for the history the runs behind each parameter.
    """
    upstream: dict[str, list[Any]] = {}
    inputs: list[tuple[str, tuple[UUID, ...]]] = []
    for name, value in parameters.items():
        sources: list[UUID] = []
        if type(value) not in _LEAVES:
            found = find(value, UPSTREAM)
            if found or isinstance(value, BaseAnnotation):
                upstream[name] = found
                sources = [source for item in found if (source := run_id_of(item)) is not None]
        if origins:
            sources += _traced(value, origins)
        if sources:
            inputs.append((name, tuple(dict.fromkeys(sources))))
    if wait_for is not None:
        found = find(wait_for, UPSTREAM)
        sources = [source for item in found if (source := run_id_of(item)) is not None]
        inputs.append(("wait_for", tuple(sources)))
    return upstream, tuple(inputs)


def as_collection(wait_for: Any) -> Any:
    """Give what a run is to wait for as something that can be searched again and again."""
    if wait_for is None or isinstance(wait_for, (list, tuple, set, dict, BaseAnnotation, *UPSTREAM)):
        return cast("Any", wait_for)
    return list(wait_for)


def _traced(value: Any, origins: Origins) -> list[UUID]:
    # The length of nothing else is asked for: that of an array may not exist, that of a query is a query.
    if type(value) in _LEAVES or (isinstance(value, _COLLECTIONS) and len(value) > _SEARCHED):
        known = origins.get(id(value))
        return [] if known is None else [known[1]]
    return [run_id for _, run_id in trace(value, origins)]


def run_id_of(item: Any) -> UUID | None:
    """Give the run behind a future or a state."""
    if isinstance(item, State):
        details = cast("State[Any]", item).state_details
        return details.task_run_id or details.flow_run_id
    return item.task_run_id


async def resolve_upstream(run: Run, port: Port) -> dict[str, Any]:
    """Wait for every input and give the parameters with results in the place of futures and states.

    Raises:
        NotReady: An input's run did not complete, and its failure is not allowed.
        ValueError: The run waits for itself.
        Interrupted: The run must leave.
    """
    parameters = run.parameters
    if run.wait_for is not None:
        await _arrive_all(run.wait_for, [], run, port)
        replace(run.wait_for, UPSTREAM, _strict, inside={allow_failure: _lenient})
    if not run.upstream:
        return parameters
    resolved = dict(parameters)
    for name, found in run.upstream.items():
        foreign = await _arrive_all(parameters[name], found, run, port)
        loaded = await _load(parameters[name], foreign, port) if foreign else None
        strict, lenient = (_strict, _lenient) if not loaded else (_in_place(fn, loaded) for fn in (_strict, _lenient))
        resolved[name] = replace(
            parameters[name], UPSTREAM, strict, inside={allow_failure: lenient, quote: _itself}, strip=_WRAPPERS
        )
        if isinstance(resolved[name], _WRAPPERS):
            resolved[name] = cast("BaseAnnotation[Any]", resolved[name]).unwrap()
    return resolved


async def _arrive_all(value: Any, known: list[Any], run: Run, port: Port) -> list[Any]:
    """Wait for every run in a value, and for those that a list in it gets meanwhile.

    Returns:
        States, and futures of runs that may be elsewhere.
    """
    arrived: set[int] = set()
    foreign: list[Any] = []
    waited = True
    while waited:
        waited = False
        for item in find(value, UPSTREAM) or known:
            if id(item) not in arrived:
                arrived.add(id(item))
                waited |= await _arrive(item, run, port)
                if not isinstance(item, RunFuture):
                    foreign.append(item)
    return foreign


async def _load(value: Any, foreign: list[Any], port: Port) -> dict[int, State[Any]]:
    """Give the states of those whose values a storage has, by their ids, with these values."""
    states = {id(item): state for item in foreign if isinstance((state := _state_of(item)).data, KeptElsewhere)}
    if states and not find(value, (allow_failure,)):  # else nobody asks for the exceptions of failures
        states = {key: state for key, state in states.items() if state.type is StateType.COMPLETED}
    return {key: await with_value(state, along(port)) for key, state in states.items()}


async def follow(future: TaskFuture[Any], run: Run, port: Port, deadline: float | None = None) -> bool:
    """Wait in a run's life for the run behind a future, until a deadline at most; tell whether that took time."""
    if isinstance(future, DistributedTaskFuture):  # nobody tells of its end
        waits = False
        while not future.is_known() and (deadline is None or monotonic() < deadline):
            waits = True
            await wait_in_life(Once(), run, port, future.poll_seconds)
        return waits
    ended = future.when_done()
    waits = not ended.is_set
    if waits:
        await wait_in_life(ended, run, port, None if deadline is None else max(0.0, deadline - monotonic()))
    return waits


async def _arrive(item: Any, run: Run, port: Port) -> bool:
    """Wait for one run; tell whether that took time."""
    if isinstance(item, RunFuture):
        if item.run is run:
            raise ValueError("A run cannot wait for itself: this would be a deadlock. Take it out of its `wait_for`.")
        waits = not item.run.when_ended().is_set
        if waits:
            await wait_for_input(item.run, run, port)
        return waits
    if not isinstance(item, TaskFuture):
        return False
    foreign = cast("TaskFuture[Any]", item)
    waits = await follow(foreign, run, port)
    foreign.wait(0)
    return waits


def _state_of(item: Any) -> State[Any]:
    return cast("State[Any]", item) if isinstance(item, State) else item.state


def _strict(item: Any) -> Any:
    if isinstance(item, RunFuture) and (end := item.plain_end()) is not None:
        return end.data
    state = _state_of(item)
    if state.type is not StateType.COMPLETED:
        run_id = run_id_of(item)
        what = f"state {state}" if run_id is None else f"run '{run_id}'"
        raise NotReady(f"Upstream {what} did not reach a 'COMPLETED' state.")
    return value_of(state)


def _lenient(item: Any) -> Any:
    state = _state_of(item)
    return value_of(state, raise_on_failure=False) if state.is_final() else _strict(item)


def _in_place(fn: Replacer, loaded: dict[int, State[Any]]) -> Replacer:
    return lambda item: fn(loaded.get(id(item), item))


def _itself(item: Any) -> Any:
    return item
