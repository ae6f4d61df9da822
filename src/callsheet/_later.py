"""Names of the API that exist so that programs can import them, and that say so when they are used.

Each leaves this file with the feature that it belongs to.
"""

from __future__ import annotations

from typing import Any, NoReturn


def serve(*_: Any, **__: Any) -> NoReturn:
    """Serve deployments from this process. Not available yet."""
    raise NotImplementedError("serve")


def deploy(*_: Any, **__: Any) -> NoReturn:
    """Deploy flows to a work pool. Not available yet."""
    raise NotImplementedError("deploy")
