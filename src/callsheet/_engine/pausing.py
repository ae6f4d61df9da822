"""Pausing the current flow run: the gate, the wait, and what was handed in."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import UUID

from callsheet._clock import from_micros, micros, monotonic, until_look
from callsheet._engine.decode import encode_details
from callsheet._engine.history import the_run
from callsheet._engine.places import LoopPlace, Place, ThreadPlace
from callsheet._engine.run_inputs import Bell, port_here, stored
from callsheet._engine.waiting import lent
from callsheet._kernel.messages import Answer, GiveUp, Propose, Resumed
from callsheet._kernel.pauses import Pause
from callsheet._kernel.ports import Port
from callsheet._kernel.scopes import Interrupted
from callsheet._model.kinds import Kind, StateType
from callsheet._model.records import InputDropped, InputStored
from callsheet._model.states import StateDetails
from callsheet._rules.verdicts import ACCEPT, Abort, GoOn, Wait
from callsheet.context import FlowRunContext, TaskRunContext, current_run
from callsheet.exceptions import FlowPauseTimeout

if TYPE_CHECKING:
    from callsheet._engine.flow_run import FlowRunActor


class Wanted(Protocol):
    """What a pause waits for besides the resumption."""

    def entries(self) -> dict[str, str]:
        """Give what is stored for those who answer: ``schema``, maybe ``description``, as JSON."""
        ...

    def load(self, text: str, run_id: UUID, key: str) -> Any:
        """Turn the answer (JSON) of a flow run, stored under a key, into the value that the body gets.

        Raises:
            ValueError: The answer is not what is waited for.
        """
        ...


PARTS: Final = ("description", "response", "schema")


def keyset(base: str) -> dict[str, str]:
    """Give the keys under which the parts of one question are stored."""
    return {part: f"{base}-{part}" for part in PARTS}


def question(run_id: UUID, keys: dict[str, str], wanted: Wanted, now: int) -> tuple[InputStored | InputDropped, ...]:
    """Give what is stored along with the state, for those who resume the run; an old answer is gone."""
    said = [stored(run_id, keys[part], text, at=now) for part, text in wanted.entries().items()]
    return (*said, InputDropped(run_id, keys["response"]))


def pausing_run() -> FlowRunActor:
    """Give the flow run whose body is executing here.

    Raises:
        RuntimeError: It is a task's body, or none.
    """
    if TaskRunContext.get() is not None:
        raise RuntimeError("Cannot pause task runs.")
    run: Any = current_run.get()
    if FlowRunContext.get() is None or run is None or not run.is_flow or run.cell.ended:
        raise RuntimeError("Flow runs can only be paused from within a flow run.")
    if not run.core.journal.keeps:
        raise RuntimeError(
            "Flow run cannot be paused: at durability 'off' nothing is kept by which it could be resumed."
        )
    return run


async def pause(
    run: FlowRunActor,
    wanted: Wanted | None,
    timeout: float | None,
    poll_interval: float,
    key: str | None,
    wake: datetime | None = None,
) -> Any:
    """Pause the current flow run until it is resumed, by somebody or at `wake`, and give what was handed in.

    Raises:
        FlowPauseTimeout: It was not resumed in time.
        RuntimeError: It cannot be paused now.
        Interrupted: The run must leave.
    """
    run.pauses += 1
    pausing = _Pausing(run, wanted, None if wake else timeout, poll_interval, str(run.pauses) if key is None else key)
    pausing.wake = wake
    if run.core.replay is not None:
        run.core.replay.pauses(run, pausing.key)
    run.logger().info("Pausing flow, execution will continue when this flow run is resumed.")
    try:
        return await lent(run, pausing.port, pausing.through)
    finally:
        await pausing.close()


class _Pausing:
    """One call of `pause`."""

    def __init__(
        self, run: FlowRunActor, wanted: Wanted | None, timeout: float | None, poll_interval: float, key: str
    ) -> None:
        self.run = run
        self.wanted = wanted
        self.key = key
        self.keys = keyset(f"paused-{key}")
        self.timeout = timeout
        self.poll_interval = max(0.01, poll_interval)
        self.until: int | None = None
        self.deadline: float | None = None
        self.wake: datetime | None = None
        self.port: Port = port_here()
        self.host = self.port.host
        self.shared = run.core.store.is_shared  # other processes may resume it
        self._place: Place | None = None

    # ------------------------------------------------------------------------------------- the whole

    async def through(self) -> Any:
        reason: str | None = None
        while True:
            pause = await self._begin(reason)
            if pause is not None:
                await self._wait(pause)
                self.run.logger().info("Resuming flow run execution!")
            if self.wanted is None:
                return None
            text = await self._answer(pause)
            try:
                return self._loaded(self.wanted, text)
            except ValueError as error:
                if pause is None:
                    raise
                reason = f"The input was refused: {error}"
                self.run.logger().warning("%s\nThe flow run stays paused.", reason)

    def _loaded(self, wanted: Wanted, text: str) -> Any:
        return wanted.load(text, self.run.cell.id, self.keys["response"])

    async def close(self) -> None:
        if self._place is not None:
            await self._place.reader.aclose()

    # ------------------------------------------------------------------------------------ beginning

    async def _begin(self, reason: str | None) -> Pause | None:
        """Enter Paused; `None` where this pause is over already."""
        run, core = self.run, self.run.core
        while True:
            now = core.clock.micros()
            if self.timeout is not None and self.until is None:
                self.until = now + round(self.timeout * 1e6)
                self.deadline = monotonic() + self.timeout
            if self.wake is not None:
                self.deadline = monotonic() + max(0.0, (micros(self.wake) - now) / 1e6)
            check = None if self.wanted is None else partial(self._loaded, self.wanted)
            pause = Pause(self.key, self.until, check, again=reason is not None)
            handed = () if self.wanted is None else question(run.cell.id, self.keys, self.wanted, now)
            answer = run.propose(
                Propose(
                    cell=run.cell,
                    type=StateType.PAUSED,
                    name="Paused",
                    message=reason,
                    details=self._details(),
                    pause=pause,
                    handed=handed,
                )
            )
            verdict = answer.verdict
            if verdict is ACCEPT:
                return pause
            if isinstance(verdict, GoOn):
                return None
            if isinstance(verdict, Abort):
                run.scope.check()
                raise RuntimeError(f"Flow run cannot be paused: {verdict.reason}")
            if not isinstance(verdict, Wait):  # an order was delivered, and the run has entered its state
                run.scope.check()
                raise Interrupted
            self.until = None  # the time runs from when it is paused
            gate = core.orchestrator.pauses.gate_of(run.cell)
            if gate is not None:
                await self.port.wait(gate, None, run.scope)

    def _details(self) -> bytes | None:
        return encode_details(
            StateDetails(
                pause_timeout=None if self.until is None else from_micros(self.until),
                scheduled_time=self.wake,
                pause_key=self.key,
                run_input_keyset=None if self.wanted is None else self.keys,
            )
        )

    # -------------------------------------------------------------------------------------- waiting

    async def _wait(self, pause: Pause) -> None:
        """Wait until the pause is over.

        Raises:
            FlowPauseTimeout: Nobody resumed the run in time.
            Interrupted: The run must leave.
        """
        run, journal = self.run, self.run.core.journal
        bell = Bell()
        pause.gate.subscribe(bell.ring)
        if self.shared:
            journal.watch(bell.ring)
        try:
            while not pause.gate.is_set:
                left = None if self.deadline is None else self.deadline - monotonic()
                if left is not None and left <= 0:
                    if self.wake is not None:
                        await self._resume()
                    await self._look(pause)
                    if pause.gate.is_set:
                        break
                    run.core.ask(GiveUp(run.cell))
                    break
                await self.port.wait(bell.once, self._patience(left), run.scope)
                bell.renew()
                await self._look(pause)
        finally:
            pause.gate.unsubscribe(bell.ring)
            if self.shared:
                journal.unwatch(bell.ring)
        if pause.resumed is None:
            run.scope.check()
            if run.cell.pause is pause and pause.is_over:
                raise FlowPauseTimeout("Flow run was paused and never resumed")
            raise Interrupted
        started, (seq, at) = run.started, pause.resumed
        run.entered(StateType.RUNNING, "Running", Answer(ACCEPT, seq, at, 0))
        run.started = started  # of the body, which goes on

    async def _resume(self) -> None:
        """Resume the run, as anybody could: its time has come. Input without defaults cannot be had so."""
        from callsheet._engine.resuming import resume

        await resume(self._here(), self.run.cell.id, None)

    def _patience(self, left: float | None) -> float | None:
        if not self.shared:
            return left
        return until_look(left, self.poll_interval)

    async def _look(self, pause: Pause) -> None:
        """Find out whether another process has resumed the run."""
        if pause.gate.is_set or not self.shared:
            return
        place = self._here()
        await place.catch_up()
        state = (await the_run(place.reader, Kind.FLOW, self.run.cell.id)).state
        if state is not None and state.type is StateType.RUNNING and state.seq > self.run.seq:
            self.run.core.ask(Resumed(pause=pause, seq=state.seq, at=state.at))

    async def _answer(self, pause: Pause | None) -> str:
        """Give what was handed in; a resumption without anything counts as ``{}``."""
        if pause is not None and pause.answer is not None:
            return pause.answer
        place = self._here()
        await place.catch_up()
        found = await place.reader.read_inputs(self.run.cell.id, key=self.keys["response"])
        return found[0].value if found else "{}"

    def _here(self) -> Place:
        if self._place is None:
            core = self.run.core
            self._place = ThreadPlace(core) if self.host is None else LoopPlace(core, self.host)
        return self._place
