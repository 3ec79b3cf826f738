"""What is done to queues and to what is no longer needed, as values."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from attrs import Attribute, define, field, frozen

from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import Job
from heimdex.domain.rules import check_length
from heimdex.domain.transitions import Status

SHORTEST_KEY_RETENTION = timedelta(days=30)


@frozen(kw_only=True)
class PausedQueue:
    """A queue from which nothing is claimed. `org_id` None: for every organisation."""

    queue: str
    org_id: UUID | None
    actor: str
    reason: str
    paused_at: datetime

    def holds(self, job: Job) -> bool:
        """Return whether it keeps this job from being claimed."""
        return job.queue == self.queue and self.org_id in {None, job.org_id}


@frozen(kw_only=True)
class QueueCounts:
    """How many jobs of a queue wait and run, and who paused it."""

    queue: str
    queued: int
    running: int
    paused: tuple[PausedQueue, ...] = ()


def queue_counts(counts: Mapping[tuple[str, Status], int], pauses: Sequence[PausedQueue]) -> tuple[QueueCounts, ...]:
    """Return the queues that have jobs or are paused, by name."""
    names = {queue for queue, _ in counts} | {pause.queue for pause in pauses}
    return tuple(
        QueueCounts(
            queue=name,
            queued=counts.get((name, Status.QUEUED), 0),
            running=counts.get((name, Status.RUNNING), 0),
            paused=tuple(pause for pause in pauses if pause.queue == name),
        )
        for name in sorted(names)
    )


def _retention(_: object, attribute: "Attribute[timedelta]", value: timedelta) -> None:
    check_length(attribute.name, value)


def _key_retention(_: object, attribute: "Attribute[timedelta]", value: timedelta) -> None:
    check_length(attribute.name, value)
    if value < SHORTEST_KEY_RETENTION:
        raise InvalidInput(attribute.name, value, f"give at least {SHORTEST_KEY_RETENTION.days} days")


@frozen(kw_only=True)
class Retention:
    """How long what has ended is kept.

    Args:
        jobs: a job's row and its assets, from its end.
        keys: a job with an idempotency key, from its creation, if that is later; at least 30 days.
        histories: what happened to a job whose row is gone, from its last event.
    """

    jobs: timedelta = field(default=timedelta(days=30), validator=_retention)
    keys: timedelta = field(default=SHORTEST_KEY_RETENTION, validator=_key_retention)
    histories: timedelta = field(default=timedelta(days=365), validator=_retention)


@define
class Removed:
    """How many rows of each kind are gone."""

    jobs: int = 0
    events: int = 0
    refusals: int = 0
    assets: int = 0

    def add(self, other: "Removed") -> None:
        self.jobs += other.jobs
        self.events += other.events
        self.refusals += other.refusals
        self.assets += other.assets


@frozen(kw_only=True)
class Erasure:
    """What is left of an organisation that was erased: who did it, why, when it was last at work, and counts."""

    id: UUID
    org_id: UUID
    actor: str
    reason: str
    erased_at: datetime
    removed: Removed
