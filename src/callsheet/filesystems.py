"""Storages: where bytes of results are kept, by key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsheet._later import later
from callsheet._results.database import DatabaseStorage
from callsheet._results.local import LocalFileSystem
from callsheet._results.remote import RemoteFileSystem
from callsheet._results.storage import MemoryStorage, NullFileSystem, ReadableFileSystem, WritableFileSystem

__all__ = [
    "DatabaseStorage",
    "LocalFileSystem",
    "MemoryStorage",
    "NullFileSystem",
    "ReadableFileSystem",
    "RemoteFileSystem",
    "WritableFileSystem",
]

if not TYPE_CHECKING:
    __getattr__ = later(__name__, "ReadableDeploymentStorage", "WritableDeploymentStorage")
