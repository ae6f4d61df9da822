"""Helpers under the names that programs import them by."""

from callsheet._lazy import modules_of

__getattr__ = modules_of(__name__, "annotations", "callables", "collections", "hashing", "visualization")
