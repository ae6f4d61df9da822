"""What a client reads. Each question is written once; the sync client steps the same coroutines."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from callsheet._engine import decode
from callsheet._engine.history import children, flow_runs, records_of, task_runs, the_run
from callsheet._engine.places import Place
from callsheet._ids import flow_id as id_of_flow
from callsheet._model.kinds import Kind
from callsheet._model.records import LogRecord, RunFilter
from callsheet._model.runs import Flow, FlowRun, Log, TaskRun
from callsheet._model.states import State
from callsheet._store.protocol import Reader
from callsheet._version import __version__
from callsheet.client import _narrow
from callsheet.client._session import Session
from callsheet.client.schemas.filters import FlowFilter, FlowRunFilter, LogFilter, TaskRunFilter, as_filter
from callsheet.client.schemas.responses import Page
from callsheet.client.schemas.sorting import FlowRunSort, FlowSort, LogSort, TaskRunSort
from callsheet.exceptions import ObjectNotFound

Given = dict[str, Any]
"""A filter as a nested mapping."""


class Reads:
    """Questions to the history."""

    _session: Session

    async def _caught_up(self) -> Reader:
        place: Place = self._session.place
        await place.catch_up()
        return place.reader

    async def hello(self) -> str:
        """Check that the history can be read.

        Returns:
            A line that says what answers, and where its history is.

        Raises:
            StoreError: It cannot be read.

        Example:
            >>> from callsheet import get_client
            >>> with get_client(sync_client=True) as client:
            ...     client.hello().startswith("callsheet")
            True
        """
        await (await self._caught_up()).read_runs(RunFilter(), limit=1)
        return f"callsheet {__version__} in this process; its history is in {self._session.place.core.store.location}"

    # --------------------------------------------------------------------------------------- flow runs

    async def read_flow_run(self, flow_run_id: UUID | str) -> FlowRun:
        """Read a flow run with its newest state.

        Args:
            flow_run_id: Its id.

        Returns:
            The flow run.

        Raises:
            ObjectNotFound: There is none.

        Example:
            >>> from callsheet import flow, get_client
            >>> @flow
            ... def census(year: int) -> int:
            ...     return year
            >>> state = census(1900, return_state=True)
            >>> with get_client(sync_client=True) as client:
            ...     run = client.read_flow_run(state.state_details.flow_run_id)
            >>> run.state_name, run.parameters
            ('Completed', {'year': 1900})
        """
        reader = await self._caught_up()
        record = await the_run(reader, Kind.FLOW, _narrow.as_id(flow_run_id))
        return (await flow_runs(reader, [record]))[0]

    async def read_flow_runs(
        self,
        *,
        flow_filter: FlowFilter | Given | None = None,
        flow_run_filter: FlowRunFilter | Given | None = None,
        task_run_filter: TaskRunFilter | Given | None = None,
        sort: FlowRunSort | str | None = None,
        limit: int | None = None,
        offset: int = 0,
        cursor: bytes | None = None,
    ) -> Page[FlowRun]:
        """Read flow runs, a page at a time.

        Args:
            flow_filter: What their flows must match.
            flow_run_filter: What they must match.
            task_run_filter: What at least one of their task runs must match.
            sort: Their order. Default: that of their creation.
            limit: How many at most. Default: 200.
            offset: How many to skip.
            cursor: Where to go on: that of the page before.

        Returns:
            The page.

        Raises:
            ValueError: A filter, order, limit or cursor makes no sense.

        Example:
            >>> from callsheet import get_client
            >>> with get_client(sync_client=True) as client:
            ...     client.read_flow_runs(flow_run_filter={"name": {"any_": ["nobody"]}})
            []
        """
        order, place = _narrow.run_order(sort, FlowRunSort), _narrow.page(limit, offset, cursor)
        reader = await self._caught_up()
        where = await _narrow.flow_runs(reader, flow_filter, flow_run_filter, task_run_filter)
        page = await reader.read_runs(where, **order, **place)
        return Page(await flow_runs(reader, records_of(page.items)), cursor=page.cursor)

    async def count_flow_runs(
        self,
        *,
        flow_filter: FlowFilter | Given | None = None,
        flow_run_filter: FlowRunFilter | Given | None = None,
        task_run_filter: TaskRunFilter | Given | None = None,
    ) -> int:
        """Count flow runs.

        Args:
            flow_filter: What their flows must match.
            flow_run_filter: What they must match.
            task_run_filter: What at least one of their task runs must match.
        """
        reader = await self._caught_up()
        return await reader.count_runs(await _narrow.flow_runs(reader, flow_filter, flow_run_filter, task_run_filter))

    async def count_flow_runs_by_state(
        self,
        *,
        flow_filter: FlowFilter | Given | None = None,
        flow_run_filter: FlowRunFilter | Given | None = None,
        task_run_filter: TaskRunFilter | Given | None = None,
    ) -> dict[str, int]:
        """Count flow runs by the names of their states.

        Args:
            flow_filter: What their flows must match.
            flow_run_filter: What they must match.
            task_run_filter: What at least one of their task runs must match.
        """
        reader = await self._caught_up()
        where = await _narrow.flow_runs(reader, flow_filter, flow_run_filter, task_run_filter)
        return await _by_state(reader, where)

    async def read_flow_run_states(self, flow_run_id: UUID | str) -> list[State[Any]]:
        """Read every state that a flow run has been in, oldest first.

        Args:
            flow_run_id: Its id.

        Returns:
            The states, with their times.

        Raises:
            ObjectNotFound: There is no such flow run.
        """
        return await self._states(Kind.FLOW, flow_run_id)

    # --------------------------------------------------------------------------------------- task runs

    async def read_task_run(self, task_run_id: UUID | str) -> TaskRun:
        """Read a task run with its newest state.

        Args:
            task_run_id: Its id.

        Returns:
            The task run.

        Raises:
            ObjectNotFound: There is none.
        """
        reader = await self._caught_up()
        record = await the_run(reader, Kind.TASK, _narrow.as_id(task_run_id))
        return (await task_runs(reader, [record]))[0]

    async def read_task_runs(
        self,
        *,
        flow_filter: FlowFilter | Given | None = None,
        flow_run_filter: FlowRunFilter | Given | None = None,
        task_run_filter: TaskRunFilter | Given | None = None,
        sort: TaskRunSort | str | None = None,
        limit: int | None = None,
        offset: int = 0,
        cursor: bytes | None = None,
    ) -> Page[TaskRun]:
        """Read task runs, a page at a time.

        Args:
            flow_filter: What the flows of the flow runs around them must match.
            flow_run_filter: What the flow runs around them must match.
            task_run_filter: What they must match.
            sort: Their order. Default: that of their creation.
            limit: How many at most. Default: 200.
            offset: How many to skip.
            cursor: Where to go on: that of the page before.

        Returns:
            The page.

        Raises:
            ValueError: A filter, order, limit or cursor makes no sense.

        Example:
            >>> from callsheet import get_client
            >>> with get_client(sync_client=True) as client:
            ...     client.read_task_runs(task_run_filter={"tags": {"all_": ["nobody's"]}})
            []
        """
        order, place = _narrow.run_order(sort, TaskRunSort), _narrow.page(limit, offset, cursor)
        reader = await self._caught_up()
        where = await _narrow.task_runs(reader, flow_filter, flow_run_filter, task_run_filter)
        page = await reader.read_runs(where, **order, **place)
        return Page(await task_runs(reader, records_of(page.items)), cursor=page.cursor)

    async def count_task_runs(
        self,
        *,
        flow_filter: FlowFilter | Given | None = None,
        flow_run_filter: FlowRunFilter | Given | None = None,
        task_run_filter: TaskRunFilter | Given | None = None,
    ) -> int:
        """Count task runs.

        Args:
            flow_filter: What the flows of the flow runs around them must match.
            flow_run_filter: What the flow runs around them must match.
            task_run_filter: What they must match.
        """
        reader = await self._caught_up()
        return await reader.count_runs(await _narrow.task_runs(reader, flow_filter, flow_run_filter, task_run_filter))

    async def count_task_runs_by_state(
        self,
        *,
        flow_filter: FlowFilter | Given | None = None,
        flow_run_filter: FlowRunFilter | Given | None = None,
        task_run_filter: TaskRunFilter | Given | None = None,
    ) -> dict[str, int]:
        """Count task runs by the names of their states.

        Args:
            flow_filter: What the flows of the flow runs around them must match.
            flow_run_filter: What the flow runs around them must match.
            task_run_filter: What they must match.
        """
        reader = await self._caught_up()
        where = await _narrow.task_runs(reader, flow_filter, flow_run_filter, task_run_filter)
        return await _by_state(reader, where)

    async def read_task_run_states(self, task_run_id: UUID | str) -> list[State[Any]]:
        """Read every state that a task run has been in, oldest first.

        Args:
            task_run_id: Its id.

        Returns:
            The states, with their times.

        Raises:
            ObjectNotFound: There is no such task run.
        """
        return await self._states(Kind.TASK, task_run_id)

    async def _states(self, kind: Kind, run_id: UUID | str) -> list[State[Any]]:
        reader = await self._caught_up()
        record = await the_run(reader, kind, _narrow.as_id(run_id))
        child = (await children(reader, [record])).get(record.id)
        return [
            decode.state(state, decode.state_details(record, child)) for state in await reader.read_states(record.id)
        ]

    # ------------------------------------------------------------------------------------ flows, logs

    async def read_flow(self, flow_id: UUID | str) -> Flow:
        """Read a flow. Its id is derived from its name, the same in every database.

        Args:
            flow_id: Its id.

        Returns:
            The flow.

        Raises:
            ObjectNotFound: No run of it is known.
        """
        wanted = _narrow.as_id(flow_id)
        for flow in await self.read_flows(flow_filter={"id": {"any_": [wanted]}}):
            return flow
        raise ObjectNotFound(help_message=f"There is no flow with the id {wanted} in this history.")

    async def read_flow_by_name(self, flow_name: str) -> Flow:
        """Read a flow by its name.

        Args:
            flow_name: Its name.

        Returns:
            The flow.

        Raises:
            ObjectNotFound: No run of it is known.
        """
        try:
            return await self.read_flow(id_of_flow(flow_name))
        except ObjectNotFound:
            raise ObjectNotFound(help_message=f"There is no flow named {flow_name!r} in this history.") from None

    async def read_flows(
        self,
        *,
        flow_filter: FlowFilter | Given | None = None,
        flow_run_filter: FlowRunFilter | Given | None = None,
        task_run_filter: TaskRunFilter | Given | None = None,
        sort: FlowSort | str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Flow]:
        """Read flows: what has had a run.

        Args:
            flow_filter: What they must match.
            flow_run_filter: What at least one of their runs must match.
            task_run_filter: What at least one task run in such a run must match.
            sort: Their order. Default: by name.
            limit: How many at most. Default: 200.
            offset: How many to skip.

        Returns:
            The flows.
        """
        place = _narrow.page(limit, offset, None)
        order = _narrow.as_member(FlowSort.NAME_ASC if sort is None else sort, FlowSort).value
        reader = await self._caught_up()
        runs = None
        if flow_run_filter is not None or task_run_filter is not None:
            runs = await _narrow.flow_runs(reader, None, flow_run_filter, task_run_filter)
        found = decode.flows(await reader.read_definitions(Kind.FLOW, runs))
        chosen = _narrow.named(as_filter(flow_filter, FlowFilter, "flow_filter"), [flow.name for flow in found])
        found = [flow for flow in found if flow.name in chosen]
        if order.startswith("CREATED"):
            found.sort(key=lambda flow: 0.0 if flow.created is None else flow.created.timestamp())
        if order.endswith("DESC"):
            found.reverse()
        return found[place["offset"] :][: place["limit"]]

    async def read_logs(
        self,
        log_filter: LogFilter | Given | None = None,
        limit: int | None = None,
        offset: int = 0,
        sort: LogSort | str | None = None,
        *,
        cursor: bytes | None = None,
    ) -> Page[Log]:
        """Read what runs have logged, a page at a time.

        Args:
            log_filter: What the records must match.
            limit: How many at most. Default: 200.
            offset: How many to skip.
            sort: Their order. Default: that of writing.
            cursor: Where to go on: that of the page before.

        Returns:
            The page.

        Example:
            >>> from callsheet import get_client
            >>> with get_client(sync_client=True) as client:
            ...     client.read_logs({"level": {"ge_": 60}})
            []
        """
        where, order, place = _narrow.logs(log_filter), _narrow.log_order(sort), _narrow.page(limit, offset, cursor)
        page = await (await self._caught_up()).read_logs(where, **order, **place)
        return Page([decode.log(cast("LogRecord", item)) for item in page.items], cursor=page.cursor)


async def _by_state(reader: Reader, where: RunFilter) -> dict[str, int]:
    return {name: count for (_, name), count in (await reader.count_states(where)).items()}
