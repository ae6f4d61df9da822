"""What type checkers see of flows, tasks, calls, `submit`, `map` and futures. Checked by pyright and mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import Any, assert_type

from callsheet import Flow, State, Task, flow, task
from callsheet.futures import TaskFuture, TaskFutureList


@task
def add(x: int, y: int = 1) -> int:
    return x + y


@task(retries=3, tags=["a"], retry_delay_seconds=[1, 2], log_prints=True)
async def fetch(url: str) -> bytes:
    return url.encode()


@task
def count(to: int) -> Generator[int, None, None]:
    yield from range(to)


@flow
def nightly(n: int, *, full: bool = False) -> list[str]:
    return [str(n)] if full else []


@flow(name="Hourly", timeout_seconds=3, task_runner=None)
async def hourly(n: int) -> str:
    return str(n)


@flow
async def stream(n: int) -> AsyncGenerator[int, None]:
    yield n


# ------------------------------------------------------------------------------------------- decorators


def takes_a_task(t: Task[..., int]) -> None: ...


def takes_a_flow(f: Flow[..., list[str]]) -> None: ...


takes_a_task(add)
takes_a_flow(nightly)
takes_a_task(add.with_options(name="x", retries=1))
takes_a_flow(nightly.with_options(retries=1))


def plain() -> float:
    return 1.0


assert_type(task(plain), Task[[], float])
assert_type(flow(plain), Flow[[], float])
assert_type(Flow(plain, name="x"), Flow[[], float])
assert_type(Task(plain, name="x"), Task[[], float])
assert_type(flow(plain).with_options(name="y"), Flow[[], float])

# ------------------------------------------------------------------------------------------------ calls

assert_type(add(1, y=2), int)
assert_type(nightly(1, full=True), list[str])
assert_type(count(3), Generator[int, None, None])
assert_type(add(1, wait_for=[]), int)
assert_type(add(1, return_state=True), State[int])
assert_type(nightly(1, return_state=True, wait_for=[]), State[list[str]])

add("x")  # type: ignore  # pyright: ignore
add()  # type: ignore  # pyright: ignore
nightly(1, True)  # type: ignore  # pyright: ignore
hourly("x")  # type: ignore  # pyright: ignore


async def calls() -> None:
    assert_type(await fetch("x"), bytes)
    assert_type(await hourly(1), str)
    assert_type(await hourly(1, return_state=True), State[str])
    assert_type(await fetch("x", return_state=True), State[bytes])
    assert_type(await fetch("x", wait_for=[]), bytes)
    async for each in await_free():
        assert_type(each, int)


async def await_free() -> AsyncGenerator[int, None]:
    yield 1


# ----------------------------------------------------------------------------------------------- submit

future = add.submit(1, y=2)
assert_type(future, TaskFuture[int])
assert_type(future.result(), int)
assert_type(fetch.submit("x"), TaskFuture[bytes])
assert_type(hourly.submit(1), TaskFuture[str])
assert_type(nightly.submit(1), TaskFuture[list[str]])
assert_type(add.submit(future), TaskFuture[int])
assert_type(add.submit(1, wait_for=[future]), TaskFuture[int])
assert_type(fetch.submit("x", return_state=True), State[bytes])
assert_type(add.submit(future, return_state=True, wait_for=[future]), State[int])

# -------------------------------------------------------------------------------------------------- map

assert_type(add.map([1, 2], 3), TaskFutureList[int])
assert_type(fetch.map(["x"], wait_for=[future]), TaskFutureList[bytes])
assert_type(fetch.map(["x"]).result(), list[bytes])
assert_type(add.map([1], return_state=True), list[State[int]])
assert_type(fetch.map(["x"], return_state=True), list[State[bytes]])


# ---------------------------------------------------------------------------------------------- methods


class Shop:
    @task
    def total(self, n: int) -> float:
        return float(n)

    @flow
    async def close(self, reason: str) -> bool:
        return bool(reason)

    @staticmethod
    @task
    def static(n: int) -> int:
        return n


async def methods(shop: Shop) -> None:
    assert_type(shop.total(1), float)
    assert_type(shop.total.submit(1), TaskFuture[float])
    assert_type(await shop.close("late"), bool)
    assert_type(Shop.static(1), int)


# ------------------------------------------------------------------------------------------------ hooks


@nightly.on_failure
def tell(flow: Flow[..., Any], flow_run: object, state: State[Any]) -> None: ...


@add.on_completion
async def tell_later(task: Task[..., Any], task_run: object, state: State[Any]) -> None: ...


assert_type(tell.__name__, str)
hooked: Callable[[Callable[[], None]], Flow[[], None]] = flow(on_failure=[tell])
