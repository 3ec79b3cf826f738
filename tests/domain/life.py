"""One job and its history as a store would keep them: decide, stamp, apply."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from attrs import asdict

from heimdex.domain.events import JobEvent, stamp
from heimdex.domain.fold import apply
from heimdex.domain.job import Decisions, Job
from heimdex.domain.new_job import JobLimits, NewJob, create, specify
from heimdex.domain.outcomes import Fail, Outcome, Progress, Succeed
from heimdex.domain.scope import Tenant

ORG = UUID(int=1)
JOB = UUID("018f3c6e-0000-7000-8000-000000000001")
WORKER = UUID(int=101)
START = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE = timedelta(seconds=30)
SCOPE = Tenant(ORG, actor="user@example.com", source="request 7")


class Life:
    """A job from its creation on. `now` is moved by hand."""

    def __init__(self, new: NewJob | None = None) -> None:
        spec = specify(new or NewJob("mail.send", {"to": "someone"}))
        self.now = START
        decision = create(spec, job_id=JOB, requested_by=SCOPE.actor)
        event = stamp(decision, job_id=JOB, org_id=ORG, seq=1, ts=self.now, scope=SCOPE)
        self.events = [event]
        self.job = apply(None, event)
        self.job.payload_json = spec.payload_json

    def goes_on(self, decisions: Decisions) -> Job:
        for decision in decisions:
            seq = self.job.version + 1
            event = stamp(decision, job_id=JOB, org_id=ORG, seq=seq, ts=self.now, scope=SCOPE)
            self.events.append(event)
            apply(self.job, event)
        return self.job

    def is_claimed(self) -> Job:
        return self.goes_on(self.job.claim(worker=WORKER, lease=LEASE))

    def ends(self, outcome: Outcome, *, random: float = 0.0, progress: Progress | None = None) -> Job:
        decisions = self.job.finish(outcome, random=lambda: random, progress=progress)
        if isinstance(outcome, Succeed):
            self.job.result_json = outcome.result_json
        return self.goes_on(decisions)

    @property
    def last(self) -> JobEvent:
        return self.events[-1]


def running(
    limits: JobLimits | None = None, *, attempt: int = 1, crashes: int = 0, cancel_requested: bool = False
) -> Life:
    """Return a running job that has failed and crashed as often as it takes."""
    life = Life(NewJob("mail.send", {"to": "someone"}, limits=limits))
    life.is_claimed()
    for _ in range(crashes):
        life.goes_on(life.job.expire())
        life.is_claimed()
    for _ in range(attempt - 1):
        life.ends(Fail("boom", "it broke"))
        life.is_claimed()
    if cancel_requested:
        life.goes_on(life.job.cancel("not wanted"))
    return life


def row(value: Any) -> dict[str, Any]:  # noqa: ANN401 - a job or an event, which do not compare by content
    return asdict(value, recurse=False)


def moves(decisions: Decisions) -> list[str]:
    """Return decisions as "running -> failed by fail"."""
    return [f"{d.prev_status} -> {d.next_status} by {d.trigger}" for d in decisions]
