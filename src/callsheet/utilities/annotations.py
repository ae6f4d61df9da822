"""Wrappers that say how an argument is to be treated."""

from __future__ import annotations

from callsheet.annotations import BaseAnnotation, NotSet, allow_failure, quote, unmapped

__all__ = ["BaseAnnotation", "NotSet", "allow_failure", "quote", "unmapped"]
