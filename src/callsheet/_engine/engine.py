"""The explicit engine: for services that own their start and their end."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import Token
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from callsheet._engine import ambient
from callsheet._engine.ownership import flows_by_key
from callsheet._kernel.host import Host, current_host, here
from callsheet._kernel.ports import LoopPort, apart
from callsheet._kernel.threads import start_thread
from callsheet._model.kinds import Durability
from callsheet.context import EngineContext, current_run
from callsheet.exceptions import EngineClosed, StoreError
from callsheet.logging.loggers import get_logger
from callsheet.settings import Settings, get_current_settings, refresh_settings

if TYPE_CHECKING:
    from pathlib import Path

    from callsheet._engine.core import Core
    from callsheet._engine.recovery import Recovery
    from callsheet.flows import Flow

T = TypeVar("T")
_STORE_SECONDS: Final = 10.0  # for what is still to be written at the end


class Engine:
    """Runs flows and tasks on the current event loop, from `async with` to its end.

    Without one, runs use the ambient engine of the process. With one, the program decides where history is kept
    and what happens at shutdown: the engine takes no new root runs, lets the running ones finish, cancels what is
    still running after `drain_seconds`, and writes everything down. Flows and tasks that are called while it is open,
    on its loop or in threads, use it by themselves.

    Signal handlers, the root logger, thread limiters and the event loop's policy are never touched.

    Args:
        database: File of the history, or ``:memory:``. Default: the setting `CALLSHEET_DATABASE`.
        durability: What is on disk before a caller goes on: ``off``, ``relaxed``, ``results`` or ``strict``.
            Default: the setting `CALLSHEET_DURABILITY`.
        drain_seconds: How long running runs may take to finish at the end, in seconds. Default: the setting.
        flows: Flows whose runs this engine takes up: those that a dead engine left, and those that were suspended and
            are resumed.
        recover: Whether it does so, from its opening to its end. It also marks as crashed what a dead engine left and
            no living one knows. Default: where `flows` are given.

    Raises:
        TypeError: One of `flows` is no flow.
        ValueError: There is no such durability, or `drain_seconds` is negative, or `recover` is set at ``off``, where
            nothing is on record.

    Example:
        >>> import asyncio
        >>> from callsheet import flow
        >>> @flow
        ... async def hello(name: str) -> str:
        ...     return f"hello {name}"
        >>> async def main() -> str:
        ...     async with Engine(database=":memory:"):
        ...         return await hello("marvin")
        >>> asyncio.run(main())
        'hello marvin'
    """

    def __init__(
        self,
        database: str | Path | None = None,
        *,
        durability: Durability | str | None = None,
        drain_seconds: float | None = None,
        flows: Iterable[Flow[..., Any]] = (),
        recover: bool | None = None,
    ) -> None:
        if drain_seconds is not None and not drain_seconds >= 0:
            raise ValueError("`drain_seconds` must be >= 0.")
        self._database = None if database is None else os.fspath(database)
        self._durability = None if durability is None else Durability(durability)
        self._drain_seconds = drain_seconds
        self._flows = flows_by_key(flows)
        self._recovers = bool(self._flows) if recover is None else recover
        if recover and self._durability is Durability.OFF:
            raise ValueError("`recover=True` needs a history: set `durability` to something else than 'off'.")
        self._recovery: Recovery | None = None
        self._settings = get_current_settings()
        self._renewing = threading.RLock()
        self._core: Core | None = None
        self._context: EngineContext | None = None
        self._token: Token[Any] | None = None
        self.left: tuple[str, ...] = ()

    @property
    def core(self) -> Core:
        """Give the machinery of the open engine.

        Raises:
            EngineClosed: It is not open.
        """
        core = self._core
        if core is None:
            raise EngineClosed("This engine is not open. Use it as `async with Engine(...):` or as a lifespan.")
        return self._instead_of(core) if core.lost else core

    @property
    def usable(self) -> bool:
        """Tell whether runs can be started in it here."""
        return self._core is not None and (self._core.usable or self._core.lost)

    def _opened(self, settings: Settings) -> Core:
        return ambient.open_core(settings)

    def _made(self, settings: Settings, home: Host | None) -> Core:
        """Make the machinery; blocks on the disk."""
        core = self._opened(settings)
        core.home = home
        core.flows = self._flows
        core.journal.on_lost(lambda: self._replace(core))
        if self._recovers and core.durability is not Durability.OFF:
            from callsheet._engine.recovery import Recovery

            core.ownership.take_up(tuple(self._flows))
            self._recovery = Recovery(core)
            self._recovery.start()
        return core

    def _replace(self, core: Core) -> None:
        """Make new machinery when others have taken this one for dead: runs may be waiting to be taken up."""

        def make() -> None:
            try:
                if self._core is core:
                    self._instead_of(core)
            except StoreError as error:  # the next run meets it too, and hears of it
                get_logger("engine").warning("No engine could be opened in the place of a lost one: %s", error)

        with suppress(RuntimeError):  # the interpreter is shutting down
            start_thread(make, "callsheet-open")

    def _instead_of(self, core: Core) -> Core:
        with self._renewing:
            if self._core is not core:
                return core if self._core is None else self._core
            self._core = self._made(self._settings, core.home)
            return self._core

    async def __aenter__(self) -> Self:
        """Open it.

        Raises:
            RuntimeError: It is open, or no event loop runs here.
            StoreError: The database cannot be used; the message says why.
        """
        host = current_host()
        if host is None:
            raise RuntimeError("An engine is opened in async code: `async with Engine(...)` on asyncio or trio.")
        if self._core is not None:
            raise RuntimeError("This engine is open already.")
        settings = refresh_settings()
        if self._database is not None:
            settings = msgspec.structs.replace(settings, database=self._database)
        if self._durability is not None:
            settings = msgspec.structs.replace(settings, durability=self._durability)
        if self._drain_seconds is None:
            self._drain_seconds = settings.drain_seconds
        if settings.database == ":memory:":
            core = self._made(settings, host)
        else:
            core = await _off_loop(lambda: self._made(settings, host))
        self._settings = settings
        self._core, self.left = core, ()
        ambient.opened(self)
        self._context = EngineContext(engine=self)
        self._context.__enter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drain and close it.

        Raises:
            StoreError: Something could not be written down; the message tells exactly what.
        """
        core = self._core or self.core  # one that is lost is not replaced for this
        running = current_run.get()
        if running is not None and running.core is core and not running.cell.ended:
            raise RuntimeError("An engine cannot be closed by a run of its own: it would wait for itself.")
        if self._recovery is not None:
            await _off_loop(self._recovery.stop)
        try:
            await self._drain(core)
        finally:
            with self._renewing:
                latest, self._core = self._core, None
            if latest is not None and latest is not core:  # others have taken it for dead meanwhile
                await _off_loop(lambda: latest.close(_STORE_SECONDS))
            ambient.closed(self, core)
            if self._context is not None:
                self._leave_context(self._context)
            await _off_loop(lambda: core.close(_STORE_SECONDS))

    def _leave_context(self, context: EngineContext) -> None:
        self._context = None
        try:
            context.__exit__()
        except ValueError:
            pass  # opened in one task and closed in another, as some frameworks do: that context is gone with its task

    async def _drain(self, core: Core) -> None:
        port = LoopPort(here())
        core.accepting = False
        idle = core.orchestrator.when_idle()
        if await port.shielded_wait(idle, self._drain_seconds):
            return
        cancelled = core.cancel_everything()
        logger = get_logger("engine")
        logger.warning(
            "%s runs had not finished after %s seconds of draining and are cancelled: %s",
            len(cancelled),
            self._drain_seconds,
            ", ".join(sorted(_said(cell) for cell in cancelled)),
        )
        if not await port.shielded_wait(idle, core.cancel_grace):
            self.left = tuple(sorted(_said(cell) for cell in core.orchestrator.roots))
            logger.error("These runs are still running and are left behind: %s", ", ".join(self.left))

    @asynccontextmanager
    async def _lifespan(self) -> AsyncGenerator[None, None]:
        async with self:
            yield

    def lifespan(self, app: object = None) -> Any:  # noqa: ARG002 - frameworks pass their application
        """Open the engine for the life of an application of Starlette, FastAPI or Litestar.

        Args:
            app: The application; not used.

        Returns:
            An asynchronous context manager.

        Example:
            >>> engine = Engine(database=":memory:")
            >>> from starlette.applications import Starlette
            >>> app = Starlette(lifespan=engine.lifespan)
        """
        return self._lifespan()


def _said(cell: Any) -> str:
    actor = cell.actor
    return f"{'flow' if actor is None or actor.is_flow else 'task'} run {actor.name if actor is not None else cell.id}"


async def _off_loop(call: Callable[[], T]) -> T:
    """Make a call that may wait for the disk or other processes, on a thread of its own."""
    return await apart(call, LoopPort(here()), lambda job: start_thread(job, "callsheet-open"))
