"""The serializer of pickles."""

from __future__ import annotations

import importlib
import warnings
from typing import Any, Self

from pydantic import field_validator, model_validator

from callsheet._results import pickling
from callsheet._results.parts import Parts, join
from callsheet._results.pickling import cannot_dump
from callsheet._results.serializing import Serializer


class PickleSerializer(Serializer[Any]):
    """Serializes by pickle; objects that plain pickle refuses, such as lambdas, by cloudpickle.

    What wrote the bytes is kept with them. Bytes that cloudpickle wrote under another version of Python or of
    itself are read with a warning. Reading a pickle runs code that is in it: only read what you trust.

    Args:
        type: always ``pickle``.
        picklelib: a module with `dumps` and `loads` to use instead, by its name.
        picklelib_version: version of that module that is expected; by default the one that is installed.

    Raises:
        ValidationError: `picklelib` cannot be imported, or lacks `dumps` or `loads`.

    Example:
        >>> serializer = PickleSerializer()
        >>> serializer.loads(serializer.dumps({1, 2})) == {1, 2}
        True
    """

    type: str = "pickle"
    picklelib: str | None = None
    picklelib_version: str | None = None

    @field_validator("picklelib")
    @classmethod
    def _check_picklelib(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            module = importlib.import_module(value)
        except ImportError as error:
            raise ValueError(f"Failed to import requested pickle library: {value!r}.") from error
        for name in ("dumps", "loads"):
            if not callable(getattr(module, name, None)):
                raise ValueError(f"Pickle library at {value!r} does not have a {name!r} method.")
        return value

    @model_validator(mode="after")
    def _check_version(self) -> Self:
        if self.picklelib is None:
            if self.picklelib_version is not None:
                raise ValueError("`picklelib_version` was given without `picklelib`.")
            return self
        found = getattr(importlib.import_module(self.picklelib), "__version__", None)
        if self.picklelib_version is None:
            self.picklelib_version = found
        elif found != self.picklelib_version:
            warnings.warn(
                f"Mismatched {self.picklelib!r} versions. Found {found} in the environment but "
                f"{self.picklelib_version} was requested. This may cause the serializer to fail.",
                RuntimeWarning,
                stacklevel=3,
            )
        return self

    def dumps(self, obj: Any) -> bytes:
        return join(self.dump_parts(obj))

    def dump_parts(self, obj: Any) -> Parts:
        if self.picklelib is not None:
            try:
                return [bytes(importlib.import_module(self.picklelib).dumps(obj))]
            except Exception as error:
                raise cannot_dump(obj, f"a pickle by {self.picklelib!r}", error) from error
        return pickling.dump(obj)

    def loads(self, blob: bytes) -> Any:
        if self.picklelib is not None:
            return pickling.reading(lambda: importlib.import_module(self.picklelib or "").loads(blob))
        return pickling.load(blob)
