"""Which engine a call uses, and the one that is there when nobody made any."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from callsheet._clock import SYSTEM_CLOCK
from callsheet._kernel.host import current_host, runtime_thread
from callsheet.context import EngineContext
from callsheet.settings import get_current_settings, refresh_settings

if TYPE_CHECKING:
    from callsheet._clock import Clock
    from callsheet._engine.core import Core
    from callsheet._kernel.host import Host
    from callsheet.settings import Settings

_NO_SERVER: Final = (
    "CALLSHEET_API_URL is set, but no server is told of runs: their history is kept in %s. Addresses of runs are made of it, "
    "and nothing else."
)

_lock = threading.Lock()
_cores: dict[tuple[str, str], Core] = {}  # by database and durability
_lost: list[Core] = []  # which others took for dead, so that new ones took their places
_latest: tuple[Settings, Core] | None = None
_explicit: list[Any] = []  # open engines of this process, in the order of opening


def core_for_call(host: Host | None) -> Core:
    """Give the machinery for a root run that is called here.

    An explicit engine of the context, of this loop, or the only one of the process, in this order; else the
    ambient one, which every loop and thread of the process shares.
    """
    if _explicit:
        context = EngineContext.get()
        if context is not None and context.engine.usable:
            return context.engine.core
        if host is not None:
            for engine in reversed(host.engines):
                if engine.usable:
                    return engine.core
        if len(_explicit) == 1 and _explicit[0].usable:
            return _explicit[0].core
    return ambient_core()


def is_explicit() -> bool:
    """Tell whether an explicit engine is open in this process."""
    return bool(_explicit)


def is_open() -> bool:
    """Tell whether `core_for_call` gives what is open already, without a wait for the disk."""
    latest = _latest
    return bool(_explicit) or (latest is not None and latest[0] is get_current_settings() and latest[1].usable)


def ambient_core() -> Core:
    """Give the ambient machinery for the current settings, made when it is first needed.

    Raises:
        StoreError: The database that the settings name cannot be used; the message says why.
    """
    global _latest
    settings = get_current_settings()
    latest = _latest
    if latest is not None and latest[0] is settings and latest[1].usable:
        return latest[1]
    settings = refresh_settings()
    key = (settings.database, settings.durability.value)
    with _lock:
        core = _cores.get(key)
        if core is None or not core.usable:
            if core is not None:
                _lost.append(core)
            core = _cores[key] = open_core(settings, clock=SYSTEM_CLOCK)  # it outlives every virtual test
        _latest = (get_current_settings(), core)
    return core


def open_core(settings: Settings, store: Any = None, *, clock: Clock | None = None) -> Core:
    """Open the store that settings name, and the machinery on top of it; its clock is that of the context, else."""
    from callsheet._engine.core import Core

    if store is None:
        if settings.api_url is not None:
            from callsheet.logging.loggers import get_logger

            get_logger("engine").warning(_NO_SERVER, settings.database)
        if settings.database == ":memory:":
            from callsheet._store.memory import MemoryStore

            store = MemoryStore()
        else:
            from callsheet._store.sqlite import SqliteStore

            store = SqliteStore(settings.database)
    return Core(store, settings, clock=clock)


def opened(engine: Any) -> None:
    """Note that an explicit engine is open."""
    _explicit.append(engine)
    host = current_host()
    if host is not None:
        host.engines.append(engine)


def closed(engine: Any, core: Core) -> None:
    """Note that an explicit engine is not open any more."""
    if engine in _explicit:
        _explicit.remove(engine)
    host = core.home
    if host is not None and engine in host.engines:
        host.engines.remove(engine)


def forget_dead() -> None:
    """Forget explicit engines that nobody has closed, and nobody will: their processes have died, in a simulation."""
    for engine in [one for one in _explicit if not one.usable]:
        _explicit.remove(engine)


def shut_down(timeout: float = 10.0) -> None:
    """Write down and close every ambient engine of this process; the next run opens one again.

    Raises:
        StoreError: Something could not be saved; the first such error.
    """
    global _latest
    runtime_thread.stop()
    _close_storages()
    with _lock:
        cores, _latest = [*_cores.values(), *_lost], None
        _cores.clear()
        _lost.clear()
    errors: list[Exception] = []
    for core in cores:
        try:
            core.close(timeout)
        except Exception as error:
            errors.append(error)
    if errors:
        raise errors[0]


def close_database(database: str, timeout: float = 10.0) -> None:
    """Write down and close the ambient engines of one database; the next run opens one again.

    Raises:
        StoreError: Something could not be saved.
    """
    global _latest
    with _lock:
        cores = [_cores.pop(key) for key in list(_cores) if key[0] == database]
        _latest = None
    for core in cores:
        core.close(timeout)


def empty_current() -> None:
    """Begin the ambient history of the current settings anew.

    Raises:
        RuntimeError: Runs are alive in it.
    """
    core = ambient_core()
    if core.orchestrator.roots:
        raise RuntimeError("The history cannot be emptied while runs are alive in it.")
    database = core.store.location
    close_database(get_current_settings().database)
    if database != "memory":
        for name in (database, f"{database}-wal", f"{database}-shm"):
            Path(name).unlink(missing_ok=True)
        _close_storages()
        import shutil  # 6 ms of a cold start, with the compressions that it knows

        shutil.rmtree(f"{database}-results", ignore_errors=True)
    else:
        _close_storages(clear=True)


def _close_storages(*, clear: bool = False) -> None:
    """Let go of the files of default storages, where results were kept at all."""
    places = sys.modules.get("callsheet._results.places")
    if places is not None:
        places.close_defaults(clear=clear)


def _at_exit() -> None:
    # Registered before any thread of ours exists; threads that are needed to flush are running already.
    try:
        shut_down()
    except Exception as error:
        sys.stderr.write(f"callsheet: {error}\n")


def _forget_after_fork() -> None:
    global _lock, _latest
    _lock = threading.Lock()
    _latest = None
    _cores.clear()
    _lost.clear()
    _explicit.clear()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_forget_after_fork)
