"""How the code of a deployed flow is found."""

from __future__ import annotations

from enum import Enum

__all__ = ["EntrypointType"]


class EntrypointType(Enum):
    """By the path of its file, or by its module."""

    FILE_PATH = "file_path"
    MODULE_PATH = "module_path"
