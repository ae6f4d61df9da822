"""Asking the history in both colours: the two clients must give the same answer."""

from __future__ import annotations

from typing import Any

from callsheet import get_client


async def ask(question: str, *args: Any, **kwargs: Any) -> Any:
    """Ask the async client and the sync client the same question, and give the one answer."""
    async with get_client() as client:
        answer = await getattr(client, question)(*args, **kwargs)
    with get_client(sync_client=True) as client:
        assert getattr(client, question)(*args, **kwargs) == answer
    return answer


async def names(question: str, **kwargs: Any) -> list[str]:
    """Give the names of the runs that are found, in the order of the answer."""
    return [run.name for run in await ask(question, **kwargs)]
