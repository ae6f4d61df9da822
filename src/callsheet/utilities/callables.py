"""What programs ask about callables: how a call's arguments bind, and the schema of parameters."""

from __future__ import annotations

from callsheet.utilities.functions import get_call_parameters
from callsheet.utilities.schema import ParameterSchema, parameter_schema

__all__ = ["ParameterSchema", "get_call_parameters", "parameter_schema"]
