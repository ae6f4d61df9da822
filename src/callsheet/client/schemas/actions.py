"""What programs send through the client."""

from __future__ import annotations

from callsheet._model.states import StateCreate

__all__ = ["StateCreate"]
