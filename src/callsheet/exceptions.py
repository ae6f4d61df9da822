"""Every error that callsheet raises on purpose.

::

    CallsheetError (Exception)
    ├── MissingContextError (also RuntimeError)      no run is active here
    ├── UnfinishedRun                                a result was asked of a run that has none yet
    │   └── PausedRun                                … because it is paused
    ├── FailedRun · CrashedRun · CancelledRun        a result was asked of a run that ended without one
    ├── MissingResult                                the run completed, its result was not kept
    │   ├── ResultNotFound (also ValueError)         … storage has nothing under its key
    │   └── ResultDamaged                            … what storage has is not what was written
    ├── StorageError                                 a storage of results cannot be read or written
    │   ├── StorageFull                              … there is no room left
    │   └── StorageUnavailable                       … it refuses, or is gone
    │       └── StorageTimeout                       … or it does not answer in time
    ├── ParameterTypeError                           values do not fit the annotations
    ├── ParameterBindError (also TypeError)          arguments do not fit the signature
    ├── SignatureMismatchError (also TypeError)      keys do not fit the signature
    ├── ReservedArgumentError (also TypeError)       a parameter has a name that calls use themselves
    ├── InvalidNameError (also ValueError)           a name has a forbidden character
    ├── MappingMissingIterable · MappingLengthMismatch   `map` cannot pair its arguments
    ├── NestedTooDeeply (also RecursionError)        a value has more levels than can be gone through
    ├── ConfigurationError                           settings or options contradict each other
    ├── BlockingWaitError (also RuntimeError)        a blocking wait here could never end
    ├── RunKeyError (also RuntimeError)              a run key cannot be used so
    │   └── RunKeyConflict                           … its run was started with other parameters
    ├── LockLost (also RuntimeError)                 a lock was taken over while its holder thought to have it
    ├── EngineClosed (also RuntimeError)             the engine takes no new runs
    ├── MissingDependency (also ImportError)         an extra is not installed
    ├── NotPausedError · FlowPauseTimeout · FlowRunWaitTimeout
    ├── SignalTimeout (also TimeoutError)            no signal came in time
    ├── RunNotLive                                   a run that has ended, or lives nowhere, is sent or asked something
    ├── RunNotRepeatable                             a flow run cannot be retried, restarted or forked now
    ├── FlowChanged                                  a flow's code does not fit what its run has recorded
    ├── RecordingError                               a recording of a run cannot be read, or not be replayed
    ├── UnknownQuery (also LookupError)              a flow run has no handler for a query
    ├── QueryTimeout (also TimeoutError)             a flow run did not answer a query in time
    ├── QueryFailed                                  the handler of a query failed, in another process
    ├── VirtualTimeError (also RuntimeError)         something cannot be had in virtual time
    ├── ScriptError · SerializationError
    ├── ObjectNotFound · ObjectAlreadyExists
    └── StoreError                                   history cannot be read or written
        ├── StoreNotADatabase · StoreTooNew · StoreReadOnly · StoreLocked · StoreFull
        ├── StoreUnavailable                         the place is gone or refuses; what could not be saved
        ├── LostOwnership                            others took this engine for dead, and its runs over
        └── StoreClosed
    Signal (BaseException)                           control flow: `except Exception` in a body lets it pass
    ├── Abort                                        a run may not go on
    ├── Pause                                        a run leaves until it is resumed
    └── TerminationSignal                            the process was asked to end
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

__all__ = [
    "Abort", "BlockingWaitError", "CallsheetError", "CancelledRun", "ConfigurationError", "CrashedRun", "EngineClosed",
    "FailedRun", "FlowChanged", "FlowPauseTimeout", "FlowRunWaitTimeout", "InvalidNameError", "LockLost",
    "LostOwnership", "MappingLengthMismatch", "MappingMissingIterable", "MissingContextError", "MissingDependency",
    "MissingResult", "NestedTooDeeply", "NotPausedError", "ObjectAlreadyExists", "ObjectNotFound", "ParameterBindError",
    "ParameterTypeError", "Pause", "PausedRun", "QueryFailed", "QueryTimeout", "RecordingError",
    "ReservedArgumentError", "ResultDamaged", "ResultNotFound", "RunKeyConflict", "RunKeyError", "RunNotLive",
    "RunNotRepeatable", "ScriptError", "SerializationError", "Signal", "SignalTimeout", "SignatureMismatchError",
    "StorageError", "StorageFull", "StorageTimeout", "StorageUnavailable", "StoreClosed", "StoreError", "StoreFull",
    "StoreLocked", "StoreNotADatabase", "StoreReadOnly", "StoreTooNew", "StoreUnavailable", "TerminationSignal",
    "UnfinishedRun", "UnknownQuery", "VirtualTimeError",
]  # fmt: skip


class CallsheetError(Exception):
    """Base of every error of this package."""


class MissingContextError(CallsheetError, RuntimeError):
    """Raised when something is asked of the current run and no run is active."""


class UnfinishedRun(CallsheetError):
    """Raised when the result is asked of a run that is not in a final state."""


class PausedRun(UnfinishedRun):
    """Raised when the result is asked of a paused run."""

    def __init__(self, *args: Any, state: Any = None) -> None:
        super().__init__(*args)
        self.state = state


class FailedRun(CallsheetError):
    """Raised when the result is asked of a failed run that holds no exception of its own."""


class CrashedRun(CallsheetError):
    """Raised when the result is asked of a run that something from outside ended."""


class CancelledRun(CallsheetError):
    """Raised when the result is asked of a cancelled run."""


class MissingResult(CallsheetError):
    """Raised when a completed run's result was not kept."""


class ResultNotFound(MissingResult, ValueError):
    """Raised when storage has nothing under the key of a result."""


class ResultDamaged(MissingResult):
    """Raised when what storage has under a key is torn, was changed, or was written by something else."""


class StorageError(CallsheetError):
    """Base of what goes wrong with a storage of results."""


class StorageFull(StorageError):
    """Raised when there is no room left for a result."""


class StorageUnavailable(StorageError):
    """Raised when a storage refuses or is gone."""


class StorageTimeout(StorageUnavailable):
    """Raised when a storage does not answer in time; what it was asked may still happen."""


class ParameterTypeError(CallsheetError):
    """Raised when parameters do not fit the types that a flow's signature names."""


class ParameterBindError(CallsheetError, TypeError):
    """Raised by a call whose arguments do not fit the signature. No run exists then."""

    @classmethod
    def from_bind_failure(
        cls, fn: Callable[..., Any], error: TypeError, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ParameterBindError:
        """Say which function, what Python said, and what was passed."""
        import inspect

        name = getattr(fn, "__name__", type(fn).__name__)
        signature = inspect.signature(fn).replace(return_annotation=inspect.Signature.empty)
        return cls(
            f"Error binding parameters for function '{name}': {error}.\n"
            f"Function '{name}' has signature '{str(signature)[1:-1]}' "
            f"but received args: {args} and kwargs: {list(kwargs)}."
        )


class SignatureMismatchError(CallsheetError, TypeError):
    """Raised when parameter names do not fit a function's signature."""

    @classmethod
    def from_bad_params(cls, expected: Iterable[str], provided: Iterable[str]) -> SignatureMismatchError:
        """Say which names the function has and which were given."""
        return cls(f"Function expects parameters {list(expected)} but was provided with parameters {list(provided)}")


class ReservedArgumentError(CallsheetError, TypeError):
    """Raised by a decorator when a parameter's name is one that calls use themselves."""


class InvalidNameError(CallsheetError, ValueError):
    """Raised when a name has a character that addresses cannot carry."""


class MappingMissingIterable(CallsheetError):
    """Raised when `map` is given nothing to iterate over."""


class MappingLengthMismatch(CallsheetError):
    """Raised when `map` is given iterables of different lengths."""


class ConfigurationError(CallsheetError):
    """Raised when settings or options contradict each other."""


class BlockingWaitError(CallsheetError, RuntimeError):
    """Raised when a blocking wait could never end, because what it waits for needs the thread it blocks."""


class RunKeyError(CallsheetError, RuntimeError):
    """Raised when a run key is used where it cannot hold: for a second run, inside its own run, or with no history."""


class RunKeyConflict(RunKeyError):
    """Raised when a run key belongs to a run that was started with other parameters."""


class LockLost(CallsheetError, RuntimeError):
    """Raised when a lock that is needed for a write was taken over: its holder did not give a sign of life in time."""


class EngineClosed(CallsheetError, RuntimeError):
    """Raised when an engine that is draining or closed is asked to start a run."""


class MissingDependency(CallsheetError, ImportError):
    """Raised when a feature needs an extra that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"'{package}' is not installed. Install it with: pip install 'callsheet[{extra}]'")
        self.package = package
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made of: the arguments of an exception are its text."""
        return type(self), (self.package, self.extra), self.__dict__


class NotPausedError(CallsheetError):
    """Raised when a run that is not paused is asked to resume."""


class FlowPauseTimeout(CallsheetError):
    """Raised when a pause was not resumed in time."""


class FlowRunWaitTimeout(CallsheetError):
    """Raised when a flow run did not end in time."""


class SignalTimeout(CallsheetError, TimeoutError):
    """Raised when a flow run waited for a signal and none came in time."""


class RunNotLive(CallsheetError):
    """Raised when a run that has ended, or that no living process has, is sent or asked something."""


class RunNotRepeatable(CallsheetError):
    """Raised when a flow run cannot be retried, restarted or forked now; the message says why."""


class FlowChanged(CallsheetError):
    """Raised in a flow with `on_change="fail"` whose calls are not those that an earlier life of its run has recorded."""


class RecordingError(CallsheetError):
    """Raised when a recording of a flow run cannot be read, or cannot be replayed; the message says why."""


class UnknownQuery(CallsheetError, LookupError):
    """Raised when a flow run is asked what its body has registered no handler for."""


class QueryTimeout(CallsheetError, TimeoutError):
    """Raised when a flow run did not answer a query in time."""


class QueryFailed(CallsheetError):
    """Raised when the handler of a query failed in another process; says what it raised there."""


class VirtualTimeError(CallsheetError, RuntimeError):
    """Raised when something is asked for that virtual time cannot give: a socket, a loop of uvloop, a second clock."""


class ScriptError(CallsheetError):
    """Raised when a script that should define a flow fails."""

    def __init__(self, user_exc: BaseException, path: str) -> None:
        super().__init__(f"Script at {str(path)!r} encountered an exception: {user_exc!r}")
        self.user_exc = user_exc
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made of: the arguments of an exception are its text."""
        return type(self), (self.user_exc, self.path), self.__dict__


class NestedTooDeeply(CallsheetError, RecursionError):
    """Raised when a value holds values that hold values, and so on, for more levels than can be gone through.

    Make it flatter, or raise `sys.setrecursionlimit`. A value that only goes through a call is never gone through.
    """


class SerializationError(CallsheetError):
    """Raised when a value cannot be turned into bytes, or bytes into a value."""


class _AboutObject(CallsheetError if TYPE_CHECKING else object):
    """What is told of an object: what a service answered, or a text of our own."""

    _text: ClassVar[str]

    def __init__(self, http_exc: Any = None, help_message: str | None = None) -> None:
        super().__init__(help_message or (str(http_exc) if http_exc is not None else self._text))
        self.http_exc = http_exc
        self.help_message = help_message

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what it was made of: the arguments of an exception are its text."""
        return type(self), (self.http_exc, self.help_message), self.__dict__


class ObjectNotFound(_AboutObject, CallsheetError):
    """Raised when what was asked for does not exist."""

    _text = "Object not found"


class ObjectAlreadyExists(_AboutObject, CallsheetError):
    """Raised when what should be created exists."""

    _text = "Object already exists"


class StoreError(CallsheetError):
    """Base of what goes wrong with the place where history is kept."""


class StoreNotADatabase(StoreError):
    """Raised when the file is not a database of ours, or is damaged."""


class StoreTooNew(StoreError):
    """Raised when a newer callsheet has changed the database so that this one must not use it; runs under way get `LostOwnership`."""


class StoreReadOnly(StoreError):
    """Raised when the database or its folder cannot be written."""


class StoreLocked(StoreError):
    """Raised when another process held the database for longer than the deadline."""


class StoreFull(StoreError):
    """Raised when the disk is full."""


class StoreUnavailable(StoreError):
    """Raised when the database is gone or its disk refuses; tells what could not be saved."""


class LostOwnership(StoreError):
    """Raised in the runs of an engine that others took for dead, or that is too old for the database by now.

    They go on elsewhere, and nothing of them counts here.
    """


class StoreClosed(StoreError):
    """Raised when a closed store or client is used."""


class Signal(BaseException):
    """Base of control flow. Derives from `BaseException` so that a body's `except Exception` lets it pass."""


class Abort(Signal):
    """Raised in a run that may not go on."""


class Pause(Signal):
    """Raised in a flow run that leaves until it is resumed."""

    def __init__(self, *args: Any, state: Any = None) -> None:
        super().__init__(*args)
        self.state = state


class TerminationSignal(Signal):
    """Raised in a run whose process was asked to end."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
