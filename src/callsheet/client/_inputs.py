"""What a client does with paused flow runs, and with what flow runs are handed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from callsheet._engine import run_inputs
from callsheet._engine.holding import hold
from callsheet._engine.resuming import resume
from callsheet._model.runs import FlowRunInput
from callsheet._rules.verdicts import Abort, Reject
from callsheet.client import _narrow
from callsheet.client._writes import Writes
from callsheet.client.schemas.responses import (
    OrchestrationResult,
    SetStateStatus,
    StateAbortDetails,
    StateAcceptDetails,
    StateRejectDetails,
)


class Inputs(Writes):
    """Resumptions and inputs."""

    async def resume_flow_run(
        self, flow_run_id: UUID | str, run_input: Mapping[str, Any] | None = None
    ) -> OrchestrationResult:
        """Resume a paused flow run.

        Args:
            flow_run_id: Its id.
            run_input: What it waits for, by field. Without any, the defaults.

        Returns:
            Whether it was accepted, and the state; where not, the reason.

        Raises:
            ObjectNotFound: There is no such flow run.
            StoreError: The history cannot be written.
        """
        done = await resume(self._session.place, _narrow.as_id(flow_run_id), run_input)
        match done.verdict:
            case Abort():
                status, details = SetStateStatus.ABORT, StateAbortDetails(reason=done.reason)
            case Reject():
                status, details = SetStateStatus.REJECT, StateRejectDetails(reason=done.reason)
            case _:
                status, details = SetStateStatus.ACCEPT, StateAcceptDetails()
        return OrchestrationResult(state=done.state, status=status, details=details)

    async def pause_flow_run(self, flow_run_id: UUID | str, message: str | None = None) -> OrchestrationResult:
        """Have a flow run that runs pause, in this process or in another one on the same history.

        It is Paused at once: no task of it starts any more, in flow runs inside it neither. Tasks that run go on, and so does its
        body, until it calls a task; a body that calls none ends as it would have. It goes on when it is resumed.

        Args:
            flow_run_id: Its id.
            message: Why, for the history.

        Returns:
            Whether it was accepted, and the state; where not, the reason.

        Raises:
            ObjectNotFound: There is no such flow run.
            StoreError: The history cannot be written.
        """
        place = self._session.place
        done = await hold(place, _narrow.as_id(flow_run_id), message)
        if isinstance(done.verdict, Abort):
            details = StateAbortDetails(reason=done.reason)
            return OrchestrationResult(state=None, status=SetStateStatus.ABORT, details=details)
        return OrchestrationResult(state=done.state, status=SetStateStatus.ACCEPT, details=StateAcceptDetails())

    async def create_flow_run_input(
        self, flow_run_id: UUID | str, key: str, value: str, sender: str | None = None
    ) -> None:
        """Store a value for a flow run.

        Args:
            flow_run_id: Its id.
            key: Under which key: letters, digits, and ``. _ : -``.
            value: JSON.
            sender: Who hands it in.

        Raises:
            ObjectAlreadyExists: There is a value under this key.
            ObjectNotFound: There is no such flow run.
            ValueError: The key has other characters.
        """
        await run_inputs.create(self._session.place, _narrow.as_id(flow_run_id), key, value, sender)

    async def read_flow_run_input(self, flow_run_id: UUID | str, key: str) -> str | None:
        """Read a value that a flow run was handed.

        Args:
            flow_run_id: Its id.
            key: The key.

        Returns:
            JSON; `None` where there is none.
        """
        found = await run_inputs.read(self._session.place, _narrow.as_id(flow_run_id), key)
        return None if found is None else found.value

    async def filter_flow_run_input(
        self,
        flow_run_id: UUID | str,
        key_prefix: str,
        limit: int = 1,
        exclude_keys: Iterable[str] | None = None,
    ) -> list[FlowRunInput]:
        """Read what a flow run was handed under keys that begin alike, oldest first.

        Args:
            flow_run_id: Its id.
            key_prefix: How they begin.
            limit: How many at most.
            exclude_keys: Keys to leave out.
        """
        place = self._session.place
        return await run_inputs.find(place, _narrow.as_id(flow_run_id), key_prefix, limit, exclude_keys or ())

    async def delete_flow_run_input(self, flow_run_id: UUID | str, key: str) -> None:
        """Forget a value that a flow run was handed.

        Args:
            flow_run_id: Its id.
            key: The key.
        """
        await run_inputs.delete(self._session.place, _narrow.as_id(flow_run_id), key)
