"""What programs send through the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callsheet._later import later
from callsheet._model.states import StateCreate

__all__ = ["StateCreate"]

if not TYPE_CHECKING:
    __getattr__ = later(__name__, "DeploymentScheduleCreate")
