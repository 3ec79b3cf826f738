"""What a test looks for while jobs run, and how it leaves the worker's loop."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, TypeAlias
from uuid import UUID

from attrs import define, field

from heimdex.domain.job import Job
from heimdex.domain.outcomes import Fail, Succeed
from heimdex.domain.results import Ending
from heimdex.domain.transitions import Status

CrashPoint: TypeAlias = Literal["before_start", "before_finish", "after_finish"]


class WorkerDied(BaseException):
    """The worker's process is gone. No Exception, so that nothing on the way out handles it, as after kill -9."""

    def __init__(self, job: Job) -> None:
        self.job_id = job.id


class LetOut(BaseException):
    """Carries an error out of the worker's loop, which would handle it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


@define(eq=False, kw_only=True)
class Watch:
    """What one drain wants of its workers, and what it has seen.

    Args:
        limit: how many runs are allowed.
        dies_at: where the worker dies, with the first job of the type `dies_with`, or any if None.
    """

    limit: int
    raise_errors: bool = False
    dies_at: CrashPoint | None = None
    dies_with: str | None = None
    at_rest: dict[UUID, Job] = field(factory=dict, init=False)
    runs: Counter[str] = field(factory=Counter, init=False)
    # Of the last run; None where its function returned.
    raised: BaseException | None = field(default=None, init=False)

    def begin(self, job: Job) -> None:
        if self.runs.total() == self.limit:
            most = ", ".join(f"{type} ({count:,})" for type, count in self.runs.most_common(5))
            raise AssertionError(
                f"{self.limit:,} runs are over and a job of type {job.type} is due; "
                f"raise `limit` if more are right. Runs by type: {most}"
            )
        self.runs[job.type] += 1
        self.raised = None

    def reach(self, point: CrashPoint, job: Job) -> None:
        if point == self.dies_at and self.dies_with in {None, job.type}:
            raise WorkerDied(job)

    def note(self, error: BaseException) -> None:
        self.raised = error

    def rest(self, jobs: Iterable[Job]) -> None:
        self.at_rest.update({job.id: job for job in jobs})

    def finish(self, ending: Ending, job: Job) -> None:
        """Take in that the end of a run is written."""
        self.reach("after_finish", job)
        effects_refused = isinstance(ending.outcome, Succeed) and job.status is not Status.SUCCEEDED
        if self.raise_errors and (effects_refused or isinstance(ending.outcome, Fail)):
            message = f"job {job.id} ({job.type}) failed: {job.last_error_code}: {job.last_error_message}"
            raise LetOut(AssertionError(message) if self.raised is None else self.raised)
