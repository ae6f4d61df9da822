"""A time limit for what is asked of a storage: whoever asked goes on, and the thread that asks is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Any, ClassVar, Final, TypeVar, cast
from weakref import WeakKeyDictionary

from anyio import CancelScope

from callsheet._kernel.host import here
from callsheet._kernel.ports import LoopPort
from callsheet._kernel.signals import Once
from callsheet.exceptions import StorageTimeout
from callsheet.settings import get_current_settings

T = TypeVar("T")
_GRACE: Final = 1.0  # seconds that what is cancelled may take to end
_MOST: Final = 8  # questions that a storage may leave unanswered before it is asked nothing more
_gate: Final = threading.Lock()
_silent: Final[WeakKeyDictionary[Any, int]] = WeakKeyDictionary()  # how many each has left unanswered
_here: Final = threading.local()


def limit() -> float | None:
    """Give how many seconds a storage may take to answer; `None` is for ever."""
    return get_current_settings().results_storage_timeout_seconds or None


class Question:
    """Work on a thread, part of which is asked of a storage: only that part (`ask`) is limited.

    Args:
        storage: that is asked.
        key: what it is asked about.
        seconds: it may take.

    Raises:
        StorageTimeout: it has left too much unanswered already.
    """

    __slots__ = ("_asked_at", "_error", "_given_up", "_key", "_seconds", "_storage", "_thread", "_value", "done")

    def __init__(self, storage: Any, key: str, seconds: float) -> None:
        self.done = Once()
        self._storage = storage
        self._key = key
        self._seconds = seconds
        self._asked_at: float | None = None
        self._given_up = False
        self._thread = ""
        self._value: Any = None
        self._error: BaseException | None = None
        if _unanswered(storage) >= _MOST:
            raise StorageTimeout(
                f"The storage is not asked any more: {_MOST} earlier questions have not been answered yet. Key '{key}' "
                f"in {storage!r}. Check that it can be reached; it is asked again as soon as it answers one of them."
            )

    def run(self, work: Callable[[], Any]) -> None:
        """Do the work, on a thread that may be left behind."""
        before = getattr(_here, "question", None)
        _here.question, self._thread = self, threading.current_thread().name
        try:
            self._value = work()
        except BaseException as error:
            self._error = error
        finally:
            _here.question = before
            self.done.set()

    def ask(self, work: Callable[[], T]) -> T:
        """Do the part that the limit is for."""
        with _gate:
            self._asked_at = time.monotonic()
        try:
            return work()
        finally:
            with _gate:
                self._asked_at = None
                if self._given_up:
                    _count(self._storage, -1)

    async def outcome(self, wait: Callable[[Once, float], Awaitable[bool]]) -> Any:
        """Give what the work gave.

        Args:
            wait: waits some seconds for `done`, and tells whether it is set.

        Raises:
            StorageTimeout: the storage did not answer in time.
        """
        rest = self._seconds
        while not await wait(self.done, rest):
            rest = self._rest()
            if rest <= 0 and self._give_up():
                break
            rest = max(rest, 0.01)
        else:
            if self._error is not None:
                raise self._error
            return self._value
        left = f"The thread that waits for it ({self._thread}) is left behind; it ends with an answer or the process."
        raise no_answer(self._storage, self._key, self._seconds, left)

    def _rest(self) -> float:
        since = self._asked_at
        return self._seconds if since is None else since + self._seconds - time.monotonic()

    def _give_up(self) -> bool:
        with _gate:
            self._given_up = self._asked_at is not None
            if self._given_up:
                _count(self._storage, 1)
            return self._given_up

    def refuse(self) -> None:
        """End work that nobody waits for any more, before it changes anything.

        Raises:
            StorageTimeout: it is so.
        """
        if self._given_up:
            raise StorageTimeout(f"Nobody waits for the key '{self._key}' any more.")


def no_answer(storage: Any, key: str, seconds: float, left: str) -> StorageTimeout:
    """Make the error of a storage that did not answer in time."""
    return StorageTimeout(
        f"The storage has not answered for {seconds:g} s and is no longer waited for. Key '{key}' in {storage!r}. Check "
        f"that it can be reached, or set CALLSHEET_RESULTS_STORAGE_TIMEOUT_SECONDS. {left}"
    )


async def in_time(answer: Awaitable[T], storage: Any, key: str) -> T:
    """Await what a storage of the user's gives, in a task of its own, and cancel it where that takes too long.

    One that does not let itself be cancelled is left behind: whoever asked goes on.

    Raises:
        StorageTimeout: it takes too long.
    """
    seconds = limit()
    if seconds is None:
        return await answer
    awaited = _Awaited(answer, storage)
    port = LoopPort(here())
    try:
        await port.wait(awaited.done, seconds)
    finally:  # whether it is done, too slow, or the asker itself has been cancelled
        if not awaited.done.is_set:
            awaited.scope.cancel()
            await port.shielded_wait(awaited.done, min(seconds, _GRACE))
    if awaited.has_value:
        return awaited.value
    left = "What was awaited has been cancelled."
    if not awaited.done.is_set:
        awaited.leave()
        left = "What was awaited does not let itself be cancelled and is left behind; it may still happen."
    elif not awaited.scope.cancel_called and awaited.error is not None:
        raise awaited.error
    raise no_answer(storage, key, seconds, left) from awaited.error


class _Awaited:
    """An answer that is awaited in a task of its own."""

    __slots__ = ("_left", "_storage", "_task", "done", "error", "has_value", "scope", "value")
    _behind: ClassVar[set[_Awaited]] = set()  # a loop holds its tasks weakly

    def __init__(self, answer: Awaitable[Any], storage: Any) -> None:
        self.done = Once()
        self.scope = CancelScope()
        self.value: Any = None
        self.has_value = False
        self.error: BaseException | None = None
        self._storage = storage
        self._left = False
        self._task = here().spawn(lambda: self._run(answer), copy_context())

    async def _run(self, answer: Awaitable[Any]) -> None:
        try:
            with self.scope:
                self.value = await answer
                self.has_value = True
        except BaseException as error:
            self.error = error
        finally:
            self.done.set()
            if self._left:
                self._behind.discard(self)
                _count(self._storage, -1)

    def leave(self) -> None:
        """Wait for it no longer."""
        self._left = True
        self._behind.add(self)
        _count(self._storage, 1)


def asked(work: Callable[[], T]) -> T:
    """Ask a storage something in the work of a question, or without one."""
    question = cast("Question | None", getattr(_here, "question", None))
    return work() if question is None else question.ask(work)


def refuse_what_was_given_up() -> None:
    """End what this thread does, if nobody waits for it any more; for the last moment before it would be seen.

    Raises:
        StorageTimeout: nobody does.
    """
    question = cast("Question | None", getattr(_here, "question", None))
    if question is not None:
        question.refuse()


def _unanswered(storage: Any) -> int:
    try:
        return _silent.get(storage, 0)
    except TypeError:  # it cannot be hashed, or referred to weakly
        return 0


def _count(storage: Any, change: int) -> None:
    try:
        number = _silent.get(storage, 0) + change
        if number > 0:
            _silent[storage] = number
        else:
            _silent.pop(storage, None)
    except TypeError:
        return
