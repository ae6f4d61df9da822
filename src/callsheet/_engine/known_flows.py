"""Flows by the key under which the history knows them, and taking up a run of one that is known here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from uuid import UUID

from callsheet._engine.reviving import bring_to_life
from callsheet._model.kinds import StateType

if TYPE_CHECKING:
    from callsheet._engine.core import Core


def imported(key: str) -> Any:
    """Give the flow of a key where its module has been imported; importing runs code, which is not for us to do."""
    module, _, path = key.rpartition(":")
    for place in (module, "__main__"):  # flows of a program's own file are known by its path
        found: Any = sys.modules.get(place)
        for name in path.split("."):
            found = getattr(found, name, None)
        if getattr(found, "_entrypoint", None) == key:
            return found
    return None


def take_here(core: Core, run_id: UUID, flow: Any) -> None:
    """Take up a run that waits for it, unless another engine is faster. Blocks for a commit.

    Raises:
        EngineClosed: The engine takes no new runs.
        StoreError: The history cannot be written.
    """
    core.ownership.vouch()
    with core.ownership.arrivals.one():
        found = core.store.engines.take((run_id,), at=core.clock.micros())
        if found and found[0].type is StateType.PENDING:
            bring_to_life(core, run_id, flow)
