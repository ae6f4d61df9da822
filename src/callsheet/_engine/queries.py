"""Questions to live flow runs: handlers that a body registers, called where the body lives."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import msgspec

from callsheet._engine import letters
from callsheet._engine.core import cores
from callsheet._engine.history import the_run, the_run_soon
from callsheet._engine.live import live_run
from callsheet._engine.places import Place
from callsheet._engine.run_inputs import from_json, to_json
from callsheet._engine.waiting import scope_here
from callsheet._kernel import driver
from callsheet._kernel.host import Host, correct_library, current_host, runtime_thread
from callsheet._kernel.ports import THREAD_PORT, Port, run_on
from callsheet._kernel.signals import Once
from callsheet._model.kinds import TERMINAL_STATES, Kind
from callsheet._model.values import describe
from callsheet.context import FlowRunContext, TaskRunContext, current_run
from callsheet.exceptions import BlockingWaitError, QueryFailed, QueryTimeout, RunNotLive, UnknownQuery

if TYPE_CHECKING:
    from callsheet._engine.core import Core
    from callsheet._engine.flow_run import FlowRunActor
    from callsheet._model.letters import Letter


class Handler:
    """What answers a query.

    It runs in the context in which it was registered, but as code that is in no run: what it might start is none of
    the body's calls, which are counted. A body on an event loop is asked on that loop, so that the two never run at the
    same moment; one in a thread is asked from another thread while it goes on.
    """

    __slots__ = ("_context", "_fn", "_host")

    def __init__(self, fn: Callable[..., Any], host: Host | None) -> None:
        self._fn = fn
        self._host = host
        self._context = copy_context()
        self._context.run(current_run.set, None)

    def start(self, args: tuple[Any, ...], answer: Answer, port: Port, workers: Any) -> None:
        """Begin to answer.

        Raises:
            BlockingWaitError: The caller blocks the loop on which the answer would be given.
        """
        host, context = self._host, self._context.copy()
        if host is None:
            correct_library(context, None)
            workers.run(partial(context.run, self._in_thread, args, answer))
            return
        if port.host is None and host.is_here() and not driver.is_driven():
            raise BlockingWaitError(
                "This call blocks the event loop of the run that it asks. Use `await aquery_flow_run(...)` here."
            )
        host.post(partial(self._spawn, host, context, args, answer))

    def _spawn(self, host: Host, context: Context, args: tuple[Any, ...], answer: Answer) -> None:
        answer.task = host.spawn(partial(self._on_loop, args, answer), context)

    async def _on_loop(self, args: tuple[Any, ...], answer: Answer) -> None:
        try:
            value = self._fn(*args)
            answer.value = await value if isawaitable(value) else value
        except BaseException as error:  # the asker's to hear; the loop's end included
            answer.error = error
        finally:
            answer.done.set()

    def _in_thread(self, args: tuple[Any, ...], answer: Answer) -> None:
        try:
            value = self._fn(*args)
            answer.value = run_on(runtime_thread.host(), value) if isawaitable(value) else value
        except BaseException as error:
            answer.error = error
        finally:
            answer.done.set()


class Answer:
    """What a handler gives or raises."""

    __slots__ = ("done", "error", "task", "value")

    def __init__(self) -> None:
        self.done = Once()
        self.value: Any = None
        self.error: BaseException | None = None
        self.task: object = None


def register(name: str, fn: Callable[..., Any]) -> None:
    """Have queries of the current flow run answered by a function; a later one of the same name replaces it.

    Raises:
        RuntimeError: No flow's body is executing here.
    """
    run: Any = current_run.get()
    if TaskRunContext.get() is not None or FlowRunContext.get() is None or run is None or not run.is_flow:
        raise RuntimeError("Queries are answered by flow runs: register the handler in a flow's body, not in a task.")
    handlers: dict[str, Handler] = run.queries or {}
    handlers[name] = Handler(fn, current_host())
    run.queries = handlers


async def query(place: Place, port: Port, run_id: UUID, name: str, args: tuple[Any, ...], timeout: float | None) -> Any:
    """Ask a live flow run, of this process or of another one on the same history.

    Raises:
        ObjectNotFound: There is no such flow run.
        RunNotLive: It is alive nowhere.
        UnknownQuery: It answers no query of this name.
        QueryTimeout: It did not answer in time.
        QueryFailed: The handler in another process failed.
        BaseException: What the handler in this process raised.
    """
    run = _find(run_id)
    if run is None:
        said = await _ask_elsewhere(place, port, run_id, name, args, timeout)
        if said.what != "gone":
            return _understood(name, said)
        for core in cores():  # it may have been on its way into an engine of this process
            await core.ownership.arrivals.settled(port)
        run = _find(run_id)
    if run is None:
        raise await _not_live(place, run_id)
    answer = Answer()
    _handler_of(run, name).start(args, answer, port, run.core.workers)
    if not await port.wait(answer.done, timeout, scope_here()):
        raise _too_late(run_id, name, timeout)
    if answer.error is not None:
        raise answer.error
    return answer.value


def _too_late(run_id: UUID, name: str, timeout: float | None) -> QueryTimeout:
    return QueryTimeout(f"The flow run {run_id} did not answer the query {name!r} within {timeout} seconds.")


def _find(run_id: UUID) -> FlowRunActor | None:
    for core in cores():
        run = live_run(core, run_id) if core.usable else None
        if run is not None and run.is_flow:
            return run
    return None


def _handler_of(run: FlowRunActor, name: str) -> Handler:
    known: dict[str, Handler] = run.queries or {}
    handler = known.get(name)
    if handler is None:
        said = ", ".join(repr(one) for one in sorted(known)) or "none"
        raise UnknownQuery(
            f"The flow run {run.name!r} answers no query {name!r}. Its body has registered: {said}. "
            "It registers handlers with `on_query`, when it gets there."
        )
    return handler


# ------------------------------------------------------------------------------------ from process to process


class _Question(msgspec.Struct, frozen=True, array_like=True):
    name: str
    args: str  # JSON


class _Said(msgspec.Struct, frozen=True, array_like=True):
    what: Literal["value", "failed", "unknown", "gone"]
    text: str = ""  # a value as JSON, or what is wrong


_question = msgspec.msgpack.Decoder(_Question).decode
_said = msgspec.msgpack.Decoder(_Said).decode
_pack = msgspec.msgpack.Encoder().encode


async def _ask_elsewhere(
    place: Place, port: Port, run_id: UUID, name: str, args: tuple[Any, ...], timeout: float | None
) -> _Said:
    record = await the_run_soon(place, port, Kind.FLOW, run_id)
    body = _pack(_Question(name, to_json(args)))
    said = None
    if record.state is None or record.state.type not in TERMINAL_STATES:
        try:
            (said,) = await letters.send(place, [record], letters.QUERY, [body], timeout)
        except TimeoutError:
            raise _too_late(run_id, name, timeout) from None
    return _Said("gone") if said is None else _said(said)


def _understood(name: str, answer: _Said) -> Any:
    if answer.what == "failed":
        raise QueryFailed(f"The handler of the query {name!r} failed in the process of the flow run: {answer.text}")
    if answer.what == "unknown":
        raise UnknownQuery(answer.text)
    return from_json(answer.text)


def asked(core: Core, letter: Letter) -> bytes | letters.Later:
    """Have a live flow run of this process answer the query of another one. On the journal's thread: it begins here."""
    run, question = live_run(core, letter.to_run), _question(letter.body)
    if run is None or not run.is_flow:
        return _pack(_Said("gone"))
    answer = Answer()
    answer.done.subscribe(partial(_tell, core, letter, answer))
    try:
        handler = _handler_of(run, question.name)
    except UnknownQuery as error:
        return _pack(_Said("unknown", str(error)))
    handler.start(tuple(from_json(question.args)), answer, THREAD_PORT, core.workers)
    return letters.LATER


def _tell(core: Core, letter: Letter, answer: Answer) -> None:
    said = _Said("failed", "" if answer.error is None else describe(answer.error))
    if answer.error is None:
        try:
            said = _Said("value", to_json(answer.value))
        except Exception as error:  # what a model makes of itself may be anything
            said = _Said("failed", f"what it gives cannot be written as JSON: {error}")
    letters.give_answer(core, letter, _pack(said))


async def _not_live(place: Place, run_id: UUID) -> RunNotLive:
    await place.catch_up()
    state = (await the_run(place.reader, Kind.FLOW, run_id)).state
    if state is not None and state.type in TERMINAL_STATES:
        return RunNotLive(
            f"The flow run {run_id} has ended in the state {state.name!r} and answers no queries any more."
        )
    said = "" if state is None else f" Its state is {state.name!r}."
    return RunNotLive(f"The flow run {run_id} is alive in no process just now, so nobody can answer.{said}")
