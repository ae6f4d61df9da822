"""Attempts after the first: what a failure is taken for, and the way to the next attempt.

A task that is tried again at once waits for nothing on the way there. So these are plain functions, which give what is
to be awaited where something is.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from callsheet._engine.leaving import Final, Judged, only_theirs
from callsheet._engine.waiting import wait_in_life
from callsheet._kernel.messages import Propose
from callsheet._kernel.signals import Once
from callsheet._model.kinds import StateType
from callsheet._rules.retry import retry_delay
from callsheet._rules.verdicts import Reject, Wait
from callsheet.logging.loggers import say

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from callsheet._engine.run import Run
    from callsheet._kernel.messages import Answer
    from callsheet._kernel.ports import Port

# Names of their own: looking a member up in its enumeration costs as much as calling a function (3.11).
_RUNNING, _FAILED, _SCHEDULED = StateType.RUNNING, StateType.FAILED, StateType.SCHEDULED


def try_again(run: Run, port: Port, final: Final) -> Judged:
    """Propose the failure of an attempt.

    Returns:
        The run's end, or `None` where another attempt begins, or what gives either of them when it is awaited.
    """
    if final.type is not _FAILED or final.reraise is not None or run.cell.attempt > run.definition.retries:
        return final
    if run.core.abandoned:  # the run itself lives on: in the process that forked this one, or in another engine
        return final
    proposal = _failure(run, final)
    asked = run.retry_condition(port, final)
    return _propose(run, port, final, proposal) if asked is None else _if_wanted(run, port, final, proposal, asked)


def _failure(run: Run, final: Final) -> Propose:
    """Give the proposal of a failed attempt, with what the rules need to know to have another one begin."""
    definition = run.definition
    jitter: float | None = getattr(definition, "retry_jitter_factor", None)
    return Propose(
        cell=run.cell,
        type=final.type,
        name=final.name,
        message=final.message,
        retries=definition.retries,
        retry_delay=retry_delay(definition.retry_delay_seconds, run.cell.attempt, jitter, random.random()),
        tried=run.identity,
    )


def _propose(run: Run, port: Port, final: Final, proposal: Propose) -> Judged:
    attempt = run.cell.attempt
    answer = run.propose(proposal)
    if isinstance(answer.verdict, Wait):
        return _when_resumed(run, port, final, proposal)
    return _go_on(run, port, final, answer, attempt)


def _go_on(run: Run, port: Port, final: Final, answer: Answer, attempt: int) -> Judged:
    """Do what was decided about the failure of an attempt."""
    verdict = answer.verdict
    if not isinstance(verdict, Reject):
        return final
    if verdict.type is not _RUNNING and verdict.type is not _SCHEDULED:  # an order came first
        return Final(verdict.type, verdict.name, verdict.message, final.data, None, final.reraise)
    say(run.log_name, run.log_fields, "Attempt %s failed (%s); trying again.", attempt, final.message)
    run.renew()
    return None if verdict.type is _RUNNING else _when_due(run, port, seconds(answer.at, verdict.scheduled_at or 0.0))


async def _if_wanted(run: Run, port: Port, final: Final, proposal: Propose, asked: Awaitable[bool]) -> Final | None:
    """Go on once the condition of the retry has answered."""
    try:
        wanted = await asked
    except BaseException as error:
        return run.final_of(only_theirs(error))
    if not wanted:
        return msgspec.structs.replace(final, retriable=False)
    judged = _propose(run, port, final, proposal)
    return judged if judged is None or isinstance(judged, Final) else await judged


async def _when_resumed(run: Run, port: Port, final: Final, proposal: Propose) -> Final | None:
    """Wait at the gate of this flow run, as often as it is closed, and propose again."""
    attempt = run.cell.attempt
    while True:
        gate = run.core.orchestrator.pauses.gate_of(run.cell)
        try:
            if gate is not None:
                await wait_in_life(gate, run, port)
        except BaseException as error:
            return run.final_of(only_theirs(error))
        answer = run.propose(proposal)
        if not isinstance(answer.verdict, Wait):
            break
    judged = _go_on(run, port, final, answer, attempt)
    return judged if judged is None or isinstance(judged, Final) else await judged


async def _when_due(run: Run, port: Port, delay: float) -> Final | None:
    """Wait out the delay of a retry, and start."""
    try:
        await port.wait(Once(), delay, run.scope)
        await run.start(port, "Retrying")
    except BaseException as error:
        return run.before_body(only_theirs(error))
    return None


def seconds(at: int, until: float) -> float:
    """Give the seconds from one moment (microseconds) to another (seconds, which are exact to the microsecond only)."""
    return max(0.0, (round(until * 1e6) - at) / 1e6)
