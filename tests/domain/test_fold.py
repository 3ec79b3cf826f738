"""A history leads to its row, column by column, and a broken one is found."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve, fields_dict
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.errors import HeimdexError
from heimdex.domain.events import JobEvent, stamp
from heimdex.domain.fold import BESIDE_EVENTS, RENEWED, explains, fold
from heimdex.domain.job import MAX_CRASHES, Job
from heimdex.domain.json_text import JsonValue, trusted
from heimdex.domain.new_job import JobLimits, JobSpec, NewJob, create, specify
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Release, Snooze, Succeed
from heimdex.domain.transitions import END_STATUSES, Status, Trigger
from tests.domain.life import JOB, ORG, SCOPE, START, WORKER, Life, row, running

CARRIED_BY_EVENTS = {
    "id",
    "org_id",
    "parent_id",
    "type",
    "queue",
    "priority",
    "status",
    "attempt",
    "max_attempts",
    "backoff_policy",
    "backoff_base",
    "backoff_factor",
    "backoff_cap",
    "backoff_jitter",
    "timeout",
    "scheduled_at",
    "idempotency_key",
    "fingerprint",
    "requested_by",
    "stage",
    "progress",
    "claimed_by",
    "lease_seq",
    "crashes",
    "cancel_requested_at",
    "last_error_code",
    "last_error_message",
    "created_at",
    "updated_at",
    "started_at",
    "finished_at",
    "version",
}
COMPARED_BY_DIGEST = {"payload_json", "result_json"}
MOVED_BY_RENEWALS = {"lease_until"}


def test_a_column_is_carried_by_events_or_is_one_of_three() -> None:
    assert set(fields_dict(Job)) == CARRIED_BY_EVENTS | COMPARED_BY_DIGEST | MOVED_BY_RENEWALS
    assert BESIDE_EVENTS == COMPARED_BY_DIGEST
    assert RENEWED == MOVED_BY_RENEWALS


@pytest.mark.parametrize("column", sorted(CARRIED_BY_EVENTS))
def test_a_column_that_its_history_does_not_lead_to_is_named(column: str) -> None:
    life = running()
    setattr(life.job, column, object())
    assert explains(life.job, life.events) == (column,)


def test_payload_and_result_are_compared_by_their_digests() -> None:
    life = running()
    life.ends(Succeed("[1,2]"))
    assert explains(life.job, life.events) == ()

    life.job.payload_json = '{"to":"somebody"}'
    life.job.result_json = "[1,3]"
    assert explains(life.job, life.events) == ("payload_json", "result_json")

    life.job.result_json = None
    assert explains(life.job, life.events) == ("payload_json", "result_json")


def test_a_result_without_a_success_is_not_explained() -> None:
    life = running()
    life.job.result_json = "1"
    assert explains(life.job, life.events) == ("result_json",)


def test_a_renewed_lease_is_left_out() -> None:
    life = running()
    life.job.lease_until = START + timedelta(days=1)
    assert explains(life.job, life.events) == ()


def test_a_note_that_speaks_of_digests_is_not_taken_for_a_result() -> None:
    life = running()
    life.goes_on(life.job.log({"result_sha256": "0" * 64, "result_bytes": 1, "payload_sha256": "1"}))
    assert explains(life.job, life.events) == ()


def test_an_empty_history_explains_nothing() -> None:
    assert fold([]) is None
    assert explains(Life().job, []) == tuple(fields_dict(Job))


def full_spec() -> JobSpec:
    limits = JobLimits(
        max_attempts=7,
        backoff=Exponential(base=timedelta(seconds=2), factor=1.5, cap=timedelta(minutes=9), jitter=0.1),
        timeout=timedelta(seconds=70),
    )
    new = NewJob(
        "drive.ingest",
        {"é": [1.5, None]},
        queue="slow",
        priority=-5,
        scheduled_at=START + timedelta(days=2),
        idempotency_key="k-1",
        requested_by="somebody@example.com",
        limits=limits,
    )
    return evolve(specify(new), parent_id=UUID(int=8))


def test_a_create_event_carries_whatever_was_asked_for() -> None:
    spec = full_spec()
    decision = create(spec, job_id=JOB, requested_by="actor")
    event = stamp(decision, job_id=JOB, org_id=ORG, seq=1, ts=START, scope=SCOPE)

    job = fold([event])

    assert job is not None
    assert row(job) == {
        "id": JOB,
        "org_id": ORG,
        "parent_id": UUID(int=8),
        "type": "drive.ingest",
        "queue": "slow",
        "priority": -5,
        "payload_json": "{}",
        "result_json": None,
        "status": Status.QUEUED,
        "attempt": 0,
        "max_attempts": 7,
        "backoff_policy": "exp",
        "backoff_base": timedelta(seconds=2),
        "backoff_factor": 1.5,
        "backoff_cap": timedelta(minutes=9),
        "backoff_jitter": 0.1,
        "timeout": timedelta(seconds=70),
        "scheduled_at": START + timedelta(days=2),
        "idempotency_key": "k-1",
        "fingerprint": spec.fingerprint,
        "requested_by": "somebody@example.com",
        "stage": None,
        "progress": 0,
        "claimed_by": None,
        "lease_seq": None,
        "lease_until": None,
        "crashes": 0,
        "cancel_requested_at": None,
        "last_error_code": None,
        "last_error_message": None,
        "created_at": START,
        "updated_at": START,
        "started_at": None,
        "finished_at": None,
        "version": 1,
    }


OUTCOMES: st.SearchStrategy[Outcome] = st.sampled_from(
    [
        Succeed(),
        Succeed('{"n":1e+16}'),
        Fail("boom", "it broke"),
        Fail("boom", "it broke\nhere", traceback="line 1"),
        Fail("bad_input", "never again", permanent=True),
        Snooze(timedelta(seconds=20)),
        Cancel("not wanted"),
        Release("worker stops"),
    ]
)
PROGRESSES = st.none() | st.builds(Progress, st.sampled_from([None, "reading"]), st.integers(0, 100))
LIMITS = st.builds(
    JobLimits,
    max_attempts=st.sampled_from([1, 2, 5]),
    backoff=st.sampled_from([NoRetry(), Fixed(base=timedelta(seconds=10)), Exponential(base=timedelta(seconds=4))]),
)
NEW_JOBS = st.builds(
    NewJob,
    st.just("mail.send"),
    st.sampled_from([{}, {"n": 1}, [1e16, "é", -0.0]]),
    priority=st.integers(-9, 9),
    idempotency_key=st.none() | st.just("k-1"),
    scheduled_at=st.none() | st.just(START - timedelta(days=1)),
    limits=st.none() | LIMITS,
)
Step = Callable[[Life, st.DataObject], object]


def ends(life: Life, data: st.DataObject) -> None:
    life.ends(data.draw(OUTCOMES), random=data.draw(st.floats(0, 0.99)), progress=data.draw(PROGRESSES))


def is_renewed(life: Life, data: st.DataObject) -> None:
    life.job.lease_until = life.now + timedelta(minutes=1)


def is_claimed(life: Life, data: st.DataObject) -> None:
    life.is_claimed()


def is_retried(life: Life, data: st.DataObject) -> None:
    life.goes_on(life.job.retry_by_hand("mended"))


RUNNING_STEPS: Sequence[Step] = (
    ends,
    ends,
    is_renewed,
    lambda life, _: life.goes_on(life.job.expire()),
    lambda life, _: life.goes_on(life.job.cancel("not wanted")),
    lambda life, _: life.goes_on(life.job.report(Progress("reading", 40))),
    lambda life, _: life.goes_on(life.job.log({"attempt": 99, "status": "queued"})),
)
STEPS: dict[Status, Sequence[Step]] = {
    Status.QUEUED: (is_claimed, is_claimed, is_claimed, lambda life, _: life.goes_on(life.job.cancel("not wanted"))),
    Status.RUNNING: RUNNING_STEPS,
    Status.FAILED: (is_retried,),
    Status.CANCELED: (is_retried,),
    Status.DEAD_LETTER: (is_retried,),
    Status.SUCCEEDED: (),
}


@settings(max_examples=40)
@given(st.data())
def test_whatever_happens_to_a_job_its_history_leads_to_its_row(data: st.DataObject) -> None:
    life = Life(data.draw(NEW_JOBS))
    for _ in range(data.draw(st.integers(1, 15))):
        steps = STEPS[life.job.status]
        if not steps:
            break
        life.now += timedelta(seconds=data.draw(st.sampled_from([-1, 0, 7])))
        data.draw(st.sampled_from(steps))(life, data)
        is_sound(life)


def is_sound(life: Life) -> None:
    job, folded = life.job, fold(life.events)
    assert folded is not None
    before, after = row(job), row(folded)
    assert {name for name in before if before[name] != after[name]} <= COMPARED_BY_DIGEST | MOVED_BY_RENEWALS
    assert explains(job, life.events) == ()
    assert [event.seq for event in life.events] == list(range(1, job.version + 1))
    assert (job.updated_at, job.created_at) == (life.last.ts, life.events[0].ts)
    assert (job.finished_at is not None) == (job.status in END_STATUSES)
    held = job.status is Status.RUNNING
    assert [job.lease_seq is not None, job.lease_until is not None, job.claimed_by is not None] == [held] * 3
    claims = [event for event in life.events if event.trigger is Trigger.CLAIM]
    assert (job.started_at is not None) == bool(claims)
    if held:
        assert job.lease_seq == claims[-1].seq
        assert job.claimed_by == WORKER
    assert 0 <= job.attempt <= job.max_attempts
    assert 0 <= job.crashes <= MAX_CRASHES
    for before_it, event in zip(life.events, life.events[1:], strict=False):
        if before_it.next_status is Status.RUNNING and event.next_status is not Status.RUNNING:
            assert isinstance(event.detail["lease_seq"], int)


def broken(life: Life, at: int, **changes: Any) -> list[JobEvent]:  # noqa: ANN401 - of every column's type
    events = list(life.events)
    events[at] = evolve(events[at], **changes)
    return events


BREAKS: Mapping[str, Callable[[Life], list[JobEvent]]] = {
    "the create event is missing": lambda life: life.events[1:],
    "an event in the middle is missing": lambda life: life.events[:1] + life.events[2:],
    "an event is there twice": lambda life: [life.events[0], *life.events],
    "the order is wrong": lambda life: life.events[::-1],
    "the first is no create event": lambda life: broken(life, 0, trigger=Trigger.CLAIM),
    "the first comes from a status": lambda life: broken(life, 0, prev_status=Status.QUEUED),
    "the first number is not 1": lambda life: broken(life, 0, seq=0),
    "a number is left out": lambda life: broken(life, 2, seq=4),
    "a trigger is unknown": lambda life: broken(life, 1, trigger="conquer"),
    "a trigger leads to no status": lambda life: broken(life, 1, trigger="conquer", next_status=None),
    "a trigger leads elsewhere": lambda life: broken(life, 1, next_status=Status.SUCCEEDED),
    "a status is unknown": lambda life: broken(life, 1, next_status="lost"),
    "an event is another job's": lambda life: broken(life, 1, job_id=UUID(int=9)),
    "an event is another organisation's": lambda life: broken(life, 1, org_id=UUID(int=9)),
}


@pytest.mark.parametrize("break_", BREAKS)
def test_events_that_do_not_follow_one_another_are_no_history(break_: str) -> None:
    life = running(attempt=2)
    with pytest.raises(ValueError, match="does not follow"):
        explains(life.job, BREAKS[break_](life))


def test_the_error_of_a_broken_history_says_where_and_why() -> None:
    life = running()
    with pytest.raises(ValueError, match=r"event 2 \(queued -> failed by claim\) does not follow: the job is queued"):
        fold(broken(life, 1, next_status=Status.FAILED))


NO_JSON = {
    "": "Expecting value",
    "{": "Expecting property name",
    "NaN": "NaN is not JSON",
    '{"a":Infinity}': "Infinity is not JSON",
    "[" * 100_000: "nested too deep",
    '{"attempt":' + "9" * 5_000 + "}": "Exceeds the limit",
}


@pytest.mark.parametrize(("text", "problem"), NO_JSON.items(), ids=NO_JSON.values())
def test_a_detail_that_is_no_json_is_a_value_error(text: str, problem: str) -> None:
    life = running()
    with pytest.raises(ValueError, match=problem):
        explains(life.job, broken(life, 1, detail_json=text))


@pytest.mark.parametrize("text", ["[]", "1", "null", '"text"'])
def test_a_detail_that_is_no_object_is_a_type_error(text: str) -> None:
    life = running()
    with pytest.raises(TypeError, match="not an object"):
        explains(life.job, broken(life, 1, detail_json=text))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", 1),
        ("queue", None),
        ("priority", True),
        ("priority", 0.0),
        ("max_attempts", "5"),
        ("backoff_base_ms", "5000"),
        ("backoff_base_ms", 10**30),
        ("backoff_base_ms", 1.5),
        ("backoff_factor", "2.0"),
        ("backoff_factor", True),
        ("backoff_factor", 10**400),
        ("timeout_ms", None),
        ("scheduled_at", None),
        ("scheduled_at", 1_700_000_000),
        ("scheduled_at", "tomorrow"),
        ("idempotency_key", 7),
        ("parent_id", "not an id"),
        ("parent_id", 8),
    ],
)
def test_a_detail_of_the_wrong_kind_is_named_with_its_event(key: str, value: JsonValue) -> None:
    life = running()
    detail = trusted(life.events[0].detail | {key: value})
    with pytest.raises(ValueError, match=f"^event 1: {key} cannot be "):
        explains(life.job, broken(life, 0, detail_json=detail))


@pytest.mark.parametrize(
    ("key", "value", "column"),
    [
        ("priority", 10**100, "priority"),
        ("backoff_factor", 1e308, "backoff_factor"),
        ("scheduled_at", "2026-01-01", "scheduled_at"),
        ("parent_id", str(UUID(int=8)), "parent_id"),
        ("payload_sha256", "0", "payload_json"),
        ("payload_bytes", None, "payload_json"),
    ],
)
def test_a_detail_with_another_value_is_a_column_not_explained(key: str, value: JsonValue, column: str) -> None:
    life = running()
    detail = trusted(life.events[0].detail | {key: value})
    assert explains(life.job, broken(life, 0, detail_json=detail)) == (column,)


def test_a_whole_number_will_do_for_a_factor() -> None:
    life = running()
    detail = life.events[0].detail_json.replace('"backoff_factor":2.0', '"backoff_factor":2')
    assert explains(life.job, broken(life, 0, detail_json=detail)) == ()


ODD: Sequence[JsonValue] = [None, True, 0, -1, 1.5, 2**70, 10**400, "", "1", "2026-01-01", str(WORKER), [], [[]], {}]
KEYS = st.sampled_from(["type", "priority", "timeout_ms", "scheduled_at", "attempt", "lease_until", "claimed_by"])
CHANGES = {
    "seq": st.integers(-1, 9),
    "trigger": st.sampled_from([*Trigger, "conquer"]),
    "prev_status": st.sampled_from([None, *Status, "lost"]),
    "next_status": st.sampled_from([None, *Status, "lost"]),
}


@settings(max_examples=40)
@given(
    st.integers(0, 4),
    st.fixed_dictionaries({}, optional=CHANGES),
    st.dictionaries(KEYS, st.sampled_from(ODD), max_size=3),
)
def test_a_broken_history_is_answered_or_refused_and_nothing_else(
    at: int, changes: dict[str, Any], detail: dict[str, JsonValue]
) -> None:
    life = running(attempt=2)
    text = trusted(life.events[at].detail | detail)
    try:
        columns = explains(life.job, broken(life, at, detail_json=text, **changes))
    except HeimdexError:
        raise
    except (ValueError, TypeError):
        return
    assert set(columns) <= set(fields_dict(Job))
