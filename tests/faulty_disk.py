"""A disk that fails at a chosen moment, below SQLite: a write or sync is refused, half done, or the last thing of a process.

SQLite reaches files through a table of functions (its VFS). Here the table of the library that Python itself uses is
copied, with the three functions that change files replaced, and made the default. Only for processes that are made
for it: see `disk_faults`.
"""

from __future__ import annotations

import _sqlite3
import ctypes
import os
import signal
import threading
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_int64, c_void_p, cast, memmove, sizeof
from typing import Any

_FULL, _WRITE, _SYNC = 13, 10 | 3 << 8, 10 | 4 << 8  # SQLITE_FULL, SQLITE_IOERR_WRITE, SQLITE_IOERR_FSYNC
KINDS = ("write error", "torn write", "torn write and power off", "failed sync", "full disk")
LIFTED_AFTER = 0.05
"""Seconds for which a full disk stays so."""


class _Vfs(Structure):
    """The beginning of sqlite3_vfs, which does not change; the rest is copied as bytes."""

    _fields_ = [
        ("version", c_int),
        ("size_of_file", c_int),
        ("most_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("rest", c_void_p * 15),
    ]


class _Methods(Structure):
    """sqlite3_io_methods."""

    _fields_ = [
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("rest", c_void_p * 13),
    ]


class _File(Structure):
    _fields_ = [("methods", POINTER(_Methods))]


_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)


class Disk:
    """The disk of this process."""

    def __init__(self) -> None:
        self._kind = ""
        self._left = 0
        self._full = False
        self.writes = self.syncs = 0
        self.struck = False
        self._kept: list[Any] = []  # what the library points to
        self._tables: dict[int, Any] = {}  # by the address of the original table of methods

    def arm(self, kind: str, number: int) -> None:
        """Have it fail at the n-th write from now, or the n-th sync."""
        self._kind, self._left = kind, number

    def install(self) -> None:
        """Put it below every file that is opened from now on."""
        library = ctypes.CDLL(_sqlite3.__file__)  # what this leads to is the library that is in use
        library.sqlite3_vfs_find.restype = c_void_p
        library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
        original = library.sqlite3_vfs_find(None)
        vfs = _Vfs()
        memmove(byref(vfs), original, sizeof(vfs))
        vfs.name = b"faulty"
        really_open = _Open(vfs.open)

        @_Open
        def opened(_: int, name: int, file: int, flags: int, given: int) -> int:
            code = really_open(original, name, file, flags, given)
            if code == 0:
                self._replace(cast(file, POINTER(_File)).contents)
            return code

        vfs.open = cast(opened, c_void_p)
        self._kept += [vfs, opened, library]
        assert library.sqlite3_vfs_register(byref(vfs), 1) == 0

    def _replace(self, file: _File) -> None:
        address = ctypes.addressof(file.methods.contents)
        if address not in self._tables:
            self._tables[address] = self._methods(file.methods.contents)
        file.methods = ctypes.pointer(self._tables[address])

    def _methods(self, original: _Methods) -> _Methods:
        methods = _Methods()
        memmove(byref(methods), byref(original), sizeof(methods) if original.version >= 3 else 14 * sizeof(c_void_p))
        really_write, really_sync = _Write(original.write), _Sync(original.sync)

        @_Write
        def write(file: int, data: int, amount: int, offset: int) -> int:
            self.writes += 1
            if self._full:
                return _FULL
            if "write" in self._kind and self._strikes():
                if "torn" in self._kind:
                    really_write(file, data, amount // 2, offset)
                if "off" in self._kind:
                    os.kill(os.getpid(), signal.SIGKILL)
                return _WRITE
            if self._kind == "full disk" and self._strikes():
                self._full = True
                lift = threading.Timer(LIFTED_AFTER, self.lift)
                lift.daemon = True
                lift.start()
                return _FULL
            return really_write(file, data, amount, offset)

        @_Sync
        def sync(file: int, flags: int) -> int:
            self.syncs += 1
            if self._kind == "failed sync" and self._strikes():
                return _SYNC
            return really_sync(file, flags)

        methods.write, methods.sync = cast(write, c_void_p), cast(sync, c_void_p)
        self._kept += [write, sync, really_write, really_sync]
        return methods

    def _strikes(self) -> bool:
        self._left -= 1
        self.struck |= self._left == 0
        return self._left == 0

    def fill(self) -> None:
        """Have no room left from now on."""
        self._full = True

    def lift(self) -> None:
        """Have room again."""
        self._full = False


disk = Disk()
