"""Waiting in flows, for time and for the world: sleeps and signals that outlive a restart."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar, overload
from uuid import UUID

from callsheet._clock import micros
from callsheet._engine import run_inputs, signalling, sleeping
from callsheet._engine.dual import dual

T = TypeVar("T")

__all__ = [
    "asend_signal",
    "asleep",
    "asleep_until",
    "await_signal",
    "send_signal",
    "sleep",
    "sleep_until",
    "wait_signal",
]


async def asleep(seconds: float) -> None:
    """Wait for so many seconds.

    In a flow's body the moment of waking up is put on record: a run that is taken up again after a crash or a suspension
    waits only for the rest. In tasks and outside of runs it simply waits: a task that is interrupted begins anew anyway.

    Args:
        seconds: How many; 0 or more.

    Raises:
        ValueError: It is negative, or no number.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def remind() -> str:
        ...     sleep(0.01)
        ...     return "it is time"
        >>> remind()
        'it is time'
    """
    if not 0 <= seconds < math.inf:
        raise ValueError(f"`seconds` must be 0 or more, and not {seconds!r}.")
    await sleeping.sleep(seconds, None)


async def asleep_until(when: datetime) -> None:
    """Wait until a moment of time. One that has passed is not waited for.

    What is said of `sleep` holds here too; what counts is the moment of the first call, also where a later life of the run
    computes another one.

    Args:
        when: The moment, with its time zone.

    Raises:
        ValueError: It has no time zone.

    Example:
        >>> from datetime import UTC, datetime, timedelta
        >>> from callsheet import flow
        >>> @flow
        ... def remind() -> str:
        ...     sleep_until(datetime.now(UTC) + timedelta(seconds=0.01))
        ...     return "it is time"
        >>> remind()
        'it is time'
    """
    if when.utcoffset() is None:
        raise ValueError(f"`when` needs a time zone, such as `datetime.now(UTC)` has; {when!r} has none.")
    await sleeping.sleep(None, micros(when))


async def asend_signal(flow_run_id: UUID | str, name: str, value: Any = None) -> None:
    """Send a flow run a signal: a value under a name, which its body gets by `wait_signal`.

    It is on disk when this returns, and kept until the body asks for it: signals may come before they are waited for.

    Args:
        flow_run_id: The flow run, of this process or of another one on the same history.
        name: Of the signal: letters, digits, and ``. _ -``.
        value: What JSON can hold, or a pydantic model.

    Raises:
        ObjectNotFound: There is no such flow run.
        RunNotLive: It has ended.
        ValueError: The name has other characters.
        StoreError: The history cannot be written.

    Example:
        >>> from callsheet import flow
        >>> from callsheet.runtime import flow_run
        >>> @flow
        ... def order() -> int:
        ...     send_signal(flow_run.id, "paid", 12)  # elsewhere, normally
        ...     return wait_signal("paid", int)
        >>> order()
        12
    """
    place = run_inputs.place_here()
    text = run_inputs.to_json(value)
    try:
        await signalling.send(
            place, run_inputs.port_here(), UUID(str(flow_run_id)), name, text, run_inputs.this_sender()
        )
    finally:
        await place.reader.aclose()


@overload
async def await_signal(name: str, type: type[T], timeout: float | None = None) -> T: ...
@overload
async def await_signal(name: str, type: Any = Any, timeout: float | None = None) -> Any: ...
async def await_signal(name: str, type: Any = Any, timeout: float | None = None) -> Any:
    """Wait in a flow's body for a signal.

    Signals of a name come in the order in which they were sent, each once. Which one was taken is put on record: a run
    that is taken up again gets the same value at the same place. A retry of the flow begins anew with the first signal.

    A wait that lasts longer than ``CALLSHEET_SLEEP_SUSPENDS_AFTER_SECONDS`` is not waited for in memory where the run's
    engine goes on with runs of its flow (`Engine(flows=[…])`) and nothing else of the run is under way: the run is suspended
    until the signal comes.

    Args:
        name: Of the signal.
        type: What its value must be: any type that pydantic knows. Left out: whatever JSON holds.
        timeout: Seconds to wait at most; `None`: for ever. A run that is taken up again waits only for the rest.

    Returns:
        The value, validated.

    Raises:
        SignalTimeout: None came in time.
        ValidationError: The value does not fit the type. The signal is used up.
        RuntimeError: No flow's body is executing here, or nothing is kept of it.
        TypeError: `type` is no type that pydantic knows.
        ValueError: The name has characters that none has.

    Example:
        >>> from callsheet import flow
        >>> @flow
        ... def order() -> int:
        ...     return wait_signal("paid", int, timeout=0.01)
        >>> order()
        Traceback (most recent call last):
        callsheet.exceptions.SignalTimeout: No signal 'paid' came within 0.01 seconds.
    """
    run, read = signalling.receiving_run(), _reader(type)
    place = run_inputs.place_here()
    try:
        return read(await signalling.receive(run, place, name, timeout))
    finally:
        await place.reader.aclose()


def _reader(kind: Any) -> Callable[[str], Any]:
    if kind is Any:
        return run_inputs.from_json
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(kind).validate_json
    except Exception as error:
        raise TypeError(f"{kind!r} is not a type that a signal can have: {error}") from error


sleep = dual(asleep)
sleep_until = dual(asleep_until)
send_signal = dual(asend_signal)
# Not typed like its twin: checkers would take the first of its overloads for all.
wait_signal: Callable[..., Any] = dual(await_signal)
