"""Who may begin a flow run again: pure, as every rule."""

from __future__ import annotations

from typing import Final

from callsheet._model.kinds import TERMINAL_STATES, Kind, StateType
from callsheet._rules.facts import Facts
from callsheet._rules.guards import AWAITING_RETRY
from callsheet._rules.table import judge
from callsheet._rules.verdicts import Abort, Verdict

_NOT_OVER: Final = Abort(
    "It has not ended. Cancel it first, or resume it if it is paused; what a dead process left is taken up by itself."
)
_DONE: Final = Abort("It has completed. Restart it from a task, or fork it, to run parts of it again.")


def judge_again(current: StateType | None, facts: Facts, *, name: str | None = None, retry: bool) -> Verdict:
    """Give whether a flow run may be scheduled once more.

    Args:
        current: The type of its state.
        facts: As for `judge`; with `foreign`, `run_id` and `seq`.
        name: The name of its state.
        retry: Only what has not completed is to be done again.

    Returns:
        Accept, if nobody else moves it meanwhile; else Abort.

    Example:
        >>> judge_again(StateType.COMPLETED, Facts(now=0.0), retry=True).accepted
        False
    """
    if current not in TERMINAL_STATES:
        return _NOT_OVER
    if retry and current is StateType.COMPLETED:
        return _DONE
    return judge(Kind.FLOW, current, StateType.SCHEDULED, facts, current_name=name, proposed_name=AWAITING_RETRY)
