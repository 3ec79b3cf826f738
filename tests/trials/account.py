"""What a trial reads when it is over: rows, histories and the functions' own lines, and where these disagree."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from uuid import UUID

from attrs import frozen

from heimdex import END_STATUSES, Job, JobEvent, Trigger
from heimdex.domain.fold import explains
from tests.trials.ledger import Ledger
from tests.trials.starts import Start, read

MOST_NAMED = 5


@frozen(kw_only=True)
class Account:
    """Everything about the jobs that a trial created."""

    created: Sequence[UUID]
    jobs: Mapping[UUID, Job]
    histories: Mapping[UUID, Sequence[JobEvent]]
    starts: Sequence[Start]

    @classmethod
    def of(cls, ledger: Ledger) -> "Account":
        return cls(
            created=tuple(ledger.created),
            jobs=ledger.jobs(),
            histories=ledger.histories(ledger.created),
            starts=read(ledger.folder / "starts"),
        )

    def events(self, *triggers: Trigger) -> list[JobEvent]:
        return [event for events in self.histories.values() for event in events if event.trigger in triggers]

    def disagreements(self) -> list[str]:
        """Return what no trial may find: each with how many jobs it is about, and the first of them."""
        found = {
            "lost": [job_id for job_id in self.created if job_id not in self.jobs],
            "with a row that its history does not explain": list(self._unexplained()),
            "came to an end more than once": [job_id for job_id in self.jobs if _ends(self.histories[job_id]) > 1],
            "started twice in one hold": list(self._started_twice()),
            "started without a claim": list(self._started_unclaimed()),
            "succeeded in the ledger, though their function did not return": list(self._never_returned()),
            "started or claimed after their success": list(self._again()),
        }
        return [line for what, ids in found.items() if (line := violation(what, ids))]

    def _unexplained(self) -> Iterator[UUID]:
        return (job.id for job in self.jobs.values() if explains(job, self.histories[job.id]))

    def _started_twice(self) -> Iterator[UUID]:
        seen = set()
        for start in self.starts:
            if (start.job_id, start.lease_seq) in seen:
                yield start.job_id
            seen.add((start.job_id, start.lease_seq))

    def _started_unclaimed(self) -> Iterator[UUID]:
        claims = {(event.job_id, event.seq) for event in self.events(Trigger.CLAIM)}
        return (start.job_id for start in self.starts if (start.job_id, start.lease_seq) not in claims)

    def _never_returned(self) -> Iterator[UUID]:
        returned = {(start.job_id, start.lease_seq) for start in self.starts if start.stopped_at is not None}
        successes = self.events(Trigger.SUCCEED)
        return (event.job_id for event in successes if (event.job_id, event.detail["lease_seq"]) not in returned)

    def _again(self) -> Iterator[UUID]:
        succeeded = {event.job_id: event.seq for event in self.events(Trigger.SUCCEED)}
        runs = {(event.job_id, event.seq) for event in self.events(Trigger.CLAIM)}
        runs |= {(start.job_id, start.lease_seq) for start in self.starts}
        return (job_id for job_id, seq in runs if job_id in succeeded and seq > succeeded[job_id])


def violation(what: str, ids: Sequence[UUID]) -> str:
    """Return a line about jobs, nothing where there are none."""
    if not ids:
        return ""
    named = ", ".join(map(str, ids[:MOST_NAMED]))
    return f"{len(ids):,} jobs {what}: {named}{', ...' if len(ids) > MOST_NAMED else ''}"


def _ends(events: Sequence[JobEvent]) -> int:
    """Return how often a job came to rest in an end: events of one transaction have one time."""
    moments = [list(group)[-1] for _, group in groupby(events, key=lambda event: event.ts)]
    return sum(event.next_status in END_STATUSES for event in moments)
