"""What the verbs of a job decide."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.errors import InvalidInput
from heimdex.domain.job import MAX_CRASHES, Hold, Job, before_suspects
from heimdex.domain.json_text import digest
from heimdex.domain.new_job import JobLimits, NewJob, specify
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.results import Note
from heimdex.domain.transitions import Status, Trigger
from tests.domain.life import JOB, LEASE, START, WORKER, Life, moves, row, running

BOOM = Fail("boom", "it broke", traceback="line 1")
FOR_EVER = Fail("bad_input", "never again", permanent=True)
ONCE = JobLimits(max_attempts=1)
TWICE = JobLimits(max_attempts=2)
NEVER_AGAIN = JobLimits(backoff=NoRetry())
ONCE_NEVER_AGAIN = JobLimits(max_attempts=1, backoff=NoRetry())

SUCCEED = "running -> succeeded by succeed"
FAIL = "running -> failed by fail"
EXPIRE = "running -> failed by expire"
CANCEL = "running -> canceled by cancel"
RETRY = "failed -> queued by retry"
BURY = "failed -> dead_letter by bury"


def test_a_claim_carries_attempt_worker_and_lease() -> None:
    life = Life()

    job = life.is_claimed()

    assert life.last.detail == {
        "attempt": 1,
        "claimed_by": str(WORKER),
        "lease_until": "2026-01-01T12:00:30.000000Z",
    }
    assert (job.status, job.attempt, job.claimed_by) == (Status.RUNNING, 1, WORKER)
    assert (job.lease_until, job.started_at) == (START + LEASE, START)


def test_a_hold_is_the_number_of_its_claim_and_lasts_as_long_as_the_run() -> None:
    life = Life()
    queued = life.job.hold
    claimed = life.is_claimed().hold
    reported = life.goes_on(life.job.report(Progress("reading", 10))).hold
    released = life.ends(Release("worker stops")).hold
    claimed_again = life.is_claimed().hold

    assert (queued, claimed, reported, released) == (None, Hold(JOB, 2), Hold(JOB, 2), None)
    assert claimed_again == Hold(JOB, 5)


def test_nothing_is_left_of_a_hold_that_has_ended() -> None:
    job = running().ends(Release("worker stops"))
    assert (job.lease_seq, job.lease_until, job.claimed_by) == (None, None, None)


def test_a_later_claim_keeps_the_first_start_and_forgets_the_last_progress() -> None:
    life = running()
    life.ends(BOOM, progress=Progress("reading", 40))
    assert (life.job.stage, life.job.progress) == ("reading", 40)
    life.now += timedelta(hours=1)

    job = life.is_claimed()

    assert (job.stage, job.progress, job.started_at, job.attempt) == (None, 0, START, 2)


# Of a failure the first match decides: cancel requested; permanent or policy none; attempts used up; else a retry.
OUTCOMES: Mapping[str, tuple[Callable[[], Life], Outcome, list[str]]] = {
    "success": (running, Succeed("1"), [SUCCEED]),
    "success beats cancel": (lambda: running(cancel_requested=True), Succeed("1"), [SUCCEED]),
    "cancel before permanent": (lambda: running(ONCE, cancel_requested=True), FOR_EVER, [CANCEL]),
    "cancel before policy none": (lambda: running(NEVER_AGAIN, cancel_requested=True), BOOM, [CANCEL]),
    "cancel before the last attempt": (lambda: running(ONCE, cancel_requested=True), BOOM, [CANCEL]),
    "permanent": (running, FOR_EVER, [FAIL]),
    "permanent before the only attempt": (lambda: running(ONCE), FOR_EVER, [FAIL]),
    "permanent before the last attempt": (lambda: running(TWICE, attempt=2), FOR_EVER, [FAIL]),
    "policy none": (lambda: running(NEVER_AGAIN), BOOM, [FAIL]),
    "policy none before the only attempt": (lambda: running(ONCE_NEVER_AGAIN), BOOM, [FAIL]),
    "the only attempt": (lambda: running(ONCE), BOOM, [FAIL, BURY]),
    "the last attempt": (lambda: running(TWICE, attempt=2), BOOM, [FAIL, BURY]),
    "another attempt": (lambda: running(TWICE), BOOM, [FAIL, RETRY]),
    "another attempt of a suspect": (lambda: running(TWICE, crashes=2), BOOM, [FAIL, RETRY]),
    "cancel": (running, Cancel("not wanted"), [CANCEL]),
    "cancel as asked": (lambda: running(cancel_requested=True), Cancel("not wanted"), [CANCEL]),
    "snooze": (running, Snooze(LEASE), ["running -> queued by snooze"]),
    "release": (running, Release("worker stops"), ["running -> queued by release"]),
    "cancel beats snooze": (lambda: running(cancel_requested=True), Snooze(LEASE), [CANCEL]),
    "cancel beats release": (lambda: running(cancel_requested=True), Release("worker stops"), [CANCEL]),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_of_the_rules_for_an_outcome_the_first_that_matches_decides(case: str) -> None:
    life, outcome, expected = OUTCOMES[case]
    assert moves(life().job.finish(outcome, random=lambda: 0.0)) == expected


# An expiry gives the attempt back, so that an expired last attempt is not the last; policy none speaks of failures.
EXPIRIES: Mapping[str, tuple[Callable[[], Life], list[str]]] = {
    "cancel before the only attempt": (lambda: running(ONCE, cancel_requested=True), [CANCEL]),
    "cancel before the third crash": (lambda: running(crashes=2, cancel_requested=True), [CANCEL]),
    "the third crash": (lambda: running(crashes=2), [EXPIRE, BURY]),
    "the only attempt": (lambda: running(ONCE), [EXPIRE, BURY]),
    "the first crash": (running, [EXPIRE, RETRY]),
    "the second crash": (lambda: running(crashes=1), [EXPIRE, RETRY]),
    "the last attempt": (lambda: running(TWICE, attempt=2), [EXPIRE, RETRY]),
    "policy none": (lambda: running(NEVER_AGAIN), [EXPIRE, RETRY]),
}


@pytest.mark.parametrize("case", EXPIRIES)
def test_of_the_rules_for_an_expiry_the_first_that_matches_decides(case: str) -> None:
    life, expected = EXPIRIES[case]
    assert moves(life().job.expire()) == expected


def test_a_success_carries_whose_run_it_was_and_the_digest_of_its_result() -> None:
    life = running()

    job = life.ends(Succeed('{"é":1}'), progress=Progress("writing", 55))

    assert life.last.detail == {
        "lease_seq": 2,
        "attempt": 1,
        "stage": "writing",
        "progress": 55,
        "result_sha256": digest('{"é":1}'),
        "result_bytes": 8,
    }
    assert (job.status, job.result, job.stage) == (Status.SUCCEEDED, {"é": 1}, "writing")


def test_a_success_is_all_of_the_way_whatever_the_last_report_said() -> None:
    assert running().ends(Succeed(), progress=Progress("writing", 55)).progress == 100
    assert running().ends(Succeed()).progress == 100


def test_a_success_without_a_result_carries_no_digest() -> None:
    life = running()
    job = life.ends(Succeed())
    assert life.last.detail == {"lease_seq": 2, "attempt": 1}
    assert job.result is None


def test_a_failure_is_written_with_its_traceback_and_retried_after_the_backoff() -> None:
    life = running(JobLimits(backoff=Exponential(base=timedelta(seconds=4), jitter=0.5)), attempt=2)
    life.now = START + timedelta(hours=1)

    job = life.ends(BOOM, random=0.5)

    failed, retried = life.events[-2:]
    assert failed.detail == {
        "lease_seq": 5,
        "attempt": 2,
        "last_error_code": "boom",
        "last_error_message": "it broke",
        "traceback": "line 1",
    }
    assert retried.detail == {
        "delay_ms": 10_000,
        "attempt": 2,
        "crashes": 0,
        "scheduled_at": "2026-01-01T13:00:10.000000Z",
    }
    assert (failed.ts, retried.ts) == (life.now, life.now)
    assert (job.status, job.scheduled_at) == (Status.QUEUED, life.now + timedelta(seconds=10))
    assert (job.last_error_code, job.last_error_message, job.finished_at) == ("boom", "it broke", None)


def test_a_delay_is_whole_milliseconds_and_never_shorter_than_the_backoff() -> None:
    life = running(JobLimits(backoff=Fixed(base=timedelta(milliseconds=1), jitter=1)))
    decision = life.job.finish(BOOM, random=lambda: 0.001)[-1]
    assert decision.detail["delay_ms"] == 2
    assert decision.lengths == {"scheduled_at": timedelta(milliseconds=2)}


def test_a_failure_that_is_not_retried_rests_with_its_error_and_its_end() -> None:
    life = running()
    job = life.ends(FOR_EVER)
    assert (job.status, job.finished_at, job.last_error_code) == (Status.FAILED, START, "bad_input")


def test_a_failed_job_of_an_unknown_policy_is_not_retried_at_once() -> None:
    job = running().job
    job.backoff_policy = "linear"
    assert moves(job.finish(BOOM, random=lambda: 0.0)) == [FAIL]


def test_a_canceled_failure_keeps_its_error() -> None:
    job = running(cancel_requested=True).ends(BOOM)
    assert (job.status, job.last_error_code) == (Status.CANCELED, "boom")


def test_a_holders_cancel_gives_its_reason() -> None:
    life = running()
    life.ends(Cancel("the file is gone"))
    assert (life.last.trigger, life.last.reason) == (Trigger.CANCEL, "the file is gone")
    assert life.last.detail == {"lease_seq": 2, "attempt": 1}


def test_a_snooze_gives_the_attempt_back_and_waits() -> None:
    life = running(attempt=2)

    job = life.ends(Snooze(timedelta(minutes=5)))

    assert (job.status, job.attempt, job.scheduled_at) == (Status.QUEUED, 1, START + timedelta(minutes=5))
    assert life.last.detail == {
        "lease_seq": 5,
        "attempt": 1,
        "crashes": 0,
        "delay_ms": 300_000,
        "scheduled_at": "2026-01-01T12:05:00.000000Z",
    }


def test_a_release_gives_the_attempt_back_and_is_due_at_once() -> None:
    life = running(crashes=1)
    life.now += timedelta(seconds=9)

    job = life.ends(Release("worker stops"))

    assert (job.status, job.attempt, job.crashes, job.scheduled_at) == (Status.QUEUED, 0, 1, life.now)
    assert life.last.reason == "worker stops"


def test_an_expiry_gives_the_attempt_back_counts_a_crash_and_is_due_at_once() -> None:
    life = running(attempt=2)
    life.now += timedelta(minutes=1)

    job = life.goes_on(life.job.expire())

    expired, retried = life.events[-2:]
    assert expired.detail == {
        "lease_seq": 5,
        "attempt": 1,
        "crashes": 1,
        "last_error_code": "worker_lost",
        "last_error_message": "the lease expired: the worker died, was cut off or stood still",
    }
    assert retried.detail["delay_ms"] == 0
    assert (job.status, job.attempt, job.crashes, job.suspect) == (Status.QUEUED, 1, 1, True)
    assert (job.scheduled_at, job.last_error_code) == (life.now, "worker_lost")


def test_a_job_that_keeps_ending_its_worker_is_started_three_times() -> None:
    life = Life(NewJob("mail.send", limits=JobLimits(max_attempts=1_000)))
    starts = 0
    while life.job.status is Status.QUEUED:
        life.is_claimed()
        starts += 1
        life.goes_on(life.job.expire())
    assert (starts, life.job.status, life.job.crashes) == (MAX_CRASHES, Status.DEAD_LETTER, 3)


def test_a_job_that_keeps_failing_is_started_as_often_as_it_may() -> None:
    life = Life()
    starts = 0
    while life.job.status is Status.QUEUED:
        life.is_claimed()
        starts += 1
        life.ends(BOOM)
    assert (starts, life.job.attempt, life.job.status) == (5, 5, Status.DEAD_LETTER)


def test_a_queued_job_is_canceled_at_once() -> None:
    life = Life()
    job = life.goes_on(life.job.cancel("not wanted"))
    assert (job.status, job.finished_at, life.last.reason) == (Status.CANCELED, START, "not wanted")


def test_a_running_job_is_asked_to_cancel_and_asked_once() -> None:
    life = running()
    life.now += timedelta(seconds=1)

    job = life.goes_on(life.job.cancel("not wanted"))

    assert (job.status, job.cancel_requested_at, job.hold) == (Status.RUNNING, life.now, Hold(JOB, 2))
    assert (life.last.trigger, life.last.reason) == (Trigger.REQUEST_CANCEL, "not wanted")
    assert job.cancel("still not wanted") == ()


@pytest.mark.parametrize("reason", ["", "x" * 1_001, "two\nlines", None])
def test_a_verb_by_hand_wants_a_reason(reason: str) -> None:
    with pytest.raises(InvalidInput, match="reason"):
        Life().job.cancel(reason)
    with pytest.raises(InvalidInput, match="reason"):
        running().ends(FOR_EVER).retry_by_hand(reason)


def test_a_retry_by_hand_starts_anew_and_keeps_the_last_error() -> None:
    life = running(ONCE)
    life.goes_on(life.job.expire())
    assert life.job.status is Status.DEAD_LETTER
    life.now += timedelta(days=1)

    job = life.goes_on(life.job.retry_by_hand("the machine was mended"))

    assert (job.status, job.attempt, job.crashes, job.suspect) == (Status.QUEUED, 0, 0, False)
    assert (job.scheduled_at, job.finished_at, job.last_error_code) == (life.now, None, "worker_lost")
    assert life.last.reason == "the machine was mended"
    assert life.last.detail == {
        "delay_ms": 0,
        "attempt": 0,
        "crashes": 0,
        "scheduled_at": "2026-01-02T12:00:00.000000Z",
    }


def test_a_retry_by_hand_forgets_a_requested_cancel() -> None:
    life = running(cancel_requested=True)
    life.ends(BOOM)
    assert life.job.status is Status.CANCELED

    life.goes_on(life.job.retry_by_hand("wanted after all"))
    life.is_claimed()

    assert life.job.cancel_requested_at is None
    assert life.ends(BOOM).status is Status.QUEUED


def test_a_report_changes_stage_and_progress_alone() -> None:
    life = running()
    before = row(life.job)

    after = row(life.goes_on(life.job.report(Progress("reading", 40))))

    assert {name for name in after if after[name] != before[name]} == {"stage", "progress", "version"}
    assert life.last.detail == {"stage": "reading", "progress": 40}


def test_a_note_changes_no_column_though_it_is_named_like_one() -> None:
    life = running()
    before = row(life.job)

    after = row(life.goes_on(life.job.log({"attempt": 99, "status": "queued", "type": "x", "progress": 7})))

    assert {name for name in after if after[name] != before[name]} == {"version"}


@pytest.mark.parametrize("backoff", [NoRetry(), Fixed(base=timedelta(seconds=3), jitter=0.25), Exponential(factor=3)])
def test_a_job_knows_its_backoff_again(backoff: NoRetry | Fixed | Exponential) -> None:
    assert Life(NewJob("mail.send", limits=JobLimits(backoff=backoff))).job.backoff == backoff


def test_payload_and_result_are_new_copies_each_time() -> None:
    job = running().ends(Succeed("[1]"))
    assert (job.payload, job.result) == ({"to": "someone"}, [1])
    assert job.payload is not job.payload
    assert job.result is not job.result


def test_payload_result_and_detail_stay_out_of_the_log() -> None:
    new = NewJob("mail.send", {"to": "canary"})
    life = Life(new)
    life.is_claimed()
    life.goes_on(life.job.log({"to": "canary"}))
    life.ends(Succeed('"canary"'))

    for value in (new, specify(new), life.job, life.events, Note('{"to":"canary"}')):
        assert "canary" not in repr(value)


def test_a_job_that_was_written_past_heimdex_fails_when_it_is_read() -> None:
    job = Life().job
    job.payload_json = "{"
    with pytest.raises(ValueError, match="Expecting property name"):
        _ = job.payload


def suspects(pattern: str) -> list[Job]:
    """Return jobs, one a letter: `s` has crashed a worker before."""
    jobs = []
    for number, letter in enumerate(pattern):
        job = Life().job
        job.id = UUID(int=number)
        job.crashes = 1 if letter == "s" else 0
        jobs.append(job)
    return jobs


@pytest.mark.parametrize(
    ("candidates", "taken"),
    [("", 0), ("...", 3), ("s", 1), ("s..", 1), ("ss", 1), (".s.", 1), ("..s", 2), ("..ss.", 2)],
)
def test_a_claim_takes_a_leading_suspect_alone_and_otherwise_none(candidates: str, taken: int) -> None:
    jobs = suspects(candidates)
    assert list(before_suspects(jobs)) == jobs[:taken]
