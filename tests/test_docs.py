"""The documentation is true: its programs run, its links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import warm

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for folder in ("", "docs/**/", "examples/**/")
    for path in ROOT.glob(f"{folder}*.md")
    if ".venv" not in path.parts
)
BLOCK = re.compile(r"(<!-- not run -->\n)?```python\n(.*?)```", re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def programs(path: Path) -> str:
    """A page's python blocks in their order, as one program whose line numbers are the page's."""
    text = path.read_text()
    lines: list[str] = []
    for match in BLOCK.finditer(text):
        if match[1]:
            continue
        start = text[: match.start(2)].count("\n")
        lines += [""] * (start - len(lines)) + match[2].splitlines()
    return "\n".join(lines) + "\n"


RUN = [page for page in PAGES if "reference" not in page.parts and programs(page).strip()]


@pytest.mark.parametrize("page", RUN, ids=page_id)
def test_programs_of_a_page_run(page, tmp_path):
    program = tmp_path / f"{page.stem}.py"
    program.write_text(programs(page))
    if page.name == "README.md":  # what everybody tries first, from the very start
        command = [sys.executable, "-W", "error", "-X", "dev", program]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)
    else:
        done = warm.run(program, folder=tmp_path, dev=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr or "Error" in program.read_text(), done.stderr


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_can_be_reached():
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        waiting += [(page.parent / t.partition("#")[0]).resolve() for t in LINK.findall(page.read_text())]
    assert not set(PAGES) - reached


def modules() -> list[str]:
    source = ROOT / "src"
    files = (path.relative_to(source).with_suffix("") for path in sorted(source.rglob("*.py")))
    return [".".join(file.parts).removesuffix(".__init__") for file in files]


@pytest.mark.parametrize("name", modules())
def test_examples_of_docstrings_hold(name):
    module = importlib.import_module(name)
    if ">>>" not in Path(str(module.__file__)).read_text():
        return  # looking through what it defines takes longer than the examples of others
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(optionflags=flags, verbose=False)
    output: list[str] = []
    for test in doctest.DocTestFinder(recurse=True).find(module, module.__name__):
        runner.run(test, out=output.append)
    assert not runner.failures, "".join(output)
