"""Waiting for what flow runs are sent."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Self
from uuid import UUID

from callsheet._engine import run_inputs
from callsheet._engine.dual import dual
from callsheet.input import actions


def word(name: str) -> str:
    """Give a name as a part of keys."""
    return re.sub(r"[^a-z0-9_]+", "_", name.lower()).strip("_")


class InputHandler:
    """Waits for inputs, one after the other; both `for` and `async for` iterate over it."""

    def __init__(
        self,
        run_input_cls: Any,
        timeout: float | None = 3600,
        poll_interval: float = 10,
        raise_timeout_error: bool = False,
        exclude_keys: Iterable[str] | None = None,
        key_prefix: str | None = None,
        flow_run_id: UUID | None = None,
        with_metadata: bool = False,
    ) -> None:
        self.run_input_cls = run_input_cls
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.raise_timeout_error = raise_timeout_error
        self.exclude_keys = set(exclude_keys or ())
        self.key_prefix = f"{word(run_input_cls.__name__)}-auto" if key_prefix is None else key_prefix
        self.flow_run_id = actions.the_flow_run(flow_run_id)
        self.with_metadata = with_metadata

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return self.next(_sync=True)
        except TimeoutError:
            if self.raise_timeout_error:
                raise
            raise StopIteration from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.anext()
        except TimeoutError:
            if self.raise_timeout_error:
                raise
            raise StopAsyncIteration from None

    async def anext(self) -> Any:
        """Wait for the next input and give it.

        Raises:
            TimeoutError: There was none in time.
            ValidationError: What arrived does not fit the type.
        """
        place = run_inputs.place_here()
        try:
            found = await run_inputs.next_of(
                place,
                run_inputs.port_here(),
                self.flow_run_id,
                self.key_prefix,
                self.exclude_keys,
                self.timeout,
                self.poll_interval,
            )
        finally:
            await place.reader.aclose()
        if found is None:
            raise TimeoutError(f"No input arrived within {self.timeout} seconds")
        self.exclude_keys.add(found.key)
        made = self.run_input_cls.load_from_flow_run_input(found)
        return made if self.with_metadata else made.unwrapped()

    next: Any = dual(anext)  # noqa: A003
