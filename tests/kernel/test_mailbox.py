"""The mailbox: order, re-entrancy, errors that stay with their own message, any thread, finalizers."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import pytest

from callsheet._kernel.mailbox import Mailbox


def test_messages_are_handled_in_order_and_answered() -> None:
    handled: list[int] = []

    def handle(message: int) -> int:
        handled.append(message)
        return -message

    mailbox = Mailbox(handle)
    assert [mailbox.ask(i) for i in range(3)] == [0, -1, -2]
    mailbox.tell(3)
    assert handled == [0, 1, 2, 3]
    mailbox.close()


def test_what_a_handler_tells_waits_its_turn() -> None:
    handled: list[str] = []

    def handle(message: str) -> str:
        handled.append(f"begin {message}")
        if message == "a":
            mailbox.tell("b")
            mailbox.tell("c")
        handled.append(f"end {message}")
        return message

    mailbox = Mailbox(handle)
    assert mailbox.ask("a") == "a"
    assert handled == ["begin a", "end a", "begin b", "end b", "begin c", "end c"]
    mailbox.close()


def test_a_handler_that_asks_is_refused_and_the_rest_goes_on() -> None:
    def handle(message: str) -> str:
        return mailbox.ask("never") if message == "asks" else message

    mailbox = Mailbox(handle)
    with pytest.raises(RuntimeError, match="may tell, but not ask"):
        mailbox.ask("asks")
    assert mailbox.ask("next") == "next"
    mailbox.close()


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), anyio.WouldBlock()], ids=repr)
def test_an_error_is_the_reply_of_its_own_message_only(error: BaseException) -> None:
    handled: list[str] = []

    def handle(message: str) -> str:
        handled.append(message)
        if message == "breaks":
            raise error
        if message == "first":
            mailbox.tell("breaks")
            mailbox.tell("after")
        return message

    mailbox = Mailbox(handle)
    assert mailbox.ask("first") == "first", "not somebody else's error"
    assert handled == ["first", "breaks", "after"]
    with pytest.raises(type(error)) as caught:
        mailbox.ask("breaks")
    assert caught.value is error
    assert mailbox.ask("next") == "next"
    mailbox.close()


def test_an_error_leaves_no_cycle() -> None:
    class Mine(Exception):
        pass

    def handle(message: str) -> str:
        raise Mine

    mailbox = Mailbox(handle)

    def ask() -> None:
        try:
            mailbox.ask("x")
        except Mine:
            pass

    ask()
    gc.collect()
    gc.disable()
    try:
        ask()
        assert [item for item in gc.get_objects() if type(item) is Mine] == []
    finally:
        gc.enable()
    mailbox.close()


def test_many_threads_are_answered_each_with_its_own() -> None:
    inside = 0
    overlaps: list[int] = []

    def handle(message: tuple[int, int]) -> tuple[int, int]:
        nonlocal inside
        inside += 1
        overlaps.append(inside)
        seen.append(message)
        inside -= 1
        return message

    seen: list[tuple[int, int]] = []
    mailbox = Mailbox(handle)
    wrong: list[Any] = []

    def work(name: int) -> None:
        for i in range(300):
            if mailbox.ask((name, i)) != (name, i):
                wrong.append((name, i))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set(overlaps) == {1}
    assert len(seen) == 1800
    for name in range(6):
        assert [i for who, i in seen if who == name] == list(range(300))
    mailbox.close()


def test_what_a_finalizer_leaves_is_handled_by_the_next_drain() -> None:
    handled: list[str] = []

    class Dropped:
        def __del__(self) -> None:
            mailbox.leave("left")

    def handle(message: str) -> str:
        if message == "drops":
            dropped.clear()  # a finalizer inside of a handler
        handled.append(message)
        return message

    dropped = [Dropped()]
    mailbox = Mailbox(handle)
    mailbox.ask("drops")
    assert handled == ["drops", "left"]
    mailbox.leave("swept")
    assert handled == ["drops", "left"]
    mailbox.sweep()
    mailbox.sweep()
    assert handled == ["drops", "left", "swept"]
    mailbox.close()


def test_a_closed_one_refuses_and_says_nothing_when_it_is_dropped() -> None:
    mailbox: Mailbox[str, str] = Mailbox(str)
    mailbox.close()
    with pytest.raises(anyio.ClosedResourceError):
        mailbox.ask("late")
    del mailbox
    gc.collect()


@pytest.mark.anyio
async def test_on_a_loop_an_ask_never_suspends() -> None:
    """Nobody else runs between a question and its answer."""
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    mailbox = Mailbox(lambda message: ran.append(message))
    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for _ in range(3):
            mailbox.ask("asked")
        assert ran == ["asked"] * 3
    mailbox.close()
