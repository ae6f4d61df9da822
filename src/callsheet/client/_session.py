"""The life of a client: opened as a context manager, shared by what is nested, closed with the last of them."""

from __future__ import annotations

import threading
from typing import Any

from callsheet._engine.places import Place
from callsheet.context import AsyncClientContext, SyncClientContext
from callsheet.exceptions import StoreClosed

ClientContext = AsyncClientContext | SyncClientContext


class Session:
    """A client's place while it is open, and how often it was entered."""

    def __init__(self, *, spelling: str) -> None:
        self._spelling = spelling
        self._lock = threading.Lock()
        self._depth = 0
        self._place: Place | None = None
        self._context: ClientContext | None = None
        self.closed = False

    @property
    def place(self) -> Place:
        """Give where the client lives.

        Raises:
            RuntimeError: it was not entered.
            StoreClosed: it was left already.
        """
        if self._place is None:
            raise self._refusal()
        return self._place

    def enter_again(self) -> bool:
        """Enter once more if the client is open.

        Raises:
            StoreClosed: it was left already.
        """
        with self._lock:
            if self.closed:
                raise self._refusal()
            if self._place is None:
                return False
            self._depth += 1
            return True

    def open(self, place: Place, context: ClientContext) -> None:
        """Note where the client lives, and let nested calls find it."""
        with self._lock:
            self._place = place
            self._depth = 1
        self._context = context
        context.__enter__()

    def leave(self) -> Place | None:
        """Leave once; give the place that is to be closed with the last leave."""
        with self._lock:
            self._depth -= 1
            if self._depth > 0:
                return None
            place, self._place, self.closed = self._place, None, True
        context, self._context = self._context, None
        if context is not None:
            try:
                context.__exit__()
            except ValueError:  # left in another context than entered (a fixture): nobody uses a closed client
                pass
        return place

    def _refusal(self) -> Exception:
        if self.closed:
            return StoreClosed("This client was closed and cannot be used again. Get a new one by `get_client(...)`.")
        return RuntimeError(f"This client is not open. Use it as a context manager: `{self._spelling} as client: ...`.")

    def fits(self, core: Any, host: Any) -> bool:
        """Tell whether a nested call on this machinery and loop can share the client."""
        if self.closed:
            return False
        place = self._place
        return place is None or (place.core is core and place.host in (None, host))
