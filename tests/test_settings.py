"""Settings: read from the environment with clear errors, replaced for a while in a context."""

from __future__ import annotations

import contextvars
import threading
from pathlib import Path
from typing import Any

import pytest

import callsheet.settings as module
from callsheet import task
from callsheet._model.kinds import Durability
from callsheet.exceptions import ConfigurationError
from callsheet.settings import (
    CALLSHEET_API_URL,
    CALLSHEET_DURABILITY,
    CALLSHEET_FLOW_DEFAULT_RETRIES,
    CALLSHEET_HOME,
    CALLSHEET_TASK_DEFAULT_RETRIES,
    Setting,
    Settings,
    get_current_settings,
    held_by_all,
    refresh_settings,
    temporary_settings,
)


@pytest.fixture(autouse=True)
def fresh(callsheet_home: Path, monkeypatch: pytest.MonkeyPatch):
    refresh_settings()
    yield
    monkeypatch.undo()
    refresh_settings()


def test_home_and_database(callsheet_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get_current_settings().home == callsheet_home
    assert get_current_settings().database == str(callsheet_home / "callsheet.db")
    monkeypatch.delenv("CALLSHEET_HOME")
    assert refresh_settings().home == Path.home() / ".callsheet"
    monkeypatch.setenv("CALLSHEET_DATABASE", ":memory:")
    assert refresh_settings().database == ":memory:"
    monkeypatch.setenv("CALLSHEET_DATABASE", "~/x.db")
    assert refresh_settings().database == str(Path.home() / "x.db")


def test_the_snapshot_stays_until_it_is_refreshed(monkeypatch: pytest.MonkeyPatch) -> None:
    before = get_current_settings()
    monkeypatch.setenv("CALLSHEET_TASK_DEFAULT_RETRIES", "3")
    assert get_current_settings() is before
    assert refresh_settings().task_default_retries == 3
    assert get_current_settings() is refresh_settings()
    assert CALLSHEET_TASK_DEFAULT_RETRIES.value() == 3
    assert CALLSHEET_TASK_DEFAULT_RETRIES.default() == 0


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("DURABILITY", "Strict", Durability.STRICT),
        ("BLOCKING_WAITS", "error", "error"),
        ("DRAIN_SECONDS", "2.5", 2.5),
        ("LEASE_SECONDS", "0.2", 0.2),
        ("TASK_RUNNER_MAX_WORKERS", "4", 4),
        ("TASK_RUNNER_MAX_WORKERS", "", None),
        ("LOGGING_LEVEL", "debug", "DEBUG"),
        ("LOGGING_LEVEL", "20", "INFO"),
        ("LOGGING_LEVEL", "17", "17"),
        ("LOGGING_LOG_PRINTS", "yes", True),
        ("LOGGING_TO_DATABASE", "off", False),
        ("FLOW_DEFAULT_RETRY_DELAY_SECONDS", "1", 1.0),
        ("TASK_DEFAULT_RETRY_DELAY_SECONDS", "1, 2.5", [1.0, 2.5]),
        ("TASK_DEFAULT_RETRY_DELAY_SECONDS", "[1, 10]", [1.0, 10.0]),
        ("TASK_DEFAULT_RETRY_DELAY_SECONDS", "7", 7.0),
        ("API_URL", "http://x", "http://x"),
        ("TESTING_UNIT_TEST_MODE", "1", True),
        ("_ENABLE_CANCELLATION_AND_CRASHED_HOOKS", "false", False),
    ],
)
def test_values(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: Any) -> None:
    monkeypatch.setenv(f"CALLSHEET_{variable}", text)
    found = getattr(refresh_settings(), variable.lower().removeprefix("_"))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("DURABILITY", "fsync", "expected one of off, relaxed, results, strict"),
        ("BLOCKING_WAITS", "no", "expected one of allow, error"),
        ("DRAIN_SECONDS", "soon", "expected a number"),
        ("DRAIN_SECONDS", "-1", "not negative"),
        ("DRAIN_SECONDS", "nan", "not negative"),
        ("LEASE_SECONDS", "0.1", "at least 0.2 seconds"),
        ("TASK_RUNNER_MAX_WORKERS", "many", "expected a whole number"),
        ("FLOW_DEFAULT_RETRIES", "1.5", "expected a whole number"),
        ("FLOW_DEFAULT_RETRIES", "-1", "not negative"),
        ("LOGGING_LEVEL", "LOUD", "expected a level"),
        ("LOGGING_LOG_PRINTS", "maybe", "expected true or false"),
        ("TASK_DEFAULT_RETRY_DELAY_SECONDS", "1,x", "expected a number"),
    ],
)
def test_errors_name_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, expected: str) -> None:
    monkeypatch.setenv(f"CALLSHEET_{variable}", text)
    with pytest.raises(ConfigurationError) as caught:
        refresh_settings()
    assert str(caught.value).startswith(f"CALLSHEET_{variable} cannot be {text!r}: ")
    assert expected in str(caught.value)


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_API_KEY", "hush")
    settings = refresh_settings()
    assert settings.api_key == "hush"
    assert "hush" not in repr(settings)
    assert "api_key='***'" in repr(settings)


def test_temporary() -> None:
    outer = get_current_settings()
    with temporary_settings({CALLSHEET_TASK_DEFAULT_RETRIES: 3}) as given:
        assert given is get_current_settings()
        assert CALLSHEET_TASK_DEFAULT_RETRIES.value() == 3
        with temporary_settings({"CALLSHEET_DURABILITY": "off", "flow_default_retries": 1}):
            assert CALLSHEET_DURABILITY.value() is Durability.OFF
            assert CALLSHEET_TASK_DEFAULT_RETRIES.value() == 3
            assert CALLSHEET_FLOW_DEFAULT_RETRIES.value() == 1
            with temporary_settings(restore_defaults=[CALLSHEET_TASK_DEFAULT_RETRIES]):
                assert CALLSHEET_TASK_DEFAULT_RETRIES.value() == 0
        assert CALLSHEET_FLOW_DEFAULT_RETRIES.value() == 0
    assert get_current_settings() is outer


def test_temporary_defaults_yield_to_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLSHEET_TASK_DEFAULT_RETRIES", "3")
    refresh_settings()
    defaults = {CALLSHEET_TASK_DEFAULT_RETRIES: 5, CALLSHEET_FLOW_DEFAULT_RETRIES: 6}
    with temporary_settings(set_defaults=defaults) as given:
        assert (given.task_default_retries, given.flow_default_retries) == (3, 6)
    with temporary_settings(set_defaults=defaults, restore_defaults=["CALLSHEET_TASK_DEFAULT_RETRIES"]) as given:
        assert given.task_default_retries == 5


def test_temporary_home_takes_the_database_along(tmp_path: Path) -> None:
    with temporary_settings({CALLSHEET_HOME: tmp_path}) as given:
        assert given.database == str(tmp_path / "callsheet.db")


def test_temporary_values_are_checked() -> None:
    with (
        pytest.raises(ConfigurationError, match="CALLSHEET_DURABILITY cannot be 'x'"),
        temporary_settings({CALLSHEET_DURABILITY: "x"}),
    ):
        pass
    with (
        pytest.raises(ConfigurationError, match="no setting called 'CALLSHEET_NOPE'"),
        temporary_settings({"CALLSHEET_NOPE": 1}),
    ):
        pass
    with temporary_settings({CALLSHEET_API_URL: None}) as given:
        assert given.api_url is None


def test_temporary_settings_follow_the_context() -> None:
    seen: list[int] = []
    with temporary_settings({CALLSHEET_TASK_DEFAULT_RETRIES: 3}):
        context = contextvars.copy_context()
        threads = [
            threading.Thread(target=context.run, args=(lambda: seen.append(CALLSHEET_TASK_DEFAULT_RETRIES.value()),)),
            threading.Thread(target=lambda: seen.append(CALLSHEET_TASK_DEFAULT_RETRIES.value())),
        ]
        for thread in threads:
            thread.start()
            thread.join()
    assert seen == [3, 0]


def test_each_setting_has_an_attribute() -> None:
    attributes = {name: value for name, value in vars(module).items() if isinstance(value, Setting)}
    assert {setting.field for setting in attributes.values()} == set(Settings.__struct_fields__) - {"explicit"}
    for name, setting in attributes.items():
        assert setting.name == name
        assert name in repr(setting)


def test_temporary_settings_stand_on_the_environment_as_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    get_current_settings()
    monkeypatch.setenv("CALLSHEET_HOME", "/somewhere/else")
    with temporary_settings({"CALLSHEET_TASK_DEFAULT_RETRIES": 1}) as settings:
        assert settings.database == "/somewhere/else/callsheet.db"


def test_the_environment_is_read_beneath_temporary_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_settings({CALLSHEET_FLOW_DEFAULT_RETRIES: 1}):
        with temporary_settings({CALLSHEET_API_URL: "http://here"}, restore_defaults=[CALLSHEET_FLOW_DEFAULT_RETRIES]):
            monkeypatch.setenv("CALLSHEET_TASK_DEFAULT_RETRIES", "3")
            monkeypatch.setenv("CALLSHEET_FLOW_DEFAULT_RETRIES", "5")
            assert task(len).retries == 3
            assert get_current_settings().api_url == "http://here"
            assert get_current_settings().flow_default_retries == 0
        assert refresh_settings().flow_default_retries == 1
        assert refresh_settings() is get_current_settings()
        monkeypatch.delenv("CALLSHEET_TASK_DEFAULT_RETRIES")
        assert task(len).retries == 0
    assert refresh_settings().flow_default_retries == 5


def test_settings_for_all_hold_in_threads_without_the_context_too() -> None:
    seen: list[int] = []

    def look() -> None:
        thread = threading.Thread(target=lambda: seen.append(CALLSHEET_TASK_DEFAULT_RETRIES.value()))
        thread.start()
        thread.join()

    held_by_all.append({"task_default_retries": 2})
    try:
        refresh_settings()
        look()
    finally:
        held_by_all.pop()
    refresh_settings()
    look()
    assert seen == [2, 0]
