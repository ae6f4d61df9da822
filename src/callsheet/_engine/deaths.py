"""Which engines of a history are gone."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
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

    # ------------------------------------------------------------------------- for who waits for one of them

    @contextmanager
    def watching(self) -> Generator[None, None, None]:
        """Let the engine give signs of life meanwhile: who gives none cannot say that others do not."""
        ownership = self._core.ownership
        ownership.watchers.add(self)
        try:
            yield
        finally:
            ownership.watchers.discard(self)

    def is_left(self, owner: UUID) -> bool:
        """Tell whether an engine's runs are to be had; one that is found dead here is fenced (blocking).

        Raises:
            LostOwnership: Others have taken this engine for dead.
            StoreError: The history cannot be read or written.
        """
        core = self._core
        if owner == core.engine_id:
            return False
        engine = next((one for one in core.store.engines.read() if one.id == owner), None)
        if engine is None or engine.lost:
            return True
        if self.is_dead(engine):
            return core.store.engines.fence(engine.id, engine.beat)
        lease = core.ownership.listed()
        if lease is not None and not lease.is_fresh:
            lease.renew()  # the first one; from here on the journal's thread sees to it
        return False
