"""Runs with nothing to tell but that they succeeded, as most do: each store ends them by a short statement of its own.

What such a statement does is said here once: it restates `Job.finish` and `apply`, and the tests' state machine holds
the stores equal to the one that does not.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import cast

from heimdex.adapters.job_verbs import check_held
from heimdex.domain.job import Job, copied
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.transitions import Status, Trigger, next_status

SUCCEEDED = next_status(None, Status.RUNNING, Trigger.SUCCEED)
# What every success sets to the same.
_ENDED: Mapping[str, object] = {
    "status": SUCCEEDED,
    "progress": 100,
    "claimed_by": None,
    "lease_seq": None,
    "lease_until": None,
}


def is_plain_success(ending: Ending) -> bool:
    return (
        isinstance(ending.outcome, Succeed) and ending.progress is None and vars(ending.job)["status"] is Status.RUNNING
    )


def first_endings(endings: Sequence[Ending]) -> dict[int, Ending]:
    """Return the first ending of each job by its place: of several the first counts.

    Raises:
        InvalidInput: one is of a job that nobody holds.
    """
    places: dict[int, int] = {}
    for place, ending in enumerate(endings):
        check_held(ending.job)
        places.setdefault(vars(ending.job)["id"].int, place)
    return {place: endings[place] for place in places.values()}


def in_order(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Return jobs in the order of their ids."""
    return tuple(sorted(jobs, key=lambda job: cast("int", vars(job)["id"].int)))


def succeeded(ending: Ending, ended_at: datetime) -> Job:
    """Return the job as the statement has written it."""
    job = copied(ending.job)
    columns = vars(job)
    columns.update(
        _ENDED,
        result_json=result_of(ending),
        finished_at=ended_at,
        updated_at=ended_at,
        version=columns["version"] + 1,
    )
    return job


def result_of(ending: Ending) -> str | None:
    return ending.outcome.result_json if isinstance(ending.outcome, Succeed) else None
