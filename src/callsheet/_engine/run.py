"""A run as an actor: one life for flow runs and task runs, from registration to the final state.

The life is written once, as coroutines that await only their port (see `_kernel.ports`). What flows and tasks do
differently is in the methods that their classes override; bodies are called in `bodies`, inputs are resolved in
`upstream`.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from callsheet._engine import leaving
from callsheet._engine.actor import Actor
from callsheet._engine.hooks import run_hooks, sheltered, show_before
from callsheet._engine.leaving import Final, Judged, NotRecoverable, as_raised, is_interruption, only_theirs
from callsheet._engine.ownership import lost
from callsheet._engine.recording import Remembered
from callsheet._engine.retrying import seconds, try_again
from callsheet._engine.state_values import crashed_state, is_cancellation
from callsheet._engine.upstream import NotReady
from callsheet._engine.waiting import wait_in_life
from callsheet._kernel.messages import CLOSED, Answer, Leave, Orphan, Propose
from callsheet._kernel.scopes import CANCEL, DEADLINE, PARENT, SIGNAL, SUSPEND, Interrupted, RunScope
from callsheet._kernel.signals import Once
from callsheet._model.kinds import TERMINAL_STATES, StateType
from callsheet._rules.verdicts import ACCEPT, Abort, Reject, Wait
from callsheet.context import current_run
from callsheet.exceptions import Pause, TerminationSignal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from callsheet._kernel.messages import SetState
    from callsheet._kernel.ports import Port

_S = StateType
# Names of their own: looking a member up in its enumeration costs as much as calling a function (3.11).
_RUNNING, _COMPLETED, _FAILED = StateType.RUNNING, StateType.COMPLETED, StateType.FAILED
_MOMENT = 0.01  # seconds
_enter, _leave = current_run.set, current_run.reset


class Run(Actor):
    """One run. Made by a call or a `submit`, lives in the coroutine `live`, and is kept by its future."""

    __slots__ = ()

    # ------------------------------------------------------------------------------------- the life

    async def live(self, port: Port) -> None:
        """Live from the first state to the last. Raises only what must be heard outside: cancellation, Ctrl-C."""
        token, final, reraise = _enter(self), None, None
        try:
            if (beginning := self.begin(port)) is not None:
                final = await beginning
            while final is None:
                value, error = None, None
                try:
                    value = await self.body(port)
                except BaseException as raised:
                    error = only_theirs(raised)
                judged = self.judge_attempt(port, value, error)
                final = judged if judged is None or isinstance(judged, Final) else await judged
                del value, error, judged
            if (rest := self.end(port, final)) is not None:
                await rest
            reraise = self.outcome().reraise
        finally:
            _leave(token)
            if self.unsaved and self.final is not None:
                # Nobody awaits this coroutine: it need not stay until that is committed.
                self.core.when_committed(self.unsaved, port, self.finish)
            else:
                self.finish()
            del self, final  # the frame of a body that failed leads back here, and the run holds the error
        if reraise is not None:
            try:
                raise reraise
            finally:
                del reraise

    def begin(self, port: Port) -> Awaitable[Final | None] | None:
        """Give what comes before the body, if anything does. Awaited, it gives the run's end where it does not get so far."""
        others = port.checkpoint() if self.cell.parent is None else port.due_checkpoint()
        return None if others is None and self.type is _RUNNING else self._begin(port, others)

    async def _begin(self, port: Port, others: Awaitable[None] | None) -> Final | None:
        try:
            if others is not None:
                await others
            if self.type is not _RUNNING:
                await self.prepare(port)
                await self.start(port, "Running")
            if self.is_flow and (hooks := self.hooks_for(self.type)):
                await self._call_hooks(hooks, partial(port.call, scope=self.scope))
        except BaseException as error:
            return self.before_body(only_theirs(error))
        return None

    def judge_attempt(self, port: Port, value: Any, error: BaseException | None) -> Judged:
        """Give what comes after an attempt."""
        if error is None:
            final = self.conclude(value)
            return try_again(self, port, final) if final.type is _FAILED else final
        if not self.core.abandoned:
            try:
                settling = self.settle_children(port, cancel=True)
                if settling is not None:
                    return self._failed(port, error, settling)
            except BaseException as another:
                error = another
        return try_again(self, port, self.final_of(error))

    async def start(self, port: Port, name: str) -> None:
        """Enter Running under a name, as soon as that may be.

        Raises:
            StoreError: The engine has no hold on its runs any more, since its history cannot be written.
            Interrupted: The run has to leave instead.
        """
        core = self.core
        while core.clock.micros() > core.orchestrator.granted_until:
            await self._wait_for_grant(port)
        while True:
            answer = self.propose(Propose(cell=self.cell, type=_RUNNING, name=name))
            verdict = answer.verdict
            if verdict is ACCEPT:
                return
            if isinstance(verdict, Wait) and verdict.gate:
                gate = self.core.orchestrator.pauses.gate_of(self.cell)
                if gate is not None:
                    await wait_in_life(gate, self, port)
            elif isinstance(verdict, Wait):
                until = verdict.until or 0.0
                await port.wait(Once(), seconds(answer.at, until), self.scope)
            elif isinstance(verdict, Abort):
                raise Interrupted
            elif isinstance(verdict, Reject) and verdict.type is not _RUNNING:
                self.scope.cancel(CANCEL)
                raise Interrupted
            else:
                return

    async def _wait_for_grant(self, port: Port) -> None:
        """Wait for a moment in which the engine may give a sign of life: until then others may take its runs over.

        Raises:
            StoreError: It could give none for so long that nobody waits for that.
            Interrupted: The run has to leave instead.
        """
        journal = self.core.journal
        failure = journal.failure
        if failure is not None and not journal.is_lost:  # else the scope says so
            raise failure.with_traceback(None)
        if journal.degraded is None:
            journal.renew_soon()
        await port.wait(Once(), _MOMENT, self.scope)

    def say_undone(self) -> None:
        """Enter the state of a run that ended and was rolled back. The outcome that callers have stays as it is."""
        if self.final is not None and self.final.type is _COMPLETED and self.core.usable:
            message = "The task run was rolled back as part of its transaction."
            self.core.ask(Propose(cell=self.cell, type=_COMPLETED, name="RolledBack", message=message))

    def renew(self) -> None:
        """Make ready for another attempt."""
        if self.scope.reason == DEADLINE:
            self.forget_deadline()
        self._context = None

    def forget_deadline(self) -> None:
        """Go on after an attempt whose time was up. Orders that came since then stand."""
        self.scope = RunScope()
        delivered = self.cell.delivered  # of which the scope before could not be told any more
        if delivered == "cancel":
            self.scope.cancel(CANCEL)
        elif delivered is not None and not self.is_flow:  # a flow run leaves at its next call
            self.scope.cancel(SUSPEND)

    def retry_condition(self, port: Port, final: Final) -> Awaitable[bool] | None:
        """Give what tells whether this failure is worth another attempt, where something does."""
        del port, final
        return None

    # --------------------------------------------------------------------------------- ways to leave

    def before_body(self, error: BaseException) -> Final:
        """Turn what was raised on the way to a body into a state."""
        if isinstance(error, NotReady):
            return Final(_S.PENDING, "NotReady", str(error))
        if isinstance(error, NotRecoverable):
            return Final(_S.CRASHED, "Crashed", f"The run was cut off and is not recoverable: {error}.")
        return self.final_of(error)

    async def _failed(self, port: Port, error: BaseException, settling: Awaitable[None]) -> Final | None:
        try:
            await settling
        except BaseException as another:  # a second Ctrl-C, or a cancellation: no more waiting
            error = another
        judged = try_again(self, port, self.final_of(error))
        return judged if judged is None or isinstance(judged, Final) else await judged

    def final_of(self, error: BaseException) -> Final:
        """Turn what was raised into a state, and say whether it must be raised on."""
        reason = self.scope.reason
        if reason == DEADLINE and (isinstance(error, Exception) or is_interruption(error)):
            return self._timed_out()  # else somebody outside wants us to leave as well, and must be heard
        if not isinstance(error, Exception) and leaving.is_terminated(self):
            ended = TerminationSignal(signal.SIGTERM)
            return Final(
                _S.CRASHED, "Crashed", crashed_state(ended).message, ended, None, ended if reason == SIGNAL else error
            )
        if isinstance(error, Pause):
            return Final(_S.CANCELLED, "Cancelled", _SUSPENDED_AROUND, reraise=error)
        if is_interruption(error):
            if reason == SUSPEND:
                return Final(_S.CANCELLED, "Cancelled", _SUSPENDED_AROUND)
            if reason is not None:
                heard = leaving.if_outer(self, error)
                return Final(_S.CANCELLED, "Cancelled", "The run was cancelled.", reraise=heard)
            return Final(_S.CANCELLED, "Cancelled", "The run around this one has ended.", reraise=error)
        if isinstance(error, Exception):
            if not self.definition.isasync:
                error = as_raised(error)
            return Final(_FAILED, "Failed", self.failure_message(error), error)
        if reason in (CANCEL, PARENT):
            return Final(_S.CANCELLED, "Cancelled", "The run was cancelled.", error, None, error)
        if is_cancellation(error) and leaving.outer_is_ending(self):
            return Final(_S.CANCELLED, "Cancelled", "The run around this one has ended.", reraise=error)
        return Final(_S.CRASHED, "Crashed", crashed_state(error).message, error, None, error)

    def failure_message(self, error: BaseException) -> str:
        """Say what a body raised."""
        raise NotImplementedError

    def _timed_out(self) -> Final:
        seconds = self.definition.timeout_seconds
        error = TimeoutError(f"{self.noun} run timed out after {seconds} second(s)")
        return Final(_FAILED, "TimedOut", f"{self.noun} run exceeded timeout of {seconds} second(s)", error)

    # ---------------------------------------------------------------------------------------- the end

    def end(self, port: Port, final: Final) -> Awaitable[object] | None:
        """Enter the final state. Give what is to be awaited then, if anything is: hooks, and the acknowledgement that is due."""
        position = 0
        if self.core.abandoned:
            self._end_abandoned(final)
            return None
        if self.cell.ended:
            if self.type is not self.cell.type:  # the engine was closed around it
                self.entered(_S.CRASHED, "Crashed", Answer(ACCEPT, self.cell.seq, self.core.clock.micros(), 0))
                final = Final(_S.CRASHED, "Crashed", CLOSED, None, None, final.reraise)
            self._state = None  # else its last failure was final already
        elif self.cell.overruled is not None:
            position, final = self.overruled(self.cell.overruled, final)
        else:
            if self.detached and self.hooks_for(final.type):
                self._say_hooks_follow()
            rest = self.proposal(final, port)
            if not isinstance(rest, Remembered):
                return self._end_later(port, final, rest)
            position, final = self._propose_final(final, rest)
        return self._ended(port, final, position)

    def _say_hooks_follow(self) -> None:
        """Let the flow run around this one wait until the hooks have been called, although this one has left by then."""
        around = None if self.cell.flow is None else self.cell.flow.actor
        if around is not None:
            around.hooking.append(self.when_ended())

    async def _end_later(self, port: Port, final: Final, rest: Awaitable[Remembered]) -> None:
        position, final = self._propose_final(final, await rest)
        if (others := self._ended(port, final, position)) is not None:
            await others

    def _ended(self, port: Port, final: Final, position: int) -> Awaitable[object] | None:
        self._note(final)
        hooks = self.hooks_for(self.type)
        return self._with_hooks(port, final, position, hooks) if hooks else self._acknowledged(port, final, position)

    async def _with_hooks(self, port: Port, final: Final, position: int, hooks: list[Callable[..., Any]]) -> None:
        await self._call_hooks(hooks, port.call)
        if (committed := self._acknowledged(port, final, position)) is not None:
            await committed

    def _acknowledged(self, port: Port, final: Final, position: int) -> Awaitable[object] | None:
        if not position or final.reraise is not None or not (self.core.acknowledges_all or self.is_promised(final)):
            return None
        if self.detached:
            self.unsaved = position
            return None
        return self.core.acknowledge(self.cell, position, port)

    def outcome(self) -> Final:
        """Give how the run has ended: as it said, unless its end may not be on record."""
        final: Any = self.final
        return self._end_abandoned(final) if self.core.journal.is_lost else final

    def _end_abandoned(self, final: Final) -> Final:
        """End without a trace: the run is somebody else's, and so are its states and its hooks."""
        if self.core.journal.is_lost:
            error, reraise = lost(self.core), final.reraise
            if reraise is not None and is_interruption(reraise):
                reraise = leaving.if_outer(self, reraise)
            final = Final(_S.CRASHED, "Crashed", str(error), error, None, reraise)
            self.type, self.state_name, self._state = final.type, final.name, None
        self.final = final
        return final

    def _note(self, final: Final) -> None:
        self.final = final
        self.concluded(final)
        if self.undone:
            self.say_undone()
        if self._record is not None:
            self._record.set_state(self.state)
        if final.type is not _COMPLETED:
            self.log_end(final)

    def overruled(self, order: SetState, final: Final) -> tuple[int, Final]:
        """Take over the state in which somebody else has ended this run, and leave."""
        self.core.ask(Leave(self.cell))  # after which the state is entered for certain
        self.entered(order.type, order.name, Answer(ACCEPT, self.cell.seq, order.at, 0))
        self._state = None
        return 0, Final(order.type, order.name, order.message, order.data, None, final.reraise)

    def _propose_final(self, final: Final, rest: Remembered) -> tuple[int, Final]:
        made = final.made
        answer = self.propose(
            Propose(
                cell=self.cell,
                type=final.type,
                name=final.name,
                message=final.message,
                retriable=False,
                state_id=None if made is None else made.id,
                details=rest.details,
                identity=rest.identity,
                inputs_digest=rest.inputs_digest,
                result=rest.result,
                recorded=rest.recorded,
            )
        )
        verdict = answer.verdict
        if isinstance(verdict, Abort) and self.cell.overruled is not None:  # while this was on its way
            return self.overruled(self.cell.overruled, final)
        if isinstance(verdict, Reject):
            final = Final(verdict.type, verdict.name, verdict.message, final.data, None, final.reraise)
        if final.type not in TERMINAL_STATES:
            self.core.ask(Leave(self.cell))
        self._state = None
        return answer.position, final

    async def _call_hooks(self, hooks: list[Callable[..., Any]], call: Callable[..., Awaitable[object]]) -> None:
        if self.core.replay is not None:
            return
        if self.final is not None and self.final.reraise is not None:
            # Where cancellation is delivered again at every await, an async hook could do nothing.
            hooks = [sheltered(hook, self.core.cancel_grace) for hook in hooks]
        try:
            await run_hooks(hooks, (self.definition, self.record, self.state), logger=self.logger(), call=call)
        except BaseException as error:
            if self.final is not None:
                show_before(error, self.final.data)
            raise

    def never_begun(self, error: BaseException) -> None:
        """End a run that there is no place for. Its hooks have none either."""
        final = Final(_S.CRASHED, "Crashed", crashed_state(error).message, error)
        self._propose_final(final, Remembered())
        self._note(final)
        self.finish()

    def finish(self) -> None:
        """Let everybody know who waits."""
        if self.unsaved and self.core.journal.is_lost and self.final is not None:
            self._end_abandoned(self.final)
        self.release()
        if self.final is None:  # something of ours failed on the way: nobody may wait for ever
            self.final = Final(_S.CRASHED, "Crashed", "The engine could not end this run.")
            self.state_name, self._state = "Crashed", None
            self.core.orchestrator.mailbox.leave(Orphan(self.cell))
            self.core.orchestrator.mailbox.sweep()
        if not self.cell.ended:
            self.core.ask(Leave(self.cell))
        self.task = None
        self.cell.actor = None  # it would keep the two alive for the garbage collector
        ended = self.ended
        if ended is not None:
            ended.set()

    def log_end(self, final: Final) -> None:
        """Tell the run's log how a run ended that did not complete, where that is worth a line."""


_SUSPENDED_AROUND = "The flow run around this one was suspended."
