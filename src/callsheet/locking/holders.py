"""Who holds a lock: the code that runs here, as a name that no other code has at the same time."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from functools import cache
from weakref import WeakKeyDictionary

from callsheet._kernel.driver import current_backend_task

_numbers = itertools.count(1)
_tasks: WeakKeyDictionary[object, int] = WeakKeyDictionary()
_threads = threading.local()  # not idents: those of threads that ended are given to new ones


def generate_default_holder() -> str:
    """Name the code that runs here: the machine, the process and, where there are several, the thread and the task.

    Returns:
        A name that stays the same as long as that code runs, and that no other code has.

    Example:
        >>> generate_default_holder() == generate_default_holder()
        True
    """
    holder = f"{_hostname()}:{os.getpid()}"
    if threading.current_thread() is not threading.main_thread():
        holder += f":thread-{_number_of_thread()}"
    task = current_backend_task()
    if task is None:
        return holder
    number = _tasks.get(task)
    if number is None:
        number = _tasks[task] = next(_numbers)
    return f"{holder}:task-{number}"


def _number_of_thread() -> int:
    number: int | None = getattr(_threads, "number", None)
    if number is None:
        number = _threads.number = next(_numbers)
    return number


@cache
def _hostname() -> str:
    return socket.gethostname()
