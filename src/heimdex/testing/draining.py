"""Running jobs in a test: what is due, everything, or up to the death of the worker."""

from typing import get_args

from heimdex.bootstrap import Application
from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.rules import check_whole
from heimdex.domain.transitions import Status
from heimdex.testing.clock import SimulatedClock
from heimdex.testing.inline_worker import InlineWorker
from heimdex.testing.ledger import job_of, jobs_of, lines_of, next_moment
from heimdex.testing.watch import CrashPoint, Watch, WorkerDied

RUNS = 1_000
"""How many runs a drain allows if it is not told otherwise."""

_MOST_RUNS = 1_000_000


def drain(app: Application, *, limit: int = RUNS, raise_errors: bool = False) -> list[Job]:
    """Run jobs, one at a time and in this thread, until none of this application's types is due. The clock stays.

    A job that failed is recorded and retried as in production, since that is what most tests want to see; so a failed
    `assert` inside a job function is a failure of that job, and not of the test. A failure of the database is raised.

    A function takes no time. If it advances the clock beyond its timeout itself, its run ends as in production, with
    the outcome `timeout`, but only once it has returned.

    Args:
        limit: more runs than these are an AssertionError, so that a job that comes back for ever cannot hang a test.
        raise_errors: the first failure of a run ends the drain once it is recorded: what the job function raised is
            raised here, and any other failure as an AssertionError.

    Returns:
        The jobs that came to rest, in the order in which they first did, each as it was left: ended, or queued again
        for later.
    """
    watch = Watch(limit=_runs(limit), raise_errors=raise_errors)
    _work(app, watch)
    return list(watch.at_rest.values())


def run_out(app: Application, *, limit: int = RUNS, raise_errors: bool = False) -> list[Job]:
    """Drain, advance the clock to the next scheduled job or to the end of the next lease, and so on until all ended.

    What it takes and returns is as for `drain`; `limit` is for all runs together.

    Raises:
        InvalidInput: the application's clock is no SimulatedClock.
    """
    clock = app.clock
    if not isinstance(clock, SimulatedClock):
        remedy = "give an application with a SimulatedClock, such as heimdex.testing.application()"
        raise InvalidInput("clock", type(clock).__name__, remedy)
    watch = Watch(limit=_runs(limit), raise_errors=raise_errors)
    _work(app, watch)
    while (moment := next_moment(app, _types(app))) is not None:
        if moment <= clock.now():
            raise AssertionError(f"a job is due at {moment}, and was not run: its database has a clock of its own")
        clock.set(moment)
        _work(app, watch)
    return list(watch.at_rest.values())


def crash(app: Application, at: CrashPoint, *, type: str | None = None) -> Job:
    """Let a worker die as by kill -9: it says nothing more, and its job waits for the lease to end.

    Args:
        at: "before_start" (it has claimed the job), "before_finish" (the function has returned; the outcome is lost)
            or "after_finish" (the outcome is written; the worker does not know).
        type: it dies with the first job of this type, and runs those that are due before it; None: with the first job.

    Returns:
        The job as the worker left it. The next drain after its lease has ended gives it back and runs it.
    """
    if at not in get_args(CrashPoint):
        raise InvalidInput("at", at, f"give one of {', '.join(get_args(CrashPoint))}")
    try:
        _work(app, Watch(limit=RUNS, dies_at=at, dies_with=type))
    except WorkerDied as death:
        return job_of(app, death.job_id)
    queued = jobs_of(app, JobFilter(status=Status.QUEUED))
    wanted = "job" if type is None else f"job of type {type}"
    message = f"no {wanted} was due, so that no worker died; queued ({len(queued)}):"
    raise AssertionError("\n  ".join([message, *lines_of(queued)]))


def _work(app: Application, watch: Watch) -> None:
    idle = False
    while not idle:
        idle = InlineWorker(app, watch).work()


def _runs(limit: int) -> int:
    return check_whole("limit", limit, 1, _MOST_RUNS)


def _types(app: Application) -> frozenset[str]:
    return frozenset() if app.jobs is None else app.jobs.types
