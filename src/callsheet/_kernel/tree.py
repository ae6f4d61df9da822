"""The tree of live runs: who is below whom, who leaves, and who inherits what is left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsheet._kernel.signals import Once

if TYPE_CHECKING:
    from callsheet._kernel.messages import Cell


class Tree:
    """Every live run. Changed by the orchestrator only, under its lock."""

    __slots__ = ("_idle", "roots")

    def __init__(self) -> None:
        self.roots: dict[Cell, None] = {}
        self._idle: list[Once] = []

    def when_idle(self) -> Once:
        """Give a condition that is set as soon as no run is alive."""
        idle = Once()
        self._idle.append(idle)
        if not self.roots:
            idle.set()
        return idle

    def alive(self) -> list[Cell]:
        """Give every live run, children before their parents."""
        found = list(self.roots)
        for cell in found:
            found += cell.children or ()
        return found[::-1]

    def attach(self, cell: Cell, parent: Cell | None) -> None:
        """Put a run below another one, or beside the roots."""
        if parent is None:
            self.roots[cell] = None
        elif parent.children is None:
            parent.children = {cell: None}
        else:
            parent.children[cell] = None

    def leave(self, cell: Cell) -> None:
        """Take a run out. Children that it leaves behind pass to the nearest run around it that lives."""
        if cell.ended:
            return
        cell.ended = True
        if cell.children:
            self._inherit(cell.children, cell.parent)
        parent = cell.parent
        if parent is None or parent.ended:
            self.roots.pop(cell, None)
            if not self.roots and self._idle:
                waiting, self._idle = self._idle, []
                for once in waiting:
                    once.set()
        if parent is not None and parent.children is not None:
            parent.children.pop(cell, None)
            if not parent.children and parent.childless is not None:
                once, parent.childless = parent.childless, None
                once.set()

    def _inherit(self, children: dict[Cell, None], heir: Cell | None) -> None:
        while heir is not None and heir.ended:
            heir = heir.parent
        if heir is None:
            self.roots.update(children)
            return
        for child in children:
            child.parent = heir
        if heir.children is None:
            heir.children = {}
        heir.children.update(children)
