"""Descriptions of parameters in docstrings."""

from __future__ import annotations

import inspect
import re

_SECTION = re.compile(r"^(args|arguments|parameters|params)\s*:?\s*$", re.IGNORECASE)
_GOOGLE_ENTRY = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_NUMPY_ENTRY = re.compile(r"^\*{0,2}(\w+)\s*(?::.*)?$")
_SPHINX_ENTRY = re.compile(r"^:param\s+(?:[^:]*\s)?\*{0,2}(\w+)\s*:\s*(.*)$")


def parameter_descriptions(docstring: str | None) -> dict[str, str]:
    r"""Read what a docstring says about parameters, in the style of Google, NumPy or Sphinx.

    Args:
        docstring: The docstring.

    Returns:
        Descriptions by parameter; their lines are joined by line breaks.

    Example:
        >>> parameter_descriptions("Add.\n\nArgs:\n    x (int): A number.\n    y: Another,\n        larger.")
        {'x': 'A number.', 'y': 'Another,\nlarger.'}
    """
    lines = inspect.cleandoc(docstring or "").splitlines()
    found: dict[str, list[str]] = {}
    for index, line in enumerate(lines):
        if match := _SPHINX_ENTRY.match(line):
            found[match[1]] = [match[2], *_indented(lines[index + 1 :], 0)]
        elif _SECTION.match(line):
            numpy = index + 1 < len(lines) and set(lines[index + 1].strip()) == {"-"}
            _read_section(lines[index + 2 :] if numpy else lines[index + 1 :], numpy, found)
    described = {name: "\n".join(parts).strip() for name, parts in found.items()}
    return {name: text for name, text in described.items() if text}


def _read_section(lines: list[str], numpy: bool, found: dict[str, list[str]]) -> None:
    entry = _NUMPY_ENTRY if numpy else _GOOGLE_ENTRY
    first = next((line for line in lines if line.strip()), "")
    level = len(first) - len(first.lstrip())
    if not numpy and level == 0:
        return
    for index, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line.strip() and indent < level:
            return
        if line.strip() and indent == level and (match := entry.match(line.strip())):
            if numpy and index + 1 < len(lines) and set(lines[index + 1].strip()) == {"-"}:
                return  # the next section's title
            found[match[1]] = [*([] if numpy else [match[2]]), *_indented(lines[index + 1 :], level)]


def _indented(lines: list[str], level: int) -> list[str]:
    """Give the lines that continue an entry: those indented deeper than it."""
    taken: list[str] = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= level:
            break
        taken.append(line.strip())
    return taken
