"""Who resumes flow runs in tests: a thread that is told of every pause by the engine itself, and waits for nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any
from uuid import UUID

import pytest

import warm
from callsheet import resume_flow_run
from callsheet._kernel.pauses import Pauses
from elsewhere import until
from past import states_of

PATIENCE = 50.0  # seconds; only ever waited for by a test that fails

RESUME = """
import json, sys
from callsheet import resume_flow_run
try:
    resume_flow_run(sys.argv[1], run_input=json.loads(sys.argv[2]))
except Exception as error:
    print(type(error).__name__, error)
"""


class Resumer:
    """Hears of pauses and of tasks that wait at a gate, and answers from another thread."""

    def __init__(self) -> None:
        self.paused: SimpleQueue[UUID] = SimpleQueue()
        self.held_back: SimpleQueue[UUID] = SimpleQueue()
        self.said: list[Any] = []
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def next_pause(self) -> UUID:
        return self.paused.get(timeout=PATIENCE)

    def answers(self, *inputs: Any) -> None:
        """Resume one pause after the other."""

        def work() -> None:
            for given in inputs:
                self.said.append(resume_flow_run(self.next_pause(), run_input=given))

        self.does(work)

    def does(self, work: Callable[[], Any]) -> None:
        """Do something in another thread."""

        def caught() -> None:
            try:
                work()
            except BaseException as error:
                self.errors.append(error)

        self._threads.append(threading.Thread(target=caught, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        if self.errors:
            raise self.errors[0]


@pytest.fixture
def resumer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resumer]:
    """Give somebody who hears of pauses."""
    made = Resumer()
    begin, holds_back = Pauses.begin, Pauses.holds_back

    def began(self: Any, cell: Any, pause: Any) -> None:
        begin(self, cell, pause)
        made.paused.put(cell.id)

    def held(self: Any, cell: Any) -> bool:
        found = holds_back(self, cell)
        if found:
            made.held_back.put(cell.id)
        return found

    monkeypatch.setattr(Pauses, "begin", began)
    monkeypatch.setattr(Pauses, "holds_back", held)
    yield made
    made.join()


def resume_elsewhere(run_id: UUID, run_input: str = "null") -> str:
    """Resume a flow run from another process, once the history says that it is paused; give what went wrong there."""
    until(lambda: states_of(run_id)[-1:] == ["Paused"])
    return warm.run(RESUME, run_id, run_input, timeout=PATIENCE).stdout.strip()
