"""Write ``docs/reference`` from the docstrings: ``make docs``. ``--check`` (on 3.11) only tells whether it is current."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "reference"
MODULES = (
    "callsheet",
    "callsheet.flows",
    "callsheet.tasks",
    "callsheet.flow_runs",
    "callsheet.waits",
    "callsheet.events",
    "callsheet.queries",
    "callsheet.task_runs",
    "callsheet.input",
    "callsheet.states",
    "callsheet.futures",
    "callsheet.task_runners",
    "callsheet.annotations",
    "callsheet.transactions",
    "callsheet.locking.protocol",
    "callsheet.locking.memory",
    "callsheet.locking.filesystem",
    "callsheet.locking.database",
    "callsheet.records.base",
    "callsheet.records.memory",
    "callsheet.records.filesystem",
    "callsheet.records.result_store",
    "callsheet.run_keys",
    "callsheet.context",
    "callsheet.logging",
    "callsheet.runtime",
    "callsheet.cache_policies",
    "callsheet.results",
    "callsheet.serializers",
    "callsheet.filesystems",
    "callsheet.settings",
    "callsheet.client.orchestration",
    "callsheet.client.schemas.objects",
    "callsheet.client.schemas.filters",
    "callsheet.client.schemas.sorting",
    "callsheet.exceptions",
    "callsheet.testing",
)
WRITTEN_ON = (3, 11)  # signatures are written differently from version to version
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Example", "Examples")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def public(module: Any) -> Iterator[tuple[str, Any]]:
    """Give a module's public functions and classes, in the order of its ``__all__``, or its own ones by name."""
    listed: list[str] | None = getattr(module, "__all__", None)
    home = "callsheet" if listed else module.__name__  # what it imports is documented where it stands
    for name in listed or sorted(name for name in vars(module) if not name.startswith("_")):
        thing = getattr(module, name)
        own = getattr(thing, "__module__", "") or ""
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and own.startswith(home):
            yield name, thing


def signature(thing: Any) -> str:
    """Give a signature on one line, or on one line for each parameter if that is too long."""
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError, NameError):  # a struct whose hints only a type checker can read
        return "()"
    parameters = [p for name, p in found.parameters.items() if name not in {"self", "cls"}]
    found = found.replace(parameters=parameters)
    text = ADDRESS.sub("", str(found)).replace("'", "").replace("~", "")
    if len(text) <= 100:
        return text
    body = "".join(f"    {ADDRESS.sub('', str(p))},\n" for p in parameters).replace("'", "").replace("~", "")
    tail = text[text.rindex(")") :] if "->" not in text else f"){text[text.rindex(' ->') :]}"
    return f"(\n{body}{tail}"


def prose(doc: str) -> str:
    """Turn Google-style sections into headings, their entries into lists, their examples into code."""
    lines: list[str] = []
    section = ""
    for line in inspect.cleandoc(doc).splitlines():
        stripped = line.strip()
        if stripped.rstrip(":") in SECTIONS and stripped.endswith(":"):
            if section.startswith("Example"):
                lines.append("```")
            section = stripped.rstrip(":")
            lines += ["", f"**{section}**", ""]
            if section.startswith("Example"):
                lines.append("```pycon")
        elif section.startswith("Example"):
            lines.append(line.removeprefix("    "))
        elif section and re.match(r"    \S", line) and ":" in line and section not in {"Returns", "Yields"}:
            name, _, text = stripped.partition(":")
            lines.append(f"* `{name}`:{text}")
        elif section:
            lines.append(f"  {stripped}" if stripped and section not in {"Returns", "Yields"} else stripped)
        else:
            lines.append(line)
    if section.startswith("Example"):
        while lines and not lines[-1]:
            lines.pop()
        lines.append("```")
    return re.sub(r"\n{3,}(?=\*\*|\* )", "\n\n", "\n".join(lines)).strip()


def methods(thing: type) -> Iterator[tuple[str, Any]]:
    """Give a class's public methods and properties that have something to say, those of our base classes too."""
    own = [base for base in thing.__mro__ if base.__module__.startswith("callsheet")]
    members = {name: member for base in reversed(own) for name, member in vars(base).items()}
    for name, member in members.items():
        fn = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(fn) and fn.__doc__:
            yield name, fn


def page(name: str) -> str:
    """Write one module's page."""
    module = importlib.import_module(name)
    parts = [f"# `{name}`", (inspect.getdoc(module) or "").split("\n\n")[0]]
    for title, thing in public(module):
        home = thing.__module__
        if name == "callsheet" and home.count(".") and not home.partition(".")[2].startswith("_"):
            page_of = next((m for m in MODULES[1:] if hasattr(importlib.import_module(m), title)), None)
            if page_of:
                parts.append(f"* [`{title}`]({page_of}.md)")
                continue
        kind = "class " if inspect.isclass(thing) else "async " if inspect.iscoroutinefunction(thing) else ""
        parts += [f"## {title}", f"```python\n{kind}{title}{signature(thing)}\n```", prose(thing.__doc__ or "")]
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            for method, fn in methods(thing):
                shown = f"{title}.{method}"
                word = "async " if inspect.iscoroutinefunction(fn) else ""
                parts += [f"### {shown}", f"```python\n{word}{shown}{signature(fn)}\n```", prose(fn.__doc__ or "")]
    return "\n\n".join(part for part in parts if part) + "\n"


def pages() -> dict[Path, str]:
    """Give every file of the reference and what it should hold."""
    made = {OUT / f"{name}.md": page(name) for name in MODULES}
    index = "\n".join(f"* [`{name}`]({name}.md)" for name in MODULES)
    made[OUT / "README.md"] = f"# Reference\n\nWritten from the docstrings by `make docs`; do not edit.\n\n{index}\n"
    return made


def stale() -> list[str]:
    """Name the files that differ from what the docstrings say."""
    made = pages()
    differing = [path.name for path, text in made.items() if not path.exists() or path.read_text() != text]
    return sorted([*differing, *(path.name for path in OUT.glob("*.md") if path not in made)])


if __name__ == "__main__":
    if "--check" in sys.argv:
        old = stale() if sys.version_info[:2] == WRITTEN_ON else []
        raise SystemExit(f"run `make docs`, docstrings have changed: {', '.join(old)}" if old else 0)
    made = pages()
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("*.md"):
        old.unlink()
    for target, text in made.items():
        target.write_text(text)
