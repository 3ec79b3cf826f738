"""The table of moves, and that nothing outside it is possible."""

from collections.abc import Callable
from itertools import product

import pytest

from heimdex.domain.errors import IllegalTransition
from heimdex.domain.events import decided
from heimdex.domain.job import Decisions, Job
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.transitions import END_STATUSES, TRANSITIONS, Status, Trigger, next_status
from tests.domain.life import JOB, LEASE, WORKER, Life, row, running

# The design, restated.
ROWS = {
    (None, "create"): "queued",
    ("queued", "claim"): "running",
    ("queued", "cancel"): "canceled",
    ("running", "succeed"): "succeeded",
    ("running", "fail"): "failed",
    ("running", "expire"): "failed",
    ("running", "snooze"): "queued",
    ("running", "release"): "queued",
    ("running", "cancel"): "canceled",
    ("running", "request_cancel"): "running",
    ("running", "progress"): "running",
    ("running", "log"): "running",
    ("failed", "retry"): "queued",
    ("failed", "bury"): "dead_letter",
    ("failed", "retry_by_hand"): "queued",
    ("dead_letter", "retry_by_hand"): "queued",
    ("canceled", "retry_by_hand"): "queued",
}
ILLEGAL = [pair for pair in product([None, *Status], Trigger) if pair not in ROWS]


@pytest.mark.parametrize(("before", "after"), ROWS.items())
def test_a_row_of_the_table_leads_where_the_design_says(before: tuple[Status | None, Trigger], after: str) -> None:
    status, trigger = before
    assert next_status(JOB, status, trigger) == after


@pytest.mark.parametrize(("status", "trigger"), ILLEGAL)
def test_whatever_is_not_in_the_table_is_refused_and_says_what_is_possible(
    status: Status | None, trigger: Trigger
) -> None:
    with pytest.raises(IllegalTransition) as refused:
        decided(JOB, status, trigger)

    assert (refused.value.job_id, refused.value.status, refused.value.trigger) == (JOB, status, trigger)
    assert set(refused.value.allowed) == {word for before, word in ROWS if before == status}


def test_every_status_is_in_the_table_and_no_trigger_is_left_over() -> None:
    assert set(TRANSITIONS) == {None, *Status}
    assert {trigger for moves in TRANSITIONS.values() for trigger in moves} == set(Trigger)


def test_a_job_comes_to_an_end_in_four_statuses() -> None:
    assert set(Status) - {Status.QUEUED, Status.RUNNING} == END_STATUSES


def in_status(status: Status) -> Job:
    ways: dict[Status, Callable[[], Job]] = {
        Status.QUEUED: lambda: Life().job,
        Status.RUNNING: lambda: running().job,
        Status.SUCCEEDED: lambda: running().ends(Succeed()),
        Status.FAILED: lambda: running().ends(Fail("boom", "it broke", permanent=True)),
        Status.CANCELED: lambda: running().ends(Cancel("not wanted")),
        Status.DEAD_LETTER: lambda: running(attempt=5).ends(Fail("boom", "it broke")),
    }
    return ways[status]()


def ending(outcome: Outcome) -> Callable[[Job], Decisions]:
    return lambda job: job.finish(outcome, random=lambda: 0.0)


VERBS: dict[str, tuple[set[Status], Callable[[Job], Decisions]]] = {
    "claim": ({Status.QUEUED}, lambda job: job.claim(worker=WORKER, lease=LEASE)),
    "finish with success": ({Status.RUNNING}, ending(Succeed())),
    "finish with a failure": ({Status.RUNNING}, ending(Fail("boom", "it broke"))),
    "finish with a snooze": ({Status.RUNNING}, ending(Snooze(LEASE))),
    "finish with a release": ({Status.RUNNING}, ending(Release("worker stops"))),
    "finish with a cancel": ({Status.RUNNING}, ending(Cancel("not wanted"))),
    "expire": ({Status.RUNNING}, Job.expire),
    "report": ({Status.RUNNING}, lambda job: job.report(Progress("reading", 1))),
    "log": ({Status.RUNNING}, lambda job: job.log({"line": 1})),
    "cancel": ({Status.QUEUED, Status.RUNNING}, lambda job: job.cancel("not wanted")),
    "retry by hand": (
        {Status.FAILED, Status.DEAD_LETTER, Status.CANCELED},
        lambda job: job.retry_by_hand("mended"),
    ),
}


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_decides_only_where_the_table_allows_it_and_changes_nothing(status: Status, verb: str) -> None:
    allowed_in, decide = VERBS[verb]
    job = in_status(status)
    before = row(job)

    if status in allowed_in:
        assert decide(job)[0].prev_status is status
    else:
        with pytest.raises(IllegalTransition) as refused:
            decide(job)
        assert (refused.value.job_id, refused.value.status) == (JOB, status)
        assert refused.value.allowed == tuple(TRANSITIONS[status])

    assert job.status is status
    assert row(job) == before
