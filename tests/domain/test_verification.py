"""Each broken history is found by its rule and by no other, and what the domain's own verbs write by none."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve, fields_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdex.domain.backoff import Fixed, NoRetry
from heimdex.domain.events import Decision, JobEvent
from heimdex.domain.fold import BESIDE_EVENTS, RENEWED, explains
from heimdex.domain.job import Decisions, Job
from heimdex.domain.json_text import JsonValue, trusted
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.outcomes import Cancel, Fail, Progress, Release, Snooze, Succeed
from heimdex.domain.transitions import TRANSITIONS, Status, Trigger
from heimdex.domain.verification import Finding, check
from heimdex.domain.verification_model import MOVES
from heimdex.domain.verification_rules import EVERY, OF_TRIGGER
from tests.domain.life import JOB, LEASE, ORG, WORKER, Life, running
from tests.domain.test_fold import NEW_JOBS, STEPS

Broken = tuple[Job | None, Sequence[JobEvent]]
OTHER = UUID("00000000-0000-0000-0000-000000000102")
ONCE = JobLimits(max_attempts=1)
FAIL = Fail("boom", "it broke")

OF_ROWS = {
    "payload_digest",
    "result_digest",
    "row_differs",
    "row_without_history",
    "history_without_row",
    "running_without_lease",
    "unreadable_event",
}


def rules(job: Job | None, events: Sequence[JobEvent]) -> list[str]:
    return sorted({finding.rule for finding in check(job, events)})


def changed(life: Life, at: int, **changes: Any) -> Broken:  # noqa: ANN401 - of every column's type
    """Change columns of one event, and leave the row as it is."""
    events = list(life.events)
    events[at] = evolve(events[at], **changes)
    return life.job, events


def said(life: Life, at: int, **detail: JsonValue) -> Broken:
    """Change the detail of one event, and leave the row as it is."""
    return changed(life, at, detail_json=trusted(life.events[at].detail | detail))


def lived(life: Life, decisions: Decisions, **changes: Any) -> Broken:  # noqa: ANN401 - as above
    """Let a job go on with its last decision changed, so that row and history agree."""
    life.goes_on((*decisions[:-1], evolve(decisions[-1], **changes)))
    return life.job, life.events


def told(life: Life, decisions: Decisions, **detail: JsonValue) -> Broken:
    """Let a job go on with the detail of its last decision changed."""
    return lived(life, decisions, detail={**decisions[-1].detail, **detail})


def given_row(life: Life, **columns: object) -> Broken:
    for name, value in columns.items():
        setattr(life.job, name, value)
    return life.job, life.events


def finishes(life: Life, outcome: Any = FAIL) -> Decisions:  # noqa: ANN401 - any outcome
    return life.job.finish(outcome, random=lambda: 0.0)


def later(life: Life, seconds: float = 9) -> Life:
    life.now += timedelta(seconds=seconds)
    return life


def crashed_thrice_and_retried() -> Broken:
    life = running(crashes=2)
    failed, _ = life.job.expire()
    back = evolve(running(crashes=1).job.expire()[1], detail={"delay_ms": 0, "attempt": 0, "crashes": 3})
    life.goes_on((failed, back))
    return life.job, life.events


def failed_and_then(trigger: Trigger, to: Status, limits: JobLimits, *, attempt: int = 1) -> Broken:
    life = running(limits, attempt=attempt)
    detail: dict[str, JsonValue] = {"delay_ms": 0, "attempt": attempt, "crashes": 0} if to is Status.QUEUED else {}
    lengths = {"scheduled_at": timedelta(0)} if to is Status.QUEUED else {}
    life.goes_on((finishes(life)[0], Decision(trigger, Status.FAILED, to, detail, lengths)))
    return life.job, life.events


def retried_later() -> Broken:
    life = running()
    failed, back = finishes(life)
    life.goes_on((failed,))
    later(life).goes_on((back,))
    return life.job, life.events


def lost_and_left() -> Broken:
    life = running()
    life.goes_on(life.job.expire()[:1])
    return life.job, life.events


def canceled_unasked() -> Broken:
    life = running(cancel_requested=True)
    detail = finishes(life)[-1].detail
    other = running()
    other.goes_on((Decision(Trigger.CANCEL, Status.RUNNING, Status.CANCELED, {**detail, "lease_seq": 2}),))
    return other.job, other.events


def of_worker(outcome: Any) -> Broken:  # noqa: ANN401 - any outcome
    life = running()
    life.ends(outcome)
    at = 2
    return changed(life, at, source=f"worker {OTHER}")


def left_the_end() -> Broken:
    life = running()
    life.ends(Succeed())
    life.goes_on((Decision(Trigger.RETRY_BY_HAND, Status.SUCCEEDED, Status.QUEUED, *requeued(0), "again"),))
    return life.job, life.events


def requeued(delay: int) -> tuple[dict[str, JsonValue], dict[str, timedelta]]:
    detail: dict[str, JsonValue] = {"delay_ms": delay, "attempt": 0, "crashes": 0}
    return detail, {"scheduled_at": timedelta(milliseconds=delay)}


def asked_twice() -> Broken:
    life = running(cancel_requested=True)
    life.goes_on((Decision(Trigger.REQUEST_CANCEL, Status.RUNNING, Status.RUNNING, reason="again"),))
    return life.job, life.events


def created_again() -> Broken:
    life = running()
    life.job.version += 1
    return life.job, [*life.events, evolve(life.events[0], seq=3)]


def ended(outcome: Any = Succeed("[1]")) -> Life:  # noqa: ANN401, B008 - any outcome, and it is frozen
    life = running()
    life.ends(outcome)
    return life


def forgotten() -> Broken:
    life = running(cancel_requested=True)
    decision = evolve(finishes(running(), Snooze(timedelta(0)))[-1], prev_status=Status.RUNNING)
    life.goes_on((evolve(decision, detail=dict(decision.detail)),))
    return life.job, life.events


BROKEN: Mapping[tuple[str, str], Callable[[], Broken]] = {
    ("gap", "an event in the middle is missing"): lambda: (ended().job, ended().events[:1] + ended().events[2:]),
    ("gap", "the create event is missing"): lambda: (ended().job, ended().events[1:]),
    ("gap", "an event is there twice"): lambda: (ended().job, [*ended().events, ended().events[-1]]),
    ("starts_with_create", "event 1 is another"): lambda: changed(
        Life(), 0, trigger=Trigger.CLAIM, prev_status=None, detail_json=running().events[1].detail_json
    ),
    ("status_does_not_follow", "a cancel of a queued job while it runs"): lambda: lived(
        running(), Life().job.cancel("not wanted")
    ),
    ("illegal_move", "a success of a queued job"): lambda: lived(
        Life(), finishes(running(), Succeed()), prev_status=Status.QUEUED, detail={"lease_seq": 2, "attempt": 0}
    ),
    ("end_status_left_without_retry_by_hand", "a success is retried"): left_the_end,
    ("wrong_next_status", "a success leads to failed"): lambda: lived(
        running(), finishes(running(), Succeed()), next_status=Status.FAILED
    ),
    ("one_organisation", "an event of another"): lambda: changed(running(), 1, org_id=UUID(int=9)),
    ("one_organisation", "the row of another"): lambda: given_row(running(), org_id=UUID(int=9)),
    ("time_runs_backwards", "a claim before its create"): lambda: lived(later(Life(), -5), Life().job.cancel("x")),
    ("unreadable_event", "no JSON"): lambda: changed(running(), 1, detail_json="{"),
    ("unreadable_event", "no object"): lambda: changed(running(), 1, detail_json="[]"),
    ("unreadable_event", "a claim without its worker"): lambda: changed(running(), 1, detail_json='{"attempt":1}'),
    ("unreadable_event", "a number that is text"): lambda: said(running(), 0, priority="9"),
    ("unreadable_event", "a time that is none"): lambda: said(running(), 1, lease_until="soon"),
    ("unreadable_event", "a wait that no time can take"): lambda: said(ended(Snooze(timedelta(1))), 2, delay_ms=10**17),
    ("attempt_not_counted", "by a claim"): lambda: told(
        Life(), Life().job.claim(worker=WORKER, lease=LEASE), attempt=0
    ),
    ("attempt_beyond_max", "a second attempt of one"): lambda: failed_then_claimed(ONCE),
    ("attempt_not_given_back", "by a snooze"): lambda: told(
        running(), finishes(running(), Snooze(timedelta(0))), attempt=1
    ),
    ("attempt_not_given_back", "by a release"): lambda: told(running(), finishes(running(), Release("x")), attempt=1),
    ("attempt_changed", "by a success"): lambda: told(running(), finishes(running(), Succeed()), attempt=0),
    ("attempt_changed", "by a cancel"): lambda: told(running(), finishes(running(), Cancel("x")), attempt=2),
    ("attempt_changed", "by a retry"): lambda: told(running(), finishes(running()), attempt=0),
    ("crashes_not_counted", "by the cancel of a lost run"): lambda: told(
        running(cancel_requested=True), running(cancel_requested=True).job.expire(), crashes=0
    ),
    ("crashes_changed", "by a retry"): lambda: told(running(), finishes(running()), crashes=1),
    ("crashes_changed", "by a snooze"): lambda: told(running(), finishes(running(), Snooze(timedelta(0))), crashes=7),
    ("not_started_anew", "its attempts"): lambda: told(
        ended(Cancel("x")), ended(Cancel("x")).job.retry_by_hand("x"), attempt=1
    ),
    ("not_started_anew", "its crashes"): lambda: told(
        ended(Cancel("x")), ended(Cancel("x")).job.retry_by_hand("x"), crashes=2
    ),
    ("lease_seq_of_latest_claim", "a success of an earlier claim"): lambda: told(
        running(attempt=2), finishes(running(attempt=2), Succeed()), lease_seq=2
    ),
    ("lease_ends_before_it_begins", "a claim"): lambda: lived(
        Life(), Life().job.claim(worker=WORKER, lease=LEASE), lengths={"lease_until": timedelta(0)}
    ),
    ("finished_by_another_worker", "a success"): lambda: of_worker(Succeed()),
    ("finished_by_another_worker", "a failure"): lambda: of_worker(Fail("boom", "it broke", permanent=True)),
    ("finished_by_another_worker", "a cancel"): lambda: of_worker(Cancel("x")),
    ("cancel_forgotten", "by a snooze"): forgotten,
    ("canceled_unasked", "by a failure"): canceled_unasked,
    ("cancel_requested_twice", "by hand"): asked_twice,
    ("retry_without_failure", "later than the failure"): retried_later,
    ("retried_wrongly", "after the last attempt"): lambda: failed_and_then(
        Trigger.RETRY, Status.QUEUED, JobLimits(max_attempts=1, backoff=Fixed(base=timedelta(0)))
    ),
    ("retried_wrongly", "without a policy"): lambda: failed_and_then(
        Trigger.RETRY, Status.QUEUED, JobLimits(backoff=NoRetry())
    ),
    ("retried_wrongly", "after three crashes"): crashed_thrice_and_retried,
    ("buried_wrongly", "with attempts left"): lambda: failed_and_then(Trigger.BURY, Status.DEAD_LETTER, JobLimits()),
    ("buried_wrongly", "without a policy"): lambda: failed_and_then(
        Trigger.BURY, Status.DEAD_LETTER, JobLimits(backoff=NoRetry())
    ),
    ("rests_in_failed_wrongly", "after its worker was lost"): lost_and_left,
    ("wrong_delay", "another time than the wait says"): lambda: lived(
        running(), finishes(running(), Snooze(timedelta(1))), lengths={"scheduled_at": timedelta(2)}
    ),
    ("wrong_delay", "a release that waits"): lambda: lived(
        running(),
        finishes(running(), Release("x")),
        detail={**finishes(running(), Release("x"))[0].detail, "delay_ms": 1},
        lengths={"scheduled_at": timedelta(milliseconds=1)},
    ),
    ("delay_outside_policy", "back too early"): lambda: lived(
        running(),
        finishes(running()),
        detail={**finishes(running())[-1].detail, "delay_ms": 4_999},
        lengths={"scheduled_at": timedelta(milliseconds=4_999)},
    ),
    ("failed_without_error", "an empty code"): lambda: told(
        running(), finishes(running(), Fail("boom", "x", permanent=True)), last_error_code=""
    ),
    ("progress_out_of_range", "101 per cent"): lambda: told(
        running(), running().job.report(Progress("reading", 4)), progress=101
    ),
    ("without_a_reason", "a cancel by hand"): lambda: lived(Life(), Life().job.cancel("x"), reason=None),
    ("without_a_reason", "a retry by hand"): lambda: lived(
        ended(Cancel("x")), ended(Cancel("x")).job.retry_by_hand("x"), reason=""
    ),
    ("payload_digest", "another payload"): lambda: given_row(running(), payload_json='{"to":"nobody"}'),
    ("result_digest", "another result"): lambda: given_row(ended(), result_json="[2]"),
    ("result_digest", "a result without a success"): lambda: given_row(running(), result_json="[1]"),
    ("running_without_lease", "no lease_until"): lambda: given_row(running(), lease_until=None),
    ("running_without_lease", "a lease of an ended job"): lambda: given_row(ended(), claimed_by=WORKER, lease_seq=2),
    ("row_without_history", "no event"): lambda: (Life().job, []),
    ("history_without_row", "of a queued job"): lambda: (None, Life().events),
    ("row_differs", "a status"): lambda: given_row(Life(), priority=7),
}


def failed_then_claimed(limits: JobLimits) -> Broken:
    """Return a job whose only attempt was lost to nobody: it is claimed while its attempt is used up."""
    life = Life(NewJob("mail.send", {"to": "someone"}, limits=limits))
    life.is_claimed()
    life.ends(Snooze(timedelta(0)))
    # As if the snooze had spent the attempt: the next claim is one too many.
    events = list(life.events)
    life.job.attempt = 1
    claim = life.job.claim(worker=WORKER, lease=LEASE)
    life.goes_on(claim)
    return life.job, [*events, life.events[-1]]


@pytest.mark.parametrize(("rule", "how"), [key for key in BROKEN if key[0] != "attempt_beyond_max"])
def test_a_broken_history_is_found_by_its_rule_and_no_other(rule: str, how: str) -> None:
    assert rules(*BROKEN[rule, how]()) == [rule]


def test_an_attempt_beyond_the_limit_is_one_that_was_miscounted_before() -> None:
    assert rules(*failed_then_claimed(ONCE)) == ["attempt_beyond_max", "attempt_not_counted"]


def test_a_history_that_creates_twice_is_found() -> None:
    assert "starts_with_create" in rules(*created_again())


def test_each_rule_has_a_broken_history() -> None:
    named = {rule.__name__ for several in (EVERY, *OF_TRIGGER.values()) for rule in several} | OF_ROWS
    assert {rule for rule, _ in BROKEN} == named


def test_the_model_was_written_a_second_time_and_says_the_same() -> None:
    moves = {(status, trigger): to for status, moves in TRANSITIONS.items() for trigger, to in moves.items()}
    assert dict(MOVES) == moves
    assert set(OF_TRIGGER) | {Trigger.CREATE} == set(Trigger)


@pytest.mark.parametrize("column", sorted(set(fields_dict(Job)) - BESIDE_EVENTS - RENEWED - {"id"}))
def test_each_column_is_compared(column: str) -> None:
    life = running()
    value: object = timedelta(days=9) if column in {"backoff_base", "backoff_cap", "timeout"} else object()
    found = rules(*given_row(life, **{column: value}))
    expected = {"org_id": "one_organisation", "status": "running_without_lease"}.get(column, "row_differs")
    assert expected in found


def test_a_finding_says_where_and_what_and_nothing_of_the_payload() -> None:
    job, events = said(running(), 1, attempt=5)
    assert job is not None
    [of_event, of_row] = check(job, events)
    assert of_event == Finding("attempt_not_counted", JOB, ORG, 2, "attempt 5 instead of 1")
    assert of_row == Finding("row_differs", JOB, ORG, None, "its history does not lead to its attempt")


def test_a_pruned_job_is_no_finding() -> None:
    assert check(None, ended().events) == []
    assert check(None, []) == []


@settings(max_examples=150)
@given(st.data())
def test_whatever_happens_to_a_job_nothing_is_found(data: st.DataObject) -> None:
    life = Life(data.draw(NEW_JOBS))
    for _ in range(data.draw(st.integers(1, 20))):
        steps = STEPS[life.job.status]
        if not steps:
            break
        life.now += timedelta(seconds=data.draw(st.sampled_from([0, 7])))
        data.draw(st.sampled_from(steps))(life, data)
        assert check(life.job, life.events) == []


ODD: Sequence[JsonValue] = [None, True, 0, -1, 1.5, 2**70, 10**400, "", "1", "2026-01-01", str(WORKER), [], [[]], {}]
KEYS = st.sampled_from(
    ["type", "priority", "timeout_ms", "scheduled_at", "attempt", "crashes", "lease_until", "claimed_by", "delay_ms"]
)
CHANGES = {
    "seq": st.integers(-1, 9),
    "trigger": st.sampled_from([*Trigger, "conquer"]),
    "prev_status": st.sampled_from([None, *Status, "lost"]),
    "next_status": st.sampled_from([*Status, "lost"]),
}


@settings(max_examples=150)
@given(
    st.integers(0, 4),
    st.fixed_dictionaries({}, optional=CHANGES),
    st.dictionaries(KEYS, st.sampled_from(ODD), max_size=3),
)
def test_what_explains_refuses_is_found_and_nothing_is_raised(
    at: int, changes: dict[str, Any], detail: dict[str, JsonValue]
) -> None:
    life = running(attempt=2)
    job, events = changed(life, at, detail_json=trusted(life.events[at].detail | detail), **changes)
    found = check(job, events)
    try:
        explained = job is not None and explains(job, events) == ()
    except (ValueError, TypeError):
        explained = False
    assert explained or found
