"""Storage wherever fsspec or obstore reach."""

from __future__ import annotations

import threading
from typing import Any, cast
from urllib.parse import urlsplit

from callsheet._results.parts import Parts, join
from callsheet._results.storage import Storage
from callsheet.exceptions import MissingDependency, ResultNotFound, StorageUnavailable


class RemoteFileSystem(Storage):
    """Keeps results wherever fsspec (the extra ``remote``) or an obstore store reaches: S3, GCS, Azure, memory and more.

    Args:
        basepath: URL of a folder: ``s3://bucket/results``, ``gcs://…``, ``abfs://…``, ``memory://…``.
        settings: options of the file system, such as credentials. They are never written anywhere.
        store: an obstore store to use instead of fsspec; `basepath` is then a prefix in it.

    Raises:
        ValueError: `basepath` is no URL of a remote place, or `settings` are given for a `store`, which has its own.

    Example:
        >>> RemoteFileSystem("s3://bucket/results").basepath
        's3://bucket/results'
    """

    def __init__(self, basepath: str = "", settings: dict[str, Any] | None = None, *, store: Any = None) -> None:
        if store is not None and settings:
            raise ValueError(
                "`settings` are options of fsspec. Give them to the `store` where that is made, or leave it out."
            )
        self.basepath = str(basepath).rstrip("/") if not str(basepath).endswith("://") else str(basepath)
        self.settings = dict(settings or {})
        self._store = store
        self._filesystem: Any = None
        self._lock = threading.Lock()
        if store is None:
            parts = urlsplit(str(basepath))
            if not parts.scheme:
                raise ValueError(f"Base path must start with a scheme such as 's3://', and '{basepath}' does not.")
            if parts.scheme in ("file", "local"):
                raise ValueError(
                    "Base path scheme cannot be 'file'. Use `LocalFileSystem` instead for local file access."
                )

    @property
    def filesystem(self) -> Any:
        """The file system of fsspec.

        Raises:
            MissingDependency: fsspec is not installed.
        """
        with self._lock:
            if self._filesystem is None:
                try:
                    import fsspec  # pyright: ignore[reportMissingTypeStubs, reportMissingImports]
                except ImportError as error:
                    raise MissingDependency("fsspec", "remote") from error
                try:
                    self._filesystem = cast("Any", fsspec).filesystem(urlsplit(self.basepath).scheme, **self.settings)
                except (ImportError, ValueError) as error:
                    raise StorageUnavailable(
                        f"fsspec cannot reach '{self.basepath}': {error}. Install the package for this kind of storage."
                    ) from error
            return self._filesystem

    def _resolve_path(self, path: str) -> str:
        """Give the address of a key.

        Raises:
            ValueError: it leads out of the base.
        """
        if self.basepath and path.startswith(self.basepath):
            return path
        if ".." in path.split("/") or "://" in path:
            raise ValueError(f"Provided path {path!r} is outside of the base path {self.basepath!r}.")
        separator = "" if self.basepath.endswith("/") or not self.basepath else "/"
        return f"{self.basepath}{separator}{path.lstrip('/')}"

    def get(self, key: str) -> bytes:
        place = self._resolve_path(key)
        try:
            if self._store is not None:
                return bytes(self._store.get(place).bytes())
            return bytes(self.filesystem.cat_file(place))
        except (FileNotFoundError, KeyError) as error:
            raise ResultNotFound(f"Path {place} does not exist.") from error
        except (MissingDependency, StorageUnavailable):
            raise
        except Exception as error:  # every kind of storage has errors of its own
            raise _refused("read", place, error) from error

    def put(self, key: str, parts: Parts) -> None:
        place = self._resolve_path(key)
        try:
            if self._store is not None:
                self._store.put(place, join(parts))
                return
            filesystem = self.filesystem
            filesystem.makedirs(place.rpartition("/")[0], exist_ok=True)
            filesystem.pipe_file(place, join(parts))
        except (MissingDependency, StorageUnavailable):
            raise
        except Exception as error:  # every kind of storage has errors of its own
            raise _refused("write", place, error) from error

    def drop(self, key: str) -> None:
        place = self._resolve_path(key)
        try:
            if self._store is not None:
                self._store.delete(place)
            else:
                self.filesystem.rm_file(place)
        except (FileNotFoundError, KeyError):
            return
        except (MissingDependency, StorageUnavailable):
            raise
        except Exception as error:  # every kind of storage has errors of its own
            raise _refused("remove", place, error) from error

    def address(self) -> str | None:
        return self.basepath if self._store is None else None

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RemoteFileSystem)
            and (other.basepath, other.settings) == (self.basepath, self.settings)
            and other._store is self._store
        )

    def __hash__(self) -> int:
        return hash(self.basepath)

    def __repr__(self) -> str:
        store = "" if self._store is None else f", store={self._store!r}"
        return f"RemoteFileSystem(basepath={self.basepath!r}{store})"


def _refused(what: str, place: str, error: Exception) -> StorageUnavailable:
    if isinstance(error, TimeoutError):
        return StorageUnavailable(f"'{place}' could not be {what} in time: {error}. Try again, or check the network.")
    return StorageUnavailable(
        f"The storage refused to {what} '{place}': {type(error).__name__}: {error}. Check its address and rights."
    )
