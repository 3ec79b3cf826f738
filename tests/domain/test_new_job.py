"""What a caller may ask for, and the event that it becomes."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve, fields

from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.errors import InvalidInput, InvalidPayload
from heimdex.domain.events import stamp
from heimdex.domain.json_text import digest, fingerprint
from heimdex.domain.new_job import JobLimits, NewJob, create, specify
from heimdex.domain.rules import MAX_LENGTH
from heimdex.domain.scope import System
from heimdex.domain.transitions import Status, Trigger
from tests.domain.life import JOB, ORG, SCOPE, START


def test_a_job_that_asks_for_nothing_gets_the_defaults_of_the_design() -> None:
    new = NewJob("mail.send")
    limits = specify(new).limits

    assert (new.payload, new.queue, new.priority) == ({}, "default", 0)
    assert (new.scheduled_at, new.idempotency_key, new.requested_by, new.limits, new.id) == (None,) * 5
    assert (limits.max_attempts, limits.timeout) == (5, timedelta(minutes=15))
    assert limits.backoff == Exponential(base=timedelta(seconds=5), factor=2, cap=timedelta(hours=1), jitter=0.5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", "x" * 255),
        ("queue", "é" * 255),
        ("priority", -32_768),
        ("priority", 32_767),
        ("idempotency_key", "k" * 255),
        ("requested_by", "somebody@example.com"),
        ("scheduled_at", datetime(1970, 1, 1, tzinfo=UTC)),
        ("id", JOB),
        ("limits", JobLimits(max_attempts=1)),
        ("limits", JobLimits(max_attempts=1_000, timeout=timedelta(milliseconds=1))),
    ],
    ids=str,
)
def test_a_value_at_the_edge_is_accepted(field: str, value: object) -> None:
    assert getattr(NewJob(**_asking(field, value)), field) == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("type", ""),
        ("type", "x" * 256),
        ("type", None),
        ("queue", "a\tb"),
        ("queue", None),
        ("priority", -32_769),
        ("priority", 32_768),
        ("priority", 1.5),
        ("idempotency_key", ""),
        ("idempotency_key", "k" * 256),
        ("requested_by", ""),
        ("scheduled_at", "now"),
        ("scheduled_at", datetime(2026, 1, 1)),  # noqa: DTZ001 - a naive one is refused
        ("limits", {"max_attempts": 3}),
        ("id", "not an id"),
    ],
    ids=str,
)
def test_a_value_beyond_the_edge_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        NewJob(**_asking(field, value))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_attempts", 0),
        ("max_attempts", 1_001),
        ("backoff", "exp"),
        ("backoff", None),
        ("timeout", timedelta(0)),
        ("timeout", MAX_LENGTH + timedelta(seconds=1)),
        ("timeout", 60),
    ],
    ids=str,
)
def test_a_limit_beyond_the_edge_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(InvalidInput) as refused:
        JobLimits(**{field: value})  # type: ignore[arg-type]  # what is not typed is what is tested
    assert refused.value.field == field


def _asking(field: str, value: object) -> dict[str, Any]:
    return {"type": "mail.send", field: value}


def test_an_id_may_be_given_as_text() -> None:
    assert NewJob("mail.send", id=str(JOB)).id == JOB


def test_all_but_type_and_payload_is_given_by_name() -> None:
    assert [a.name for a in fields(NewJob) if not a.kw_only] == ["type", "payload"]


def test_a_specified_job_carries_its_text_and_its_fingerprint() -> None:
    spec = specify(NewJob("mail.send", {"b": 1, "a": (2,)}))
    assert spec.payload_json == '{"a":[2],"b":1}'
    assert spec.fingerprint == fingerprint("mail.send", spec.payload_json)
    assert spec.parent_id is None


def test_a_payload_outside_the_subset_is_refused() -> None:
    with pytest.raises(InvalidPayload, match=r"^payload: at \$\.a: "):
        specify(NewJob("mail.send", {"a": {1}}))


def test_a_create_event_carries_what_was_asked_for_and_not_the_payload() -> None:
    new = NewJob(
        "mail.send",
        {"to": "é"},
        queue="slow",
        priority=7,
        idempotency_key="k-1",
        limits=JobLimits(max_attempts=3, backoff=NoRetry(), timeout=timedelta(microseconds=1_500)),
        id=JOB,
    )
    spec = evolve(specify(new), parent_id=UUID(int=8))

    decision = create(spec, job_id=JOB, requested_by="actor")

    assert (decision.trigger, decision.prev_status, decision.next_status) == (Trigger.CREATE, None, Status.QUEUED)
    assert decision.lengths == {"scheduled_at": timedelta(0)}
    assert decision.detail == {
        "type": "mail.send",
        "queue": "slow",
        "priority": 7,
        "max_attempts": 3,
        "backoff_policy": "none",
        "backoff_base_ms": 0,
        "backoff_factor": 1.0,
        "backoff_cap_ms": 0,
        "backoff_jitter": 0.0,
        "timeout_ms": 2,
        "idempotency_key": "k-1",
        "fingerprint": spec.fingerprint,
        "requested_by": "actor",
        "parent_id": "00000000-0000-0000-0000-000000000008",
        "payload_sha256": digest('{"to":"é"}'),
        "payload_bytes": 11,
    }


def test_the_cap_of_a_fixed_policy_is_its_base() -> None:
    limits = JobLimits(backoff=Fixed(base=timedelta(seconds=3)))
    detail = create(specify(NewJob("mail.send", limits=limits)), job_id=JOB, requested_by="actor").detail
    assert (detail["backoff_policy"], detail["backoff_base_ms"], detail["backoff_cap_ms"]) == ("fixed", 3_000, 3_000)


def test_whoever_is_named_requests_rather_than_the_actor() -> None:
    spec = specify(NewJob("mail.send", requested_by="somebody"))
    assert create(spec, job_id=JOB, requested_by="actor").detail["requested_by"] == "somebody"


def test_a_time_that_was_asked_for_is_kept_to_the_microsecond_in_utc() -> None:
    at = datetime(2026, 1, 1, 1, 0, 0, 1, tzinfo=timezone(timedelta(hours=1)))
    decision = create(specify(NewJob("mail.send", scheduled_at=at)), job_id=JOB, requested_by="actor")
    assert (decision.detail["scheduled_at"], decision.lengths) == ("2026-01-01T00:00:00.000001Z", {})


def test_a_stamped_event_has_number_time_and_who_and_its_lengths_have_become_times() -> None:
    decision = create(specify(NewJob("mail.send")), job_id=JOB, requested_by="actor")

    event = stamp(decision, job_id=JOB, org_id=ORG, seq=1, ts=START, scope=SCOPE)

    assert (event.job_id, event.org_id, event.seq, event.ts) == (JOB, ORG, 1, START)
    assert (event.actor, event.source, event.reason) == ("user@example.com", "request 7", None)
    assert event.detail["scheduled_at"] == "2026-01-01T12:00:00.000000Z"
    assert "scheduled_at" not in decision.detail


def test_an_event_of_the_system_names_its_actor_and_source() -> None:
    decision = create(specify(NewJob("mail.send")), job_id=JOB, requested_by="actor")
    scope = System(actor="worker", reason="a worker serves every organisation", source="host-1")
    event = stamp(decision, job_id=JOB, org_id=ORG, seq=1, ts=START, scope=scope)
    assert (event.actor, event.source) == ("worker", "host-1")


def test_an_event_cannot_be_changed_and_its_detail_is_a_copy() -> None:
    decision = create(specify(NewJob("mail.send")), job_id=JOB, requested_by="actor")
    event = stamp(decision, job_id=JOB, org_id=ORG, seq=1, ts=START, scope=SCOPE)
    with pytest.raises(AttributeError):
        event.seq = 2
    event.detail.clear()
    assert event.detail["type"] == "mail.send"


@pytest.mark.parametrize("id", [UUID(int=1), "0f8fad5b-d9cb-469f-a165-70867728950e"])
def test_an_id_that_does_not_sort_by_time_is_refused(id: UUID | str) -> None:
    with pytest.raises(InvalidInput, match="give a UUID of version 7"):
        NewJob("mail.send", id=id)
