"""Which engines of a history are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from callsheet._store import proofs

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._model.engines import EngineRecord


class Deaths:
    """Finds engines dead, for one who looks again and again.

    Args:
        core: The engine that looks. It must give signs of life itself meanwhile.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._folder = core.ownership.folder
        self._watches: dict[UUID, proofs.Watch] = {}

    def is_dead(self, engine: EngineRecord) -> bool:
        """Tell whether an engine is gone: by its proof, or because it owes signs of life and has given none."""
        if engine.id == self._core.engine_id:
            return False
        if self._folder is not None and proofs.is_gone(self._folder, engine.machine, engine.file):
            return True
        if not (engine.owns or engine.flows):  # it has nothing to be alive for
            self._watches.pop(engine.id, None)
            return False
        lease = self._core.ownership.lease
        if lease is None or not lease.is_fresh:  # who gets nothing through cannot say why others do not
            self._watches.pop(engine.id, None)
            return False
        return self._watches.setdefault(engine.id, proofs.Watch()).look(engine.beat, engine.lease)
