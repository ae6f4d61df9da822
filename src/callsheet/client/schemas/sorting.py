"""In which order the client reads. What is equal is in the order of creation."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from callsheet._later import later as _later

__all__ = ["FlowRunSort", "FlowSort", "LogSort", "TaskRunSort"]


class FlowRunSort(str, Enum):
    """Orders of flow runs. Runs without a start stand where they were expected to; what has not ended is last."""

    ID_ASC = "ID_ASC"
    ID_DESC = "ID_DESC"
    START_TIME_ASC = "START_TIME_ASC"
    START_TIME_DESC = "START_TIME_DESC"
    EXPECTED_START_TIME_ASC = "EXPECTED_START_TIME_ASC"
    EXPECTED_START_TIME_DESC = "EXPECTED_START_TIME_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    NEXT_SCHEDULED_START_TIME_ASC = "NEXT_SCHEDULED_START_TIME_ASC"
    END_TIME_DESC = "END_TIME_DESC"


class TaskRunSort(str, Enum):
    """Orders of task runs. What has not ended is last."""

    ID_ASC = "ID_ASC"
    ID_DESC = "ID_DESC"
    EXPECTED_START_TIME_ASC = "EXPECTED_START_TIME_ASC"
    EXPECTED_START_TIME_DESC = "EXPECTED_START_TIME_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"
    NEXT_SCHEDULED_START_TIME_ASC = "NEXT_SCHEDULED_START_TIME_ASC"
    END_TIME_DESC = "END_TIME_DESC"


class FlowSort(str, Enum):
    """Orders of flows. A flow is as old as its first run."""

    CREATED_ASC = "CREATED_ASC"
    CREATED_DESC = "CREATED_DESC"
    NAME_ASC = "NAME_ASC"
    NAME_DESC = "NAME_DESC"


class LogSort(str, Enum):
    """Orders of log records."""

    TIMESTAMP_ASC = "TIMESTAMP_ASC"
    TIMESTAMP_DESC = "TIMESTAMP_DESC"


if not TYPE_CHECKING:
    __getattr__ = _later(__name__, "DeploymentSort")
