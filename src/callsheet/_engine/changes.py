"""Noticing that a flow's code, or what it is called with, is not what an earlier life of its run has recorded.

Nobody looks while an unchanged flow goes on where it was cut off: a call that differs then is merely not deterministic,
and its recorded outcome stands. Where the code has another digest, or somebody runs the run again (or a fork of it), a
call differs whose inputs have another digest, or which is none of those that there were while recorded ones are left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

from callsheet._engine.steps import Step
from callsheet.exceptions import FlowChanged

if TYPE_CHECKING:
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._engine.memory import Memory
    from callsheet._engine.task_run import TaskRunActor

OnChange = Literal["rerun", "fail", "ignore"]
_NAMED: Final = 5  # recorded calls that a message names


class Watch:
    """Compares the calls of one flow run with what is remembered of it.

    Args:
        on_change: What to do about a difference.
        open_: The keys of runs in it that are not taken over: calls of these are no news.
    """

    __slots__ = ("_on_change", "_open")

    def __init__(self, on_change: OnChange, open_: Iterable[str]) -> None:
        self._on_change = on_change
        self._open = Counter(open_)

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
            if then is None or now is None or then == now:
                return None
            return (
                f"{name!r} was called with other inputs in the run {remembered.record.name!r} ({remembered.record.id})."
            )
        if self._open[key] > 0:
            self._open[key] -= 1
            return None
        left = memory.names_left()
        if not left:
            return None
        more = ", …" if len(left) > _NAMED else ""
        recorded = ", ".join(map(repr, left[:_NAMED]))
        return f"it calls {name!r} where calls of {recorded}{more} are recorded and come later or not at all."


def patch(run: FlowRunActor, name: str) -> bool:
    """Tell, once for each name and run, whether the body takes the new way: see `callsheet.patched`."""
    step = Step(run, f"patch:{name}", named=True)
    if not step.known:
        memory = run.core.memories.get(run.cell.id)
        step.record(memory is None or not memory.names_left())
    return bool(step.value)
