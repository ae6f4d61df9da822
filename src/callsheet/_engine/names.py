"""Names of runs: templates, functions that make names, and what a run is called without either."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

NameOption = Literal["flow_run_name", "task_run_name"]


def check_run_name(template: object, what: NameOption) -> None:
    """Refuse a run name option that can never give a name.

    Args:
        template: What was passed as the option; `None` stands for "left out".
        what: The option's name, for the message.

    Raises:
        TypeError: It is neither a string nor callable.

    Example:
        >>> check_run_name("{x}-{y.name}", "task_run_name")
        >>> check_run_name(7, "task_run_name")
        Traceback (most recent call last):
        TypeError: Expected string or callable for 'task_run_name'; got int instead.
    """
    if template is not None and not isinstance(template, str) and not callable(template):
        raise TypeError(f"Expected string or callable for '{what}'; got {type(template).__name__} instead.")


def format_run_name(
    template: str | Callable[..., object] | None, default: str, parameters: Mapping[str, Any], *, what: NameOption
) -> str:
    """Give the name of one run.

    Args:
        template: A format string over the parameters, or a callable that takes nothing or one argument called
            `parameters`. `None` gives `default`.
        default: The name that the run has so far.
        parameters: The run's parameters, resolved and with defaults.
        what: The option's name, for messages.

    Returns:
        The name.

    Raises:
        TypeError: The template is neither a string nor callable (checked again here, because it can be
            assigned after the definition), or the callable gave something that is no string.
        Exception: What formatting or the callable raised; a note says which template it was.

    Example:
        >>> format_run_name("{user[name]}-{n}", "x", {"user": {"name": "ada"}, "n": 2}, what="task_run_name")
        'ada-2'
    """
    if template is None:
        return default
    if isinstance(template, str):
        return _fill(template, parameters, what)
    check_run_name(template, what)
    name = template(parameters=dict(parameters)) if _takes_parameters(template) else template()
    if isinstance(name, str):
        return name
    if inspect.iscoroutine(name):
        name.close()  # it would warn that nobody awaited it, on top of the error
    raise TypeError(f"Callable {template} for '{what}' returned type {type(name).__name__} but a string is required.")


def default_task_run_name(task_name: str, dynamic_key: str) -> str:
    """Give the name of a task run inside a flow run: the task's, and the beginning of what tells its runs apart.

    Example:
        >>> default_task_run_name("load", "7f3c9a")
        'load-7f3'
    """
    return f"{task_name}-{dynamic_key[:3]}"


def _fill(template: str, parameters: Mapping[str, Any], what: NameOption) -> str:
    try:
        return template.format_map(parameters)
    except Exception as error:
        known = ", ".join(parameters) or "none"
        error.add_note(f"'{what}' is {template!r}; the run's parameters are: {known}")
        raise


def _takes_parameters(fn: Callable[..., Any]) -> bool:
    try:
        return "parameters" in inspect.signature(fn).parameters
    except ValueError:  # some callables written in C have no signature to read
        return False
