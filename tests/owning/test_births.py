"""A run that an engine has taken up, and cannot bring to life at once: it is the engine's, and nobody else would see to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from callsheet import Engine, flow, suspend_flow_run
from callsheet._engine import reviving
from callsheet.exceptions import StoreUnavailable
from callsheet.flow_runs import aresume_flow_run, wait_for_flow_run
from keyed_flows import FOLDER, Caller, Stage, call
from past import runs

PATIENCE = 50.0


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the history refuse to be read, the first two times that a run is to be brought to life."""
    tries: list[int] = []
    place = reviving.ThreadPlace

    def refuses(core: Any) -> Any:
        tries.append(1)
        if len(tries) <= 2:
            raise StoreUnavailable("The disk is busy.")
        return place(core)

    monkeypatch.setattr(reviving, "ThreadPlace", refuses)
    return tries


@pytest.mark.anyio
async def test_a_resumed_run_is_brought_to_life_later(unreadable: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_LEASE_SECONDS", "0.4")

    @flow
    async def suspends() -> int:
        await suspend_flow_run()
        return 7

    async with Engine(flows=[suspends]):
        run_id = (await suspends(return_state=True)).state_details.flow_run_id
        await aresume_flow_run(run_id)
        run = await wait_for_flow_run(run_id, timeout=PATIENCE)
        assert run.state.is_completed()
    assert len(unreadable) >= 3


def test_the_next_call_under_its_key_brings_it_to_life(
    tmp_path: Path, unreadable: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "stage"))
    stage = Stage(tmp_path / "stage")
    with Caller() as other:
        other.tell("call('charge', 'k')")
        stage.await_body()
        other.kill()
    stage.open_before()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            call("charge", "k")
    assert call("charge", "k") == "1: first second"
    assert stage.notes == ["first", "second"]
    assert [run.recoveries for run in runs(definition_names=("charge",))] == [1]
