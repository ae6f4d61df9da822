"""Locks by name, so that two runs of one key are not at work at once: in this process, or across processes."""

from callsheet._lazy import modules_of

__getattr__ = modules_of(__name__, "database", "filesystem", "memory", "protocol")
