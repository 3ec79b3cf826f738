"""The application in tests: put together like every other, on memory, with time, ids and chance that repeat."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast
from uuid import UUID

from attrs import asdict, evolve, frozen

from heimdex.adapters.ids import UuidSeven
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.job import Job
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.testing.clock import SimulatedClock
from heimdex.testing.draining import RUNS, crash, drain, run_out
from heimdex.testing.ledger import job_of
from heimdex.testing.watch import CrashPoint

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen(kw_only=True)
class SimulatedApplication(Application):
    """An application in memory. `clock` is the time of its ledger and of its workers."""

    clock: SimulatedClock

    def job(self, job_id: UUID) -> Job:
        """Return a job as it is now, of whatever organisation.

        Raises:
            JobNotFound: there is none.
        """
        return job_of(self, job_id)

    def drain(self, *, limit: int = RUNS, raise_errors: bool = False) -> list[Job]:
        """Run what is due; see `heimdex.testing.drain`."""
        return drain(self, limit=limit, raise_errors=raise_errors)

    def run_out(self, *, limit: int = RUNS, raise_errors: bool = False) -> list[Job]:
        """Run everything, advancing the clock; see `heimdex.testing.run_out`."""
        return run_out(self, limit=limit, raise_errors=raise_errors)

    def crash(self, at: CrashPoint, *, type: str | None = None) -> Job:
        """Let a worker die; see `heimdex.testing.crash`."""
        return crash(self, at, type=type)


def application(jobs: JobRegistry | None = None, *, settings: Settings | None = None) -> SimulatedApplication:
    """Return an application for one test: empty, in memory, the same in every run.

    Its clock stands still until it is advanced. Ids count up from the clock's time, and chance (the jitter of a
    backoff) is drawn from a fixed seed.

    Args:
        jobs: the job functions that can be drained; None accepts jobs of any type and runs none.
        settings: such as a shorter lease; the environment is not read, and the database's URL not used.
    """
    clock = SimulatedClock()
    simulated = bootstrap(
        evolve(cast("Any", settings or Settings()), database_url="memory://"),
        jobs=jobs,
        clock=clock,
        ids=UuidSeven(lambda: _milliseconds(clock), random_bits=lambda _: 0),
        random=Random(1).random,  # noqa: S311 - it shall repeat
        sleep=clock.advance,
    )
    return SimulatedApplication(**asdict(simulated, recurse=False))


def _milliseconds(clock: SimulatedClock) -> int:
    return (clock.now() - _EPOCH) // timedelta(milliseconds=1)
