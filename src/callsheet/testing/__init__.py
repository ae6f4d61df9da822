"""What tests of flows need."""

from callsheet.testing.asserting import HasHistory, assert_ran_once, assert_states
from callsheet.testing.differences import ReplayDiffers
from callsheet.testing.faults import Fault, FaultKind, Faults
from callsheet.testing.findings import Finding, Promise
from callsheet.testing.histories import check_history
from callsheet.testing.memory_engine import MemoryEngine
from callsheet.testing.processes import SimulatedError
from callsheet.testing.recordings import Recording, record
from callsheet.testing.replays import replay
from callsheet.testing.scenarios import Scenario, scenario
from callsheet.testing.shrinking import shrink
from callsheet.testing.simulations import Simulated, Simulation, SimulationFailed, Started, simulate
from callsheet.testing.stubs import Stub, override
from callsheet.testing.timeline import Happened
from callsheet.testing.utilities import exceptions_equal, harness, reset
from callsheet.testing.virtual import VirtualRun, VirtualTime, run_virtual

__all__ = [
    "Fault",
    "FaultKind",
    "Faults",
    "Finding",
    "Happened",
    "HasHistory",
    "MemoryEngine",
    "Promise",
    "Recording",
    "ReplayDiffers",
    "Scenario",
    "Simulated",
    "SimulatedError",
    "Simulation",
    "SimulationFailed",
    "Started",
    "Stub",
    "VirtualRun",
    "VirtualTime",
    "assert_ran_once",
    "assert_states",
    "check_history",
    "exceptions_equal",
    "harness",
    "override",
    "record",
    "replay",
    "reset",
    "run_virtual",
    "scenario",
    "shrink",
    "simulate",
]
