"""Where runners get code from. Not available yet."""

from callsheet._later import later

__getattr__ = later(
    __name__,
    "LocalStorage",
    "GitRepository",
    "RemoteStorage",
    "RunnerStorage",
    "BlockStorageAdapter",
    "create_storage_from_source",
)
