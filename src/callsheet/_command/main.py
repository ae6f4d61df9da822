"""What can be said to the command, and what becomes of it. Nothing is imported here that ``--help`` does not need."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

from callsheet._version import __version__

_EPILOG: Final = (
    "Ids may be shortened to any beginning that no other flow run shares. Exit status: 0 done, 1 not possible (the "
    "reason is on standard error), 2 not understood."
)


class Refused(Exception):
    """Raised where the command cannot do what it was asked to; the text says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what a command line says.

    Args:
        arguments: Its words, without the program's name. Default: those of this process.

    Returns:
        The exit status: 0 done, 1 not possible. (2, not understood, is raised as `SystemExit` by the parser.)
    """
    given = parser().parse_args(arguments)
    if given.database is not None:
        os.environ["CALLSHEET_DATABASE"] = given.database
    from callsheet.exceptions import CallsheetError

    try:
        return _verb_of(given)(given)
    except (Refused, CallsheetError) as error:
        print(f"callsheet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _verb_of(given: argparse.Namespace) -> Callable[[argparse.Namespace], int]:
    if given.noun == "doctor":
        from callsheet._command.doctor import doctor

        return doctor
    from callsheet._command import flow_run

    return flow_run.VERBS[given.verb]


class _Parser(argparse.ArgumentParser):
    """A parser that names the command in its errors."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"callsheet: {message}\nTry `{self.prog} --help`.\n")


def parser() -> argparse.ArgumentParser:
    """Give the parser of command lines."""
    made = _Parser(prog="callsheet", description="Look at flow runs and give them orders.", epilog=_EPILOG)
    made.add_argument("--version", action="version", version=f"callsheet {__version__}")
    made.add_argument("--database", metavar="FILE", help="the history (default: as CALLSHEET_DATABASE says)")
    nouns = made.add_subparsers(dest="noun", required=True, metavar="COMMAND")
    noun = nouns.add_parser("flow-run", help="flow runs", description="Look at flow runs and give them orders.")
    verbs = noun.add_subparsers(dest="verb", required=True, metavar="VERB")
    _reading(verbs)
    _ordering(verbs)
    doctor = _verb(nouns, "doctor", "tell how the history and the engines on it are doing; changes nothing")
    doctor.add_argument("--integrity", action="store_true", help="read the whole file for damage")
    doctor.add_argument(
        "--watch",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="for how long to look for signs of life (default: 1)",
    )
    return made


def _verb(verbs: Any, name: str, help: str) -> _Parser:
    made: _Parser = verbs.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", epilog=_EPILOG)
    made.add_argument("--json", action="store_true", help="write JSON")
    return made


def _chosen(verb: _Parser) -> None:
    verb.add_argument("--state", action="append", metavar="NAME", help="in this state (Running, Failed, …); repeatable")
    verb.add_argument("--name", metavar="TEXT", help="with this in the run's name")
    verb.add_argument("--flow", action="append", metavar="NAME", help="of this flow; repeatable")


def _reading(verbs: Any) -> None:
    ls = _verb(verbs, "ls", "list flow runs, newest first")
    _chosen(ls)
    ls.add_argument("--limit", type=_count, default=20, metavar="N", help="how many at most (default: 20)")
    inspect = _verb(verbs, "inspect", "show a flow run: states, task runs, what it waits for, why it failed")
    inspect.add_argument("id", metavar="ID")


def _ordering(verbs: Any) -> None:
    cancel = _verb(verbs, "cancel", "cancel flow runs and everything below them, wherever they run")
    cancel.add_argument("ids", nargs="*", metavar="ID")
    cancel.add_argument("--all", action="store_true", help="all that have not ended, of those that the options choose")
    _chosen(cancel)
    cancel.add_argument("--message", metavar="TEXT", help="why, for the history")
    cancel.add_argument(
        "--wait", nargs="?", type=float, const=60.0, metavar="SECONDS", help="until they have ended (default: 60)"
    )
    pause = _verb(verbs, "pause", "pause a running flow run: no task of it starts until it is resumed")
    pause.add_argument("id", metavar="ID")
    pause.add_argument("--message", metavar="TEXT", help="why, for the history")
    retry = _verb(verbs, "retry", "run what did not complete in a flow run that failed, crashed or was cancelled")
    retry.add_argument("id", metavar="ID")
    resume = _verb(verbs, "resume", "resume a paused flow run")
    resume.add_argument("id", metavar="ID")
    resume.add_argument("--input", metavar="JSON", help="what it waits for, as a JSON object")


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number
