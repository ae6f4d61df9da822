"""Noticing that a flow's code, or what it is called with, is not what an earlier life of its run has recorded.

Nobody looks while an unchanged flow goes on where it was cut off: a call that differs then is merely not deterministic,
and its recorded outcome stands. Where the code has another digest, or somebody runs the run again (or a fork of it), a
call differs

* whose inputs have another digest;
* which is none of those that there were, while recorded ones are left;
* which was made before one that it comes after now; and where the code has another digest, which comes while one that was
  made before it has not come (unchanged code may well go another way than in the attempt before).

The order is that of the calls of the body itself in one life of the run. Branches run as they like, and what was made in
several lives is in the order in which it was missing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from callsheet._engine.steps import Step
from callsheet._rules.identity import calls_of_body
from callsheet.exceptions import FlowChanged

if TYPE_CHECKING:
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._engine.memory import Memory, Remembered
    from callsheet._engine.task_run import TaskRunActor
    from callsheet._model.records import RunRecord

OnChange = Literal["rerun", "fail", "ignore"]
_NAMED: Final = 5  # recorded calls that a message names


class Order:
    """In which order the body of one flow run has made its calls, in one of its lives."""

    __slots__ = ("_came", "_last", "_places", "first", "names")

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}  # by call
        self.names: list[str] = []  # by place
        self._came: set[int] = set()
        self.first = 0  # the first place of which nothing has come
        self._last = -1  # the last one of which something has

    def add(self, call: bytes, name: str) -> None:
        """Note the next call; an element of a `map` whose call is noted adds nothing."""
        if self._places.setdefault(call, len(self.names)) == len(self.names):
            self.names.append(name)

    def place(self, call: bytes) -> int:
        """Give the place of a call."""
        return self._places[call]

    def come(self, call: bytes, *, strictly: bool) -> str | None:
        """Note that a call comes; give what is wrong with its place."""
        place, name = self._places[call], self.names[self._places[call]]
        if place in self._came:
            return None
        first, last = self.first, self._last
        self._came.add(place)
        self._last = max(last, place)
        while self.first in self._came:
            self.first += 1
        if strictly and first < place:
            return (
                f"it calls {name!r} where a call of {self.names[first]!r} is recorded, which comes later or not at all."
            )
        if last > place:
            return f"it calls {name!r} after {self.names[last]!r}, and the calls are recorded in the other order."
        return None


class Watch:
    """Compares the calls of one flow run with what is remembered of it.

    Args:
        on_change: What to do about a difference.
        open_: The keys of runs in it that are not taken over: calls of these are no news.
        orders: By identity, the call that it is (or is an element of), and the order in which that was made.
        strictly: Whether a call also differs that comes while an earlier one has not come.
    """

    __slots__ = ("_on_change", "_open", "_orders", "_strictly")

    def __init__(
        self,
        on_change: OnChange,
        open_: Iterable[str],
        orders: Mapping[bytes, tuple[bytes, Order]],
        *,
        strictly: bool,
    ) -> None:
        self._on_change = on_change
        self._open = Counter(open_)
        self._orders = orders
        self._strictly = strictly

    def admits(self, run: FlowRunActor | TaskRunActor, memory: Memory, identity: bytes) -> bool:
        """Tell whether what is remembered still counts for a call.

        Raises:
            FlowChanged: It does not, and the flow is to fail then.
        """
        difference = self._difference(run, memory, identity)
        if difference is None or self._on_change == "ignore":
            return True
        flow = run.flow_actor if not run.is_flow else run.cell.flow.actor  # pyright: ignore[reportOptionalMemberAccess]
        if self._on_change == "fail":
            raise FlowChanged(
                f"The flow run {flow.name!r} does not fit what it has recorded: {difference} Run the code that it was "
                "started with, mark what was changed on purpose by `callsheet.patched`, or choose another `on_change`."
            )
        flow.logger().warning("%s What follows runs again.", difference)
        return False

    def _difference(self, run: FlowRunActor | TaskRunActor, memory: Memory, identity: bytes) -> str | None:
        name, key = run.definition.name, run.cell.definition.key
        remembered = memory.look(identity)
        if remembered is not None:
            then, now = remembered.outcome.inputs_digest, run.digest
            if then is not None and now is not None and then != now:
                return (
                    f"{name!r} was called with other inputs in the run {remembered.record.name!r} "
                    f"({remembered.record.id})."
                )
            call, order = self._orders.get(identity, (b"", None))
            return None if order is None else order.come(call, strictly=self._strictly)
        if self._open[key] > 0:
            self._open[key] -= 1
            return None
        left = [one.record.definition.name for one in memory.left()]
        if not left:
            return None
        more = ", …" if len(left) > _NAMED else ""
        recorded = ", ".join(map(repr, left[:_NAMED]))
        return f"it calls {name!r} where calls of {recorded}{more} are recorded and come later or not at all."


def watching(
    run: FlowRunActor,
    remembered: Sequence[Remembered],
    open_: Iterable[str],
    begun: Mapping[UUID, Sequence[int]],
    *,
    has_other_code: bool,
) -> Watch:
    """Give what compares a run's calls with what is remembered of it.

    Args:
        run: The flow run.
        remembered: What is, the oldest first.
        open_: The keys of runs in it that are not taken over.
        begun: When bodies were called, by flow run: by its own id, and those of the runs that it was forked from.
        has_other_code: Whether its code is not that of its first life.
    """
    orders = orders_of(run.calls.parent, [(one.record, one.outcome.identity) for one in remembered], begun)
    return Watch(run.definition.on_change, open_, orders, strictly=has_other_code)


def orders_of(
    parent: bytes, made: Sequence[tuple[RunRecord, bytes]], begun: Mapping[UUID, Sequence[int]]
) -> dict[bytes, tuple[bytes, Order]]:
    """Give the orders in which the body of a flow run has made its calls, in each of its lives.

    Args:
        parent: The identity of the flow run.
        made: What was called, the oldest first, and the identity of the call.
        begun: When bodies were called, by flow run.

    Returns:
        By identity, the call that it is (or is an element of), and the order in which that was made. Calls of branches
        are left out.
    """
    calls = calls_of_body(parent, ((record.definition.key, identity) for record, identity in made))
    lives: dict[tuple[UUID, int], Order] = {}
    orders: dict[bytes, tuple[bytes, Order]] = {}
    for record, identity in made:
        call, source = calls.get(identity), record.flow_run_id
        if call is not None and source is not None:
            life = bisect_right(begun.get(source, ()), record.created)
            order = lives.setdefault((source, life), Order())
            order.add(call, record.definition.name)
            orders[identity] = call, order
    return orders


def patch(run: FlowRunActor, name: str) -> bool:
    """Tell, once for each name and run, whether the body takes the new way: see `callsheet.patched`."""
    step = Step(run, f"patch:{name}", named=True)
    if not step.known:
        memory = run.core.memories.get(run.cell.id)
        step.record(memory is None or not (memory.is_whole or memory.left()))
    return bool(step.value)
