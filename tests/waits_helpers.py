"""What tests of waits and of watching have in common: other processes, and the history to compare with."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import warm
from callsheet.events import Event, LogEvent, StateEvent
from past import runs, states_of

PATIENCE = 50.0  # seconds; only ever waited for by a test that fails


@contextmanager
def program(path: Path, source: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program on the same history; it is killed at the end of the block if it still runs."""
    path.write_text(source)
    with warm.start(path, *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Give the next line that a program writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def keys(events: list[Event]) -> Counter[Any]:
    """Tell events from each other."""
    return Counter(
        (event.run_id, event.number, event.name)
        if isinstance(event, StateEvent)
        else (event.flow_run_id, event.task_run_id, event.message, event.timestamp)
        for event in events
    )


def states(events: list[Event]) -> Counter[Any]:
    """Give the states among events."""
    return keys([event for event in events if isinstance(event, StateEvent)])


def lines(events: list[Event]) -> list[str]:
    """Give the lines among events."""
    return [event.message for event in events if isinstance(event, LogEvent)]


def recorded(run_id: UUID) -> Counter[Any]:
    """Give every state of a flow run and of the runs in it, as the history has them."""
    known = [record.id for record in runs(root_ids=(run_id,))]
    return Counter((one, number, name) for one in known for number, name in enumerate(states_of(one), 1))


def assert_in_order(events: list[Event]) -> None:
    """Each run's states are counted without a gap."""
    numbers: dict[UUID, int] = {}
    for event in events:
        if isinstance(event, StateEvent):
            assert event.number == numbers.get(event.run_id, 0) + 1
            numbers[event.run_id] = event.number
