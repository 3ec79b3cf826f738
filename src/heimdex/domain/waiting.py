"""Why a job is not running: every blocker that is known."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum

from attrs import frozen

from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.operations import PausedQueue
from heimdex.domain.transitions import Status, Trigger

MOST_AHEAD = 10_000
"""Jobs ahead of a waiting one are counted up to this number."""


class BlockerKind(StrEnum):
    ENDED = "ended"
    RUNNING = "running"
    SCHEDULED = "scheduled"
    BACKOFF = "backoff"
    SNOOZED = "snoozed"
    PAUSED = "paused"
    NO_WORKER = "no_worker"
    SUSPECT = "suspect"
    BEHIND = "behind"
    SCHEMA = "schema"


@frozen
class Blocker:
    """One reason why a job is not running, in words for people.

    `until` is when it ends, where that is known; for a job that has ended, when that was.
    """

    kind: BlockerKind
    text: str
    until: datetime | None = None


@frozen(kw_only=True)
class Surroundings:
    """What a store knows about a queued job's surroundings.

    Args:
        queued_by: the trigger that queued it last.
        paused: who paused its queue, for everybody or for its organisation.
        workers: how many living workers claim its type from its queue.
        ahead: how many due jobs of its queue come before it in claim order, counted up to MOST_AHEAD; under a `Tenant`
            those of its organisation.
    """

    now: datetime
    queued_by: Trigger
    paused: tuple[PausedQueue, ...]
    workers: int
    ahead: int


def queued_by(history: Sequence[JobEvent]) -> Trigger:
    """Return what queued a job last. `history` in the order of `seq`."""
    return next((event.trigger for event in reversed(history) if event.next_status is Status.QUEUED), Trigger.CREATE)


def blockers_of_other(job: Job) -> tuple[Blocker, ...]:
    """Return why a job that is not queued is not waiting to run."""
    if job.status is Status.RUNNING:
        return (Blocker(BlockerKind.RUNNING, f"it runs, held by worker {job.claimed_by}", job.lease_until),)
    return (Blocker(BlockerKind.ENDED, f"it has ended: {job.status}", job.finished_at),)


def blockers(job: Job, surroundings: Surroundings) -> tuple[Blocker, ...]:
    """Return why a queued job is not running; empty means that the next free slot takes it."""
    return tuple(_of_queued(job, surroundings))


def _of_queued(job: Job, surroundings: Surroundings) -> Iterator[Blocker]:
    if job.scheduled_at > surroundings.now:
        yield _later(job, surroundings.queued_by)
    for pause in surroundings.paused:
        whom = "every organisation" if pause.org_id is None else "its organisation"
        yield Blocker(BlockerKind.PAUSED, f"queue {pause.queue} is paused for {whom} by {pause.actor}: {pause.reason}")
    if not surroundings.workers:
        yield Blocker(BlockerKind.NO_WORKER, f"no living worker claims {job.type} from queue {job.queue}")
    if job.suspect:
        yield Blocker(
            BlockerKind.SUSPECT,
            f"{job.crashes} of its runs ended with their worker: it waits until a worker can run it alone",
        )
    if surroundings.ahead:
        count = f"{MOST_AHEAD:,} or more" if surroundings.ahead >= MOST_AHEAD else f"{surroundings.ahead:,}"
        yield Blocker(BlockerKind.BEHIND, f"{count} due jobs come before it")


def _later(job: Job, queued_by: Trigger) -> Blocker:
    match queued_by:
        case Trigger.RETRY:
            failed = f"attempt {job.attempt} of {job.max_attempts} failed ({job.last_error_code}): it is tried again"
            return Blocker(BlockerKind.BACKOFF, failed, job.scheduled_at)
        case Trigger.SNOOZE:
            return Blocker(BlockerKind.SNOOZED, "its function put it off", job.scheduled_at)
        case _:
            return Blocker(BlockerKind.SCHEDULED, "it is scheduled for later", job.scheduled_at)
