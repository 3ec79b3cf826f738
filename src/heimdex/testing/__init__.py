"""The test kit: an application in memory, a clock that stands still, jobs that run in the thread of the test.

`simulate` runs workers and callers under faults in simulated time; it needs the extra `simulation`.

See docs/how-to/test-your-jobs.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heimdex.testing.assertions import assert_created, assert_history, assert_ledger, assert_nothing_created
    from heimdex.testing.clock import SimulatedClock
    from heimdex.testing.databases import database
    from heimdex.testing.draining import crash, drain, run_out
    from heimdex.testing.simulation import SimulatedApplication, application
    from heimdex.testing.simulator.machine import end_process, take
    from heimdex.testing.simulator.plan import Scenario
    from heimdex.testing.simulator.running import simulate
    from heimdex.testing.statements import assert_statements

__all__ = [
    "Scenario",
    "SimulatedApplication",
    "SimulatedClock",
    "application",
    "assert_created",
    "assert_history",
    "assert_ledger",
    "assert_nothing_created",
    "assert_statements",
    "crash",
    "database",
    "drain",
    "end_process",
    "run_out",
    "simulate",
    "take",
]

_MODULES = {
    "Scenario": "simulator.plan",
    "SimulatedApplication": "simulation",
    "SimulatedClock": "clock",
    "application": "simulation",
    "assert_created": "assertions",
    "assert_history": "assertions",
    "assert_ledger": "assertions",
    "assert_nothing_created": "assertions",
    "assert_statements": "statements",
    "crash": "draining",
    "database": "databases",
    "drain": "draining",
    "end_process": "simulator.machine",
    "run_out": "draining",
    "simulate": "simulator.running",
    "take": "simulator.machine",
}

if not TYPE_CHECKING:  # so that a misspelt name stays an error of types

    def __getattr__(name: str) -> object:
        # Late: pytest imports this package, for the plugin in it, wherever Heimdex is installed.
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = import_module(f"{__name__}.{_MODULES[name]}")
        except ModuleNotFoundError as error:
            if error.name != "greenlet":
                raise
            from heimdex.domain.errors import CapabilityMissing  # noqa: PLC0415 - late, as said above

            raise CapabilityMissing(f"{__name__}.{name} needs the extra heimdex[simulation]") from error
        return getattr(module, name)
