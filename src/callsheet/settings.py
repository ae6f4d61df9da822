"""Settings: ``CALLSHEET_*`` variables of the environment, read once into one frozen struct.

`get_current_settings` is for hot paths: it gives a snapshot. `refresh_settings` reads the environment again if it
has changed; definitions and engines call it when they are made, so a variable that a program sets before that counts.
"""

from __future__ import annotations

import os
import types
from collections import ChainMap
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from callsheet._converting import to_bool, to_choice, to_database, to_delays, to_float, to_int, to_lease, to_level
from callsheet._model.kinds import Durability
from callsheet.exceptions import ConfigurationError

__all__ = [
    "CALLSHEET_API_KEY", "CALLSHEET_API_URL", "CALLSHEET_BLOCKING_WAITS", "CALLSHEET_CANCEL_GRACE_SECONDS",
    "CALLSHEET_DATABASE", "CALLSHEET_DEFAULT_RESULT_STORAGE", "CALLSHEET_DEFAULT_WORK_POOL_NAME",
    "CALLSHEET_DRAIN_SECONDS", "CALLSHEET_DURABILITY", "CALLSHEET_FLOW_DEFAULT_RETRIES",
    "CALLSHEET_FLOW_DEFAULT_RETRY_DELAY_SECONDS", "CALLSHEET_HOME", "CALLSHEET_LEASE_SECONDS",
    "CALLSHEET_LOCAL_STORAGE_PATH", "CALLSHEET_LOGGING_LEVEL", "CALLSHEET_LOGGING_LOG_PRINTS",
    "CALLSHEET_LOGGING_TO_DATABASE", "CALLSHEET_RESULTS_DEFAULT_SERIALIZER", "CALLSHEET_RESULTS_ENCRYPTION_KEYS",
    "CALLSHEET_RESULTS_PERSIST_BY_DEFAULT", "CALLSHEET_RESULTS_STORAGE_TIMEOUT_SECONDS",
    "CALLSHEET_SERVER_ALLOW_EPHEMERAL_MODE", "CALLSHEET_SLEEP_SUSPENDS_AFTER_SECONDS", "CALLSHEET_TASKS_REFRESH_CACHE",
    "CALLSHEET_TASK_DEFAULT_RETRIES", "CALLSHEET_TASK_DEFAULT_RETRY_DELAY_SECONDS", "CALLSHEET_TASK_RUNNER_MAX_WORKERS",
    "CALLSHEET_TESTING_UNIT_TEST_MODE", "CALLSHEET_UI_URL", "CALLSHEET__ENABLE_CANCELLATION_AND_CRASHED_HOOKS",
    "Setting", "Settings", "get_current_settings", "refresh_settings", "temporary_settings",
]  # fmt: skip

T = TypeVar("T")

_PREFIX = "CALLSHEET_"
_SECRET = frozenset({"api_key", "results_encryption_keys"})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be configured from outside.

    The variable of a field is its name in capitals after ``CALLSHEET_``. Durations are in seconds.

    Attributes:
        home: Folder for what is kept between processes.
        database: File of the history; ``:memory:`` keeps it in the process. Default: ``callsheet.db`` in `home`.
        durability: What is on disk before a caller goes on: ``off``, ``relaxed``, ``results`` or ``strict``.
        blocking_waits: ``error`` forbids waits that would park a sync frame of async code.
        drain_seconds: How long an engine that ends lets running runs finish before it cancels them; as it was at its opening.
        cancel_grace_seconds: How long a run that ends early waits for the children that it cancelled.
        lease_seconds: How long an engine may give no sign of life before others take it for dead; at least 0.2. As it was at its opening.
        sleep_suspends_after_seconds: How long a sleep or a wait for a signal does not suspend a run; ``inf``: any.
        task_runner_max_workers: Default of the task runners' `max_workers`; `None` sets no limit.
        logging_level: Level of the ``callsheet`` loggers, given to them once, at their first use.
        logging_log_prints: Whether `print` in runs goes to their logger, where flow and task do not say.
        logging_to_database: Whether the records of run loggers are kept in the history.
        flow_default_retries: Retries of flows that do not say.
        flow_default_retry_delay_seconds: Delay before each of them.
        task_default_retries: Retries of tasks that do not say.
        task_default_retry_delay_seconds: Delay before each of them; several, parted by commas, for one after the other.
        results_persist_by_default: Whether results are persisted where flow and task do not say.
        results_default_serializer: Serializer of results that do not say.
        results_encryption_keys: Keys of serializers that encrypt, parted by commas; the first one encrypts.
        results_storage_timeout_seconds: How long a storage of results may take to answer; 0 is for ever.
        local_storage_path: Folder for results that do not say where, instead of a place beside the history.
        default_result_storage: Path or URL of a storage for the same; goes before `local_storage_path`.
        tasks_refresh_cache: Whether tasks that do not say compute anew what is cached.
        enable_cancellation_and_crashed_hooks: Whether hooks for cancelled and crashed flow runs run at all (its
            variable has two underscores: ``CALLSHEET__ENABLE_CANCELLATION_AND_CRASHED_HOOKS``).
        api_url: Address of a server, for the addresses of runs; no server is told of anything yet.
        api_key: Key for that server; nothing reads it yet.
        ui_url: Address of a user interface, for links.
        server_allow_ephemeral_mode: Whether a client without an address may work in this process.
        default_work_pool_name: Work pool of deployments that do not say; nothing reads it yet.
        testing_unit_test_mode: Whether this process runs unit tests.
        explicit: Names of the fields that were set, as opposed to left at their defaults.
    """

    home: Path
    database: str
    durability: Durability = Durability.RESULTS
    blocking_waits: Literal["allow", "error"] = "allow"
    drain_seconds: float = 30.0
    cancel_grace_seconds: float = 30.0
    lease_seconds: float = 10.0
    sleep_suspends_after_seconds: float = 60.0
    task_runner_max_workers: int | None = None
    logging_level: str = "INFO"
    logging_log_prints: bool = False
    logging_to_database: bool = True
    flow_default_retries: int = 0
    flow_default_retry_delay_seconds: float = 0
    task_default_retries: int = 0
    task_default_retry_delay_seconds: float | list[float] = 0
    results_persist_by_default: bool = False
    results_default_serializer: str = "pickle"
    results_encryption_keys: str | None = None
    results_storage_timeout_seconds: float = 60.0
    local_storage_path: Path | None = None
    default_result_storage: str | None = None
    tasks_refresh_cache: bool = False
    enable_cancellation_and_crashed_hooks: bool = True
    api_url: str | None = None
    api_key: str | None = None
    ui_url: str | None = None
    server_allow_ephemeral_mode: bool = True
    default_work_pool_name: str | None = None
    testing_unit_test_mode: bool = False
    explicit: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        shown = (
            f"{name}={'***' if name in _SECRET else getattr(self, name)!r}" for name in _NAMES if name in self.explicit
        )
        return f"Settings({', '.join(shown)})"


class Setting(Generic[T]):
    """One setting: its variable's name, its default and its current value.

    Example:
        >>> CALLSHEET_DURABILITY.name, CALLSHEET_FLOW_DEFAULT_RETRIES.value()
        ('CALLSHEET_DURABILITY', 0)
    """

    __slots__ = ("field", "name", "type")

    def __init__(self, field: str, name: str, type_: object) -> None:
        self.field = field
        self.name = name
        self.type = type_

    def value(self) -> T:
        """Give the value that holds here and now."""
        return cast("T", getattr(get_current_settings(), self.field))

    def default(self) -> T:
        """Give the value that holds where nothing was set."""
        return cast("T", getattr(_build({}), self.field))

    def __repr__(self) -> str:
        return f"<{self.name}>"


# ------------------------------------------------------------------------------------------ reading values


def _to_durability(value: Any) -> Durability:
    return Durability(to_choice(*Durability)(value.value if isinstance(value, Durability) else value))


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    "database": to_database,
    "logging_level": to_level,
    "blocking_waits": to_choice("allow", "error"),
    "lease_seconds": to_lease,
    "task_default_retry_delay_seconds": to_delays,
}
_BY_TYPE: dict[object, Callable[[Any], Any]] = {
    bool: to_bool,
    int: to_int,
    float: to_float,
    str: str,
    Path: lambda value: Path(value).expanduser(),
    Durability: _to_durability,
}


def _converter(field: str, hint: object) -> Callable[[Any], Any]:
    if field in _SPECIAL:
        return _SPECIAL[field]
    if get_origin(hint) in (Union, types.UnionType):
        inner = _BY_TYPE[get_args(hint)[0]]
        return lambda value: None if value is None or value == "" else inner(value)
    return _BY_TYPE[hint]


_HINTS = {name: hint for name, hint in get_type_hints(Settings).items() if name != "explicit"}
_NAMES = tuple(_HINTS)
_CONVERT = {name: _converter(name, hint) for name, hint in _HINTS.items()}
_VARIABLES = {name: _PREFIX + name.upper() for name in _NAMES} | {
    "enable_cancellation_and_crashed_hooks": "CALLSHEET__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"
}
_FIELDS = {variable: name for name, variable in _VARIABLES.items()}


def _build(values: Mapping[str, Any]) -> Settings:
    """Convert what was set, by field name, and derive what follows from it."""
    made: dict[str, Any] = {}
    for name, value in values.items():
        try:
            made[name] = _CONVERT[name](value)
        except ValueError as error:
            shown = "the given value" if name in _SECRET else repr(value)
            raise ConfigurationError(f"{_VARIABLES[name]} cannot be {shown}: {error}.") from None
    explicit = frozenset(made)
    made.setdefault("home", Path("~/.callsheet").expanduser())
    made.setdefault("database", str(made["home"] / "callsheet.db"))
    return Settings(**made, explicit=explicit)


# ------------------------------------------------------------------------------------------ current values


class _Held:
    """What a block of `temporary_settings` holds, over what is held around it and over the environment.

    Attributes:
        settings: What comes of it with the environment as it was read last.
    """

    __slots__ = ("_around", "_beneath", "_defaults", "_restored", "_updates", "settings")

    def __init__(
        self, around: _Held | None, updates: dict[str, Any], defaults: dict[str, Any], restored: frozenset[str]
    ) -> None:
        self._around = around
        self._updates, self._defaults, self._restored = updates, defaults, restored
        self.follow()

    def follow(self) -> None:
        """Let what is not held here be as it is now, if anything has changed beneath."""
        if self._around is not None:
            self._around.follow()
        beneath = self._around.settings if self._around is not None else _snapshot
        if beneath is None:
            beneath = refresh_settings()
        if getattr(self, "_beneath", None) is not beneath:
            kept = {name: getattr(beneath, name) for name in beneath.explicit if name not in self._restored}
            self.settings = _build({**self._defaults, **kept, **self._updates})
            self._beneath = beneath


_variables = tuple(_VARIABLES.values())
_seen: list[Any] | None = None  # what the environment held when the snapshot was taken
# `os.environ` encodes each name at each look: 20 µs for all of them, 1 µs in the dict that it wraps.
_raw: Mapping[Any, Any] = getattr(os.environ, "_data", os.environ)
_raw_names = _variables if _raw is os.environ else tuple(map(os.environ.encodekey, _variables))
_snapshot: Settings | None = None
held_here: ContextVar[_Held | None] = ContextVar("callsheet_settings", default=None)
held_by_all: list[dict[str, Any]] = []  # by field, over the environment, in threads that know no context as well


def get_current_settings() -> Settings:
    """Give the settings that hold here: temporary ones, else the last snapshot of the environment.

    Returns:
        The settings; the same object as long as nothing changes.

    Raises:
        ConfigurationError: A variable has a value that its setting cannot have.

    Example:
        >>> get_current_settings().flow_default_retries
        0
    """
    temporary = held_here.get()
    if temporary is not None:
        return temporary.settings
    return _snapshot if _snapshot is not None else refresh_settings()


def refresh_settings() -> Settings:
    """Read the environment again if it has changed, and give the settings that hold here.

    Returns:
        The settings, as `get_current_settings` gives them from now on.

    Raises:
        ConfigurationError: A variable has a value that its setting cannot have.

    Example:
        >>> refresh_settings() is get_current_settings()
        True
    """
    global _seen, _snapshot
    found = [*map(_raw.get, _raw_names), *held_by_all]
    if _snapshot is None or found != _seen:
        # A variable that is set to nothing counts as not set, as is usual in shells and compose files.
        values = {name: value for name in _NAMES if (value := os.environ.get(_VARIABLES[name]))}
        _snapshot = _build(ChainMap(*reversed(held_by_all), values))
        _seen = found
    held = held_here.get()
    if held is None:
        return _snapshot
    held.follow()
    return held.settings


@contextmanager
def temporary_settings(
    updates: Mapping[Setting[Any] | str, Any] | None = None,
    set_defaults: Mapping[Setting[Any] | str, Any] | None = None,
    restore_defaults: Iterable[Setting[Any] | str] | None = None,
) -> Generator[Settings, None, None]:
    """Let other settings hold inside the block, in this context and in what inherits it, in engines that are open too.

    Args:
        updates: New values by setting, variable name or field name.
        set_defaults: The same, for settings that are not set.
        restore_defaults: Settings that get their defaults back.

    Yields:
        The settings that hold inside the block.

    Raises:
        ConfigurationError: A name is unknown, or a value does not fit.

    Example:
        >>> with temporary_settings({CALLSHEET_TASK_DEFAULT_RETRIES: 3}):
        ...     CALLSHEET_TASK_DEFAULT_RETRIES.value()
        3
    """
    refresh_settings()
    restored = frozenset(_field(setting) for setting in restore_defaults or ())
    defaults = {_field(setting): value for setting, value in (set_defaults or {}).items()}
    given = {_field(setting): value for setting, value in (updates or {}).items()}
    token = held_here.set(_Held(held_here.get(), given, defaults, restored))
    try:
        yield get_current_settings()
    finally:
        held_here.reset(token)


def _field(setting: Setting[Any] | str) -> str:
    name = setting.field if isinstance(setting, Setting) else _FIELDS.get(setting, setting)
    if name not in _CONVERT:
        raise ConfigurationError(f"There is no setting called {setting!r}.")
    return name


def _setting(field: str) -> Setting[Any]:
    return Setting(field, _VARIABLES[field], _HINTS[field])


CALLSHEET_HOME: Setting[Path] = _setting("home")
CALLSHEET_DATABASE: Setting[str] = _setting("database")
CALLSHEET_DURABILITY: Setting[Durability] = _setting("durability")
CALLSHEET_BLOCKING_WAITS: Setting[str] = _setting("blocking_waits")
CALLSHEET_DRAIN_SECONDS: Setting[float] = _setting("drain_seconds")
CALLSHEET_CANCEL_GRACE_SECONDS: Setting[float] = _setting("cancel_grace_seconds")
CALLSHEET_LEASE_SECONDS: Setting[float] = _setting("lease_seconds")
CALLSHEET_SLEEP_SUSPENDS_AFTER_SECONDS: Setting[float] = _setting("sleep_suspends_after_seconds")
CALLSHEET_TASK_RUNNER_MAX_WORKERS: Setting[int | None] = _setting("task_runner_max_workers")
CALLSHEET_LOGGING_LEVEL: Setting[str] = _setting("logging_level")
CALLSHEET_LOGGING_LOG_PRINTS: Setting[bool] = _setting("logging_log_prints")
CALLSHEET_LOGGING_TO_DATABASE: Setting[bool] = _setting("logging_to_database")
CALLSHEET_FLOW_DEFAULT_RETRIES: Setting[int] = _setting("flow_default_retries")
CALLSHEET_FLOW_DEFAULT_RETRY_DELAY_SECONDS: Setting[float] = _setting("flow_default_retry_delay_seconds")
CALLSHEET_TASK_DEFAULT_RETRIES: Setting[int] = _setting("task_default_retries")
CALLSHEET_TASK_DEFAULT_RETRY_DELAY_SECONDS: Setting[float | list[float]] = _setting("task_default_retry_delay_seconds")
CALLSHEET_RESULTS_PERSIST_BY_DEFAULT: Setting[bool] = _setting("results_persist_by_default")
CALLSHEET_RESULTS_DEFAULT_SERIALIZER: Setting[str] = _setting("results_default_serializer")
CALLSHEET_RESULTS_ENCRYPTION_KEYS: Setting[str | None] = _setting("results_encryption_keys")
CALLSHEET_RESULTS_STORAGE_TIMEOUT_SECONDS: Setting[float] = _setting("results_storage_timeout_seconds")
CALLSHEET_LOCAL_STORAGE_PATH: Setting[Path | None] = _setting("local_storage_path")
CALLSHEET_DEFAULT_RESULT_STORAGE: Setting[str | None] = _setting("default_result_storage")
CALLSHEET_TASKS_REFRESH_CACHE: Setting[bool] = _setting("tasks_refresh_cache")
CALLSHEET__ENABLE_CANCELLATION_AND_CRASHED_HOOKS: Setting[bool] = _setting("enable_cancellation_and_crashed_hooks")
CALLSHEET_API_URL: Setting[str | None] = _setting("api_url")
CALLSHEET_API_KEY: Setting[str | None] = _setting("api_key")
CALLSHEET_UI_URL: Setting[str | None] = _setting("ui_url")
CALLSHEET_SERVER_ALLOW_EPHEMERAL_MODE: Setting[bool] = _setting("server_allow_ephemeral_mode")
CALLSHEET_DEFAULT_WORK_POOL_NAME: Setting[str | None] = _setting("default_work_pool_name")
CALLSHEET_TESTING_UNIT_TEST_MODE: Setting[bool] = _setting("testing_unit_test_mode")
