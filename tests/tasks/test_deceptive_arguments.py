"""Arguments and functions that say they are something else: mocks, proxies, and objects that have every attribute."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, NonCallableMock

import pytest

from callsheet import flow, task


class Everything:
    """Has every attribute, as a database has every table, and is neither true nor false."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Everything()

    def __bool__(self) -> bool:
        raise NotImplementedError


class Raising:
    """Lets nobody look at it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError

    __len__ = __iter__ = __eq__ = __bool__ = __repr__ = _refuse
    __hash__ = None  # type: ignore[assignment]


class Proxy:
    """Says that it is of the class of what is behind it."""

    def __init__(self, behind: Any) -> None:
        self._behind = behind

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return type(self._behind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def __iter__(self) -> Any:
        return iter(self._behind)

    def __len__(self) -> int:
        return len(self._behind)

    def __getitem__(self, key: Any) -> Any:
        return self._behind[key]


@task
def same(x: Any) -> Any:
    return x


@task(persist_result=True)
def kept(x: Any) -> Any:
    return x


DECEPTIVE: dict[str, Any] = {
    "mock": Mock(),
    "magic": MagicMock(),
    "not callable": NonCallableMock(),
    "async": AsyncMock(),
    **{f"mock of {kind.__name__}": MagicMock(spec=kind) for kind in (int, str, bytes, list, dict, set)},
    **{f"proxy of {value!r}": Proxy(value) for value in (5, "text", b"bytes", 2.5, [1], {"a": 1}, None)},
    "everything": Everything(),
    "raising": Raising(),
}


@pytest.mark.parametrize("value", DECEPTIVE.values(), ids=DECEPTIVE.keys())
def test_they_are_passed_and_returned_as_any_other_object(value: Any) -> None:
    @flow
    def passes(given: Any) -> Any:
        assert same(given) is value
        assert same(given) is value  # now known as the result of a run
        assert same.submit([given]).result()[0] is value
        assert same.map([given]).result()[0] is value
        assert kept(given) is value
        return given

    assert passes(value) is value


def test_mocks_as_functions() -> None:
    @flow
    async def around() -> Any:
        return await task(AsyncMock(return_value=1), name="mocked")(), task(MagicMock(return_value=2), name="also")()

    assert asyncio.run(around()) == (1, 2)
    assert task(AsyncMock(), name="mocked").isasync
    assert asyncio.run(flow(AsyncMock(return_value=3), name="mocked")()) == 3  # type: ignore[arg-type]
