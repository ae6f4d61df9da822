"""Reading and changing the history from programs, in async code and in sync code.

A client works in this process, on the history that runs started in the same place would write to.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Literal, ParamSpec, Self, TypeVar, overload

from callsheet._engine.places import LoopPlace, ThreadPlace, current_core
from callsheet._kernel.host import current_host
from callsheet._kernel.ports import step
from callsheet.client._inputs import Inputs
from callsheet.client._missing import Missing
from callsheet.client._session import Session
from callsheet.context import AsyncClientContext, SyncClientContext
from callsheet.settings import refresh_settings

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["Client", "SyncClient", "get_client"]


class Client(Inputs, Missing):
    """Reads and changes the history in async code. Made by `get_client`; to be used with ``async with``.

    Example:
        >>> import anyio
        >>> async def look() -> int:
        ...     async with get_client() as client:
        ...         return await client.count_flow_runs(flow_run_filter={"name": {"any_": ["nobody"]}})
        >>> anyio.run(look)
        0
    """

    def __init__(self, *, session: Session | None = None) -> None:
        self._session = session or Session(spelling="async with get_client()")

    async def __aenter__(self) -> Self:
        if not self._session.enter_again():
            host = current_host()
            if host is None:
                raise RuntimeError("This client is for async code. In sync code: `with get_client(sync_client=True)`.")
            self._session.open(LoopPlace(current_core(), host), AsyncClientContext(client=self, httpx_settings=None))
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        place = self._session.leave()
        if place is not None:
            await place.reader.aclose()

    def __enter__(self) -> Self:
        raise RuntimeError(
            "This client must be entered with 'async with'. In sync code: `with get_client(sync_client=True)`."
        )

    def __exit__(self, *_: object) -> None:
        raise AssertionError("never entered")


def _stepped(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncClient, P], R]:
    """Give the sync form of a method: its coroutine never suspends in a thread, so that one step runs it."""

    @wraps(method)
    def call(self: SyncClient, *args: P.args, **kwargs: P.kwargs) -> R:
        return step(method(self._inner, *args, **kwargs))  # pyright: ignore[reportPrivateUsage]

    return call


class SyncClient(Missing):
    """Reads and changes the history in sync code. Made by `get_client(sync_client=True)`; to be used with ``with``.

    Example:
        >>> with get_client(sync_client=True) as client:
        ...     client.count_flow_runs(flow_run_filter={"name": {"any_": ["nobody"]}})
        0
    """

    def __init__(self) -> None:
        self._session = Session(spelling="with get_client(sync_client=True)")
        self._inner = Client(session=self._session)

    def __enter__(self) -> Self:
        if not self._session.enter_again():
            self._session.open(ThreadPlace(current_core()), SyncClientContext(client=self, httpx_settings=None))
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        place = self._session.leave()
        if place is not None:
            step(place.reader.aclose())

    async def __aenter__(self) -> Self:
        raise RuntimeError("This client must be entered with 'with'. In async code: `async with get_client()`.")

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("never entered")

    hello = _stepped(Client.hello)
    read_flow_run = _stepped(Client.read_flow_run)
    read_flow_runs = _stepped(Client.read_flow_runs)
    count_flow_runs = _stepped(Client.count_flow_runs)
    count_flow_runs_by_state = _stepped(Client.count_flow_runs_by_state)
    read_flow_run_states = _stepped(Client.read_flow_run_states)
    read_task_run = _stepped(Client.read_task_run)
    read_task_runs = _stepped(Client.read_task_runs)
    count_task_runs = _stepped(Client.count_task_runs)
    count_task_runs_by_state = _stepped(Client.count_task_runs_by_state)
    read_task_run_states = _stepped(Client.read_task_run_states)
    read_flow = _stepped(Client.read_flow)
    read_flow_by_name = _stepped(Client.read_flow_by_name)
    read_flows = _stepped(Client.read_flows)
    read_logs = _stepped(Client.read_logs)
    create_task_run = _stepped(Client.create_task_run)
    set_flow_run_state = _stepped(Client.set_flow_run_state)
    set_task_run_state = _stepped(Client.set_task_run_state)
    pause_flow_run = _stepped(Client.pause_flow_run)
    resume_flow_run = _stepped(Client.resume_flow_run)
    create_flow_run_input = _stepped(Client.create_flow_run_input)
    read_flow_run_input = _stepped(Client.read_flow_run_input)
    filter_flow_run_input = _stepped(Client.filter_flow_run_input)
    delete_flow_run_input = _stepped(Client.delete_flow_run_input)


@overload
def get_client(httpx_settings: dict[str, Any] | None = None, sync_client: Literal[False] = False) -> Client: ...
@overload
def get_client(httpx_settings: dict[str, Any] | None = None, *, sync_client: Literal[True]) -> SyncClient: ...
@overload
def get_client(httpx_settings: dict[str, Any] | None, sync_client: Literal[True]) -> SyncClient: ...
def get_client(httpx_settings: dict[str, Any] | None = None, sync_client: bool = False) -> Client | SyncClient:
    """Give a client for the history of this process, to be used as a context manager.

    Inside another client's block, of the same kind and on the same history, that one is given again.

    Args:
        httpx_settings: For clients of a server, which do not exist yet.
        sync_client: Give one for sync code.

    Returns:
        The client.

    Raises:
        NotImplementedError: `httpx_settings` are given, or ``CALLSHEET_API_URL`` names a server.
        ValueError: Clients without a server are switched off.

    Example:
        >>> with get_client(sync_client=True) as client:
        ...     client.hello().split()[0]
        'callsheet'
    """
    context = SyncClientContext.get() if sync_client else AsyncClientContext.get()
    if context is not None and context.httpx_settings == httpx_settings and _is_shared(context.client):
        return context.client
    if httpx_settings is not None:
        raise NotImplementedError("httpx_settings: clients of a server are not implemented yet")
    settings = refresh_settings()
    if settings.api_url is not None:
        raise NotImplementedError(
            "CALLSHEET_API_URL is set, but clients of a server are not implemented yet. Unset it to work in this process."
        )
    if not settings.server_allow_ephemeral_mode:
        raise ValueError(
            "No callsheet API URL provided. Please set CALLSHEET_API_URL to the address of a running callsheet server."
        )
    return SyncClient() if sync_client else Client()


def _is_shared(client: Any) -> bool:
    session: Session | None = getattr(client, "_session", None)
    return session is None or session.fits(current_core(), current_host())
