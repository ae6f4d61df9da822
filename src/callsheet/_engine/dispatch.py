"""Starting runs that nobody awaits in place: async ones on their loop, sync ones on a thread of ours."""

from __future__ import annotations

from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from callsheet._kernel.critical import critical
from callsheet._kernel.driver import driven
from callsheet._kernel.host import correct_library, runtime_thread
from callsheet._kernel.ports import THREAD_PORT, StartedPort, step
from callsheet.logging.loggers import engine_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from callsheet._engine.run import Run
    from callsheet._engine.waiting import Places
    from callsheet._kernel.host import Host

_LOG: Final = engine_log("callsheet.engine")


def start(run: Run, places: Places | None) -> None:
    """Start a registered run, at once or as soon as its runner has a place for it."""
    run.detached = True
    context = copy_context()
    if places is None:
        _launch(run, context)
        return

    def begin() -> None:
        run.places = places
        _launch(run, context)

    places.take(begin)


def _launch(run: Run, context: Context) -> None:
    if not run.definition.isasync:
        correct_library(context, None)
        # No lambda: its frame would hold the run for the error of a body.
        job = cast("Callable[[], None]", partial(context.run, _in_thread, run))
        try:
            run.core.workers.run(job)
        except RuntimeError as error:  # the system gives no thread: who waits for the run is told
            run.never_begun(error)
            _leave_place(run)
        return
    host = run.home
    if host is None or host.closed:
        host = runtime_thread.host()
        run.home = host
    if host.is_here():
        _spawn(run, host, context)
    else:
        host.post(partial(_spawn, run, host, context))


def _spawn(run: Run, host: Host, context: Context) -> None:
    run.task = host.spawn(partial(_on_loop, run, host), context)


async def _on_loop(run: Run, host: Host) -> None:
    try:
        await driven(run.live(StartedPort(host)))
    except Exception:  # a bug of ours; on trio it would end the host's program
        _LOG.exception("Run %s could not be carried to its end.", run.name)
    except BaseException:  # recorded as the run's end; whoever reads its future hears of it
        pass
    finally:
        _leave_place(run)
        del run  # the frame of a body that failed leads back here, and the run holds the error


def _in_thread(run: Run) -> None:
    try:
        with critical:
            step(run.live(THREAD_PORT))
    except BaseException:  # recorded as the run's end; its thread goes on to the next run
        pass
    finally:
        _leave_place(run)
        del run  # the frame of a body that failed leads back here, and the run holds the error


def _leave_place(run: Run) -> None:
    places: Any = run.places
    if places is not None:
        run.places = None
        places.give_back()
