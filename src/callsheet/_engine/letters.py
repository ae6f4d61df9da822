"""Letters between engines: orders for runs of another engine, with its answer, and news of them.

A run belongs to the engine that owns its root run. What somebody else wants of it goes there as a row in the store; the
journal's thread of that engine finds it, has it carried out, and puts the answer into the journal behind what was done,
so that an answer that can be read says what is on record. An engine that is found dead meanwhile is fenced, and whoever
asked goes on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec

from callsheet._clock import machine, monotonic
from callsheet._engine.deaths import Deaths
from callsheet._engine.history import records_of
from callsheet._engine.live import live_run
from callsheet._engine.places import Place
from callsheet._engine.run_inputs import Bell
from callsheet._engine.waiting import scope_here
from callsheet._ids import new_id
from callsheet._kernel.messages import NOT_ALIVE, Answer, Hold, Resumed, SetState, Suspend
from callsheet._kernel.ports import LoopPort, Port, sync_port
from callsheet._model.kinds import Durability
from callsheet._model.letters import Letter
from callsheet._model.records import Guard, LetterAnswered, LetterDropped, LetterSent, RunFilter, RunRecord
from callsheet._store.protocol import Reader
from callsheet.exceptions import StoreError
from callsheet.logging.loggers import engine_log

if TYPE_CHECKING:
    from callsheet._engine.core import Core

_LOG: Final = engine_log("callsheet.engine")
_LOOK: Final = 0.1  # seconds between looks whether the engine that is to answer lives
_PATIENT: Final = 0.25  # seconds in which an engine that lives has answered; before, nobody looks whether it does
_PAGE: Final = 500
_pack = msgspec.msgpack.Encoder().encode

ORDER: Final = "order"
RESUMED: Final = "resumed"
QUERY: Final = "query"

Order = SetState | Hold | Suspend
_order = msgspec.msgpack.Decoder(Order).decode
_order_answer = msgspec.msgpack.Decoder(Answer).decode


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """What an engine says to a letter: bytes that its kind knows how to read, or what went wrong."""

    body: bytes = b""
    error: str | None = None


_reply = msgspec.msgpack.Decoder(Reply).decode


class News(msgspec.Struct, frozen=True, array_like=True):
    """That a paused flow run was resumed elsewhere."""

    seq: int
    at: int
    answer: str | None


_news = msgspec.msgpack.Decoder(News).decode


class LetterRefused(StoreError):
    """Raised when the engine that owns a run cannot do what a letter wants."""


# --------------------------------------------------------------------------------------------- receiving


class Later:
    """Says that the answer to a letter is not known yet; `give_answer` gives it."""


LATER: Final = Later()
Receiver = Callable[["Core", Letter], bytes | Later | None]


def _carry_out(core: Core, letter: Letter) -> bytes:
    answer: Answer = core.ask(_order(letter.body))
    return _pack(answer)


def _resumed(core: Core, letter: Letter) -> None:
    news, pause = _news(letter.body), core.orchestrator.pauses.waiting.get(letter.to_run)
    if pause is not None:
        core.ask(Resumed(pause=pause, seq=news.seq, at=news.at, answer=news.answer))


def _asked(core: Core, letter: Letter) -> bytes | Later:
    from callsheet._engine.queries import asked

    return asked(core, letter)


RECEIVERS: Final[dict[str, Receiver]] = {ORDER: _carry_out, RESUMED: _resumed, QUERY: _asked}
"""What is done with each kind of letter, on the journal's thread: nothing may wait there. `None`: nobody waits for an answer."""


class Inbox:
    """The letters that an engine gets. While runs are alive in it, or it takes runs up, it looks whenever other processes have committed."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._latest = 0  # number; they do not come back
        if core.durability is not Durability.OFF and core.store.is_shared:
            core.journal.watch(self._look, lambda: bool(core.orchestrator.roots or core.flows))

    def _look(self) -> None:
        core = self._core
        position = 0
        for letter in core.store.letters_to(core.engine_id, self._latest):
            self._latest = letter.number
            if live_run(core, letter.to_run) is None and core.ownership.arrivals.when_settled(
                partial(_answer_late, core, letter)
            ):
                continue
            answer = _answer(core, letter)
            if not isinstance(answer, Later):
                position = core.journal.put(LetterAnswered(letter.token, core.clock.micros(), answer))
        if position:
            core.journal.notify(position, _nothing)  # somebody waits for it


def _answer(core: Core, letter: Letter) -> bytes | Later | None:
    receiver = RECEIVERS.get(letter.name)
    if receiver is None:
        return _pack(Reply(error=f"It does not know letters of the kind {letter.name!r}."))
    try:
        body = receiver(core, letter)
    except Exception as error:
        _LOG.exception("A letter of the kind %r could not be answered", letter.name)
        return _pack(Reply(error=f"{type(error).__name__}: {error}"))
    return _pack(Reply(body)) if isinstance(body, bytes) else body


def _answer_late(core: Core, letter: Letter) -> None:
    """Answer a letter about a run that was on its way into the engine."""
    answer = _answer(core, letter)
    if not isinstance(answer, Later):
        _put_answer(core, letter, answer)


def give_answer(core: Core, letter: Letter, body: bytes) -> None:
    """Answer a letter whose receiver said `LATER`, from any thread."""
    _put_answer(core, letter, _pack(Reply(body)))


def _put_answer(core: Core, letter: Letter, answer: bytes | None) -> None:
    try:
        position = core.journal.put(LetterAnswered(letter.token, core.clock.micros(), answer))
    except StoreError:  # closed meanwhile: whoever asked sees that the engine is gone
        return
    core.journal.notify(position, _nothing)


def _nothing() -> None:
    pass


# ----------------------------------------------------------------------------------------------- sending


async def order(place: Place, runs: Sequence[RunRecord], wanted: Sequence[Order]) -> list[Answer | None]:
    """Give orders for runs to the engines that own them, and wait for their answers.

    Args:
        place: From where.
        runs: Of which runs.
        wanted: What, of each.

    Returns:
        The answers, in order; `None`: the run is alive in no engine, or not any more. Whoever asks looks again then.

    Raises:
        StoreError: The history cannot be read or written, or an engine could not carry it out.
    """
    sending = _Sending(place, runs)
    bodies = await sending.through(ORDER, [_pack(_bare(one)) for one in wanted], None)
    answers = [None if body is None else _as_answer(body) for body in bodies]
    if sending.own:  # they were on their way when this engine was asked before
        await place.core.ownership.arrivals.settled(_port(place))
        for index in sending.own:
            answer = place.core.ask(wanted[index])
            answers[index] = None if answer is NOT_ALIVE else answer
    return answers


async def order_one(place: Place, run: RunRecord, wanted: Order) -> Answer | None:
    """Give an order for one run to the engine that owns it; where the run changes hands meanwhile, to the next one.

    Returns:
        The answer; `None`: the run is alive in no engine.

    Raises:
        StoreError: The history cannot be read or written, or an engine could not carry it out.
    """
    root, owner = run.root_id or run.id, None
    while True:
        (answer,) = await order(place, [run], [wanted])
        await place.catch_up()
        before, owner = owner, (await _owners(place.reader, [root])).get(root)
        if answer is not None or owner is None or owner == before:
            return answer


def _bare(order: Order) -> Order:
    """Leave out what means something in this process only."""
    return msgspec.structs.replace(order, data=None) if isinstance(order, SetState) else order


async def send(
    place: Place, runs: Sequence[RunRecord], name: str, bodies: Sequence[bytes], timeout: float | None = None
) -> list[bytes | None]:
    """Send a letter about each of several runs to the engines that own them, and wait for the answers.

    Args:
        place: From where.
        runs: The runs.
        name: What kind of letters: a key of `RECEIVERS`.
        bodies: What they say.
        timeout: Seconds to wait at most for all answers; `None`: as long as those live who are to answer.

    Returns:
        The answers, in order; `None`: no other living engine owns the run, or not any more. Whoever asks looks again then.

    Raises:
        TimeoutError: They did not answer in time.
        LetterRefused: An engine could not do it, and said why.
        StoreError: The history cannot be read or written.
    """
    return await _Sending(place, runs).through(name, bodies, timeout)


def _as_answer(body: bytes) -> Answer | None:
    said: Answer = _order_answer(body)
    return None if said == NOT_ALIVE else said


def _port(place: Place) -> Port:
    return sync_port() if place.host is None else LoopPort(place.host)


class _Sending:
    """Letters that are under way."""

    def __init__(self, place: Place, runs: Sequence[RunRecord]) -> None:
        self.answers: list[bytes | None] = [None] * len(runs)
        self.pending: dict[UUID, tuple[int, UUID]] = {}  # by token: which run, and whose it is
        self._place = place
        self._roots = [run.root_id or run.id for run in runs]
        self._runs = runs
        self._deaths = Deaths(place.core)
        self._tokens: list[UUID] = []
        self.own: list[int] = []  # which runs belong to the engine that asks

    async def through(self, name: str, bodies: Sequence[bytes], timeout: float | None) -> list[bytes | None]:
        await self._post(name, bodies)
        if self.pending:
            try:
                await self._wait(timeout)
            finally:
                self._close()
        return self.answers

    async def _post(self, name: str, bodies: Sequence[bytes]) -> None:
        core = self._place.core
        owners = await _owners(self._place.reader, self._roots)
        at = core.clock.micros()
        for index, (run, body) in enumerate(zip(self._runs, bodies, strict=True)):
            owner = owners.get(self._roots[index])
            if owner == core.engine_id:
                self.own.append(index)
            if owner is None or owner == core.engine_id:
                continue
            token = new_id()
            core.journal.put(LetterSent(token=token, to_engine=owner, to_run=run.id, name=name, body=body, at=at))
            self.pending[token] = index, owner
            self._tokens.append(token)

    async def _wait(self, timeout: float | None) -> None:
        place, bell = self._place, Bell()
        deadline = None if timeout is None else monotonic() + timeout
        port = _port(place)
        place.core.journal.watch(bell.ring)
        try:
            with self._deaths.watching():
                await self._until_answered(port, bell, deadline)
        finally:
            place.core.journal.unwatch(bell.ring)

    async def _until_answered(self, port: Port, bell: Bell, deadline: float | None) -> None:
        place, patient_until = self._place, machine.monotonic() + _PATIENT
        while True:
            bell.renew()
            await place.catch_up()
            owners = await _owners(place.reader, self._roots)  # first: who ends a run answers before
            self._take(await place.reader.read_letters(list(self.pending)))
            await self._give_up(owners, look=machine.monotonic() >= patient_until)
            if not self.pending:
                return
            left = _LOOK if deadline is None else deadline - monotonic()
            if left <= 0:
                raise TimeoutError
            await port.wait(bell.once, min(left, _LOOK), scope_here())

    def _take(self, found: Sequence[Letter]) -> None:
        for letter in found:
            if letter.answer is None:
                continue
            index, _ = self.pending.pop(letter.token)
            reply = _reply(letter.answer)
            if reply.error is not None:
                raise LetterRefused(f"The engine that runs it could not do that. {reply.error}")
            self.answers[index] = reply.body

    async def _give_up(self, owners: dict[UUID, UUID | None], *, look: bool) -> None:
        """Wait no longer for engines that have given the run away, or are dead."""
        dead = await self._place.apart(self._dead) if look and self.pending else set[UUID]()
        for token, (index, owner) in list(self.pending.items()):
            if owner in dead or owners.get(self._roots[index]) != owner:
                del self.pending[token]

    def _dead(self) -> set[UUID]:
        """Find the dead among those who are to answer (blocking)."""
        return {owner for owner in {owner for _, owner in self.pending.values()} if self._deaths.is_left(owner)}

    def _close(self) -> None:
        """Take the letters back."""
        self._place.core.journal.put(*(LetterDropped(token) for token in self._tokens))


async def news(reader: Reader, run: RunRecord, entered: Any, answer: str | None, *guards: Guard) -> LetterSent | None:
    """Give the letter that tells the owner of a paused run of its resumption; `None` where there is none.

    It is committed along with the state, or not at all.
    """
    owner = (await _owners(reader, [run.root_id or run.id])).get(run.root_id or run.id)
    if owner is None:
        return None
    body = _pack(News(entered.seq, entered.at, answer))
    return LetterSent(
        token=new_id(), to_engine=owner, to_run=run.id, name=RESUMED, body=body, at=entered.at, guards=guards
    )


async def _owners(reader: Reader, roots: Sequence[UUID]) -> dict[UUID, UUID | None]:
    """Give the owners of root runs."""
    wanted = sorted(set(roots))
    found: dict[UUID, UUID | None] = {}
    for start in range(0, len(wanted), _PAGE):
        some = tuple(wanted[start : start + _PAGE])
        page = await reader.read_runs(RunFilter(ids=some), limit=len(some))
        found.update((run.id, run.owner) for run in records_of(page.items))
    return found
