"""Creating jobs: what a new one is, what is refused, and that nothing is half-written."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.errors import InvalidInput, InvalidPayload, JobNotFound, UniqueViolation
from heimdex.domain.json_text import MAX_BYTES, MAX_DEPTH
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import JobRepository
from tests.contract.steps import (
    NOBODY,
    ORG,
    OTHER_ORG,
    OURS,
    SYSTEM,
    THEIRS,
    TYPE,
    columns,
    create,
    every_job,
    history,
    stored,
)
from tests.stores import START, StoreHarness

DEEP: Any = None
for _ in range(MAX_DEPTH + 1):
    DEEP = [DEEP]


def test_a_new_job_waits_with_the_defaults(store: StoreHarness) -> None:
    job = stored(store, create(store))

    assert columns(job) == {
        "id": job.id,
        "org_id": ORG,
        "parent_id": None,
        "type": TYPE,
        "queue": "default",
        "priority": 0,
        "payload_json": "{}",
        "result_json": None,
        "status": Status.QUEUED,
        "attempt": 0,
        "max_attempts": 5,
        "backoff_policy": "exp",
        "backoff_base": timedelta(seconds=5),
        "backoff_factor": 2.0,
        "backoff_cap": timedelta(hours=1),
        "backoff_jitter": 0.5,
        "timeout": timedelta(minutes=15),
        "scheduled_at": START,
        "idempotency_key": None,
        "fingerprint": job.fingerprint,
        "requested_by": OURS.actor,
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


def test_a_job_keeps_what_it_was_created_with(store: StoreHarness) -> None:
    later = START + timedelta(days=1, microseconds=1)
    parent = create(store)
    job = create(
        store,
        payload={"to": "someone"},
        queue="slow",
        priority=-32_768,
        scheduled_at=later,
        idempotency_key="k" * 255,
        requested_by="somebody else",
        limits=JobLimits(max_attempts=7, backoff=Fixed(base=timedelta(seconds=3)), timeout=timedelta(seconds=9)),
        parent_id=parent.id,
    )

    kept = stored(store, job)
    assert (kept.payload, kept.queue, kept.priority) == ({"to": "someone"}, "slow", -32_768)
    assert (kept.scheduled_at, kept.idempotency_key, kept.requested_by) == (later, "k" * 255, "somebody else")
    assert (kept.max_attempts, kept.timeout, kept.parent_id) == (7, timedelta(seconds=9), parent.id)
    assert kept.backoff == Fixed(base=timedelta(seconds=3))


@pytest.mark.parametrize(
    "backoff",
    [
        NoRetry(),
        Fixed(base=timedelta(milliseconds=1), jitter=0.0),
        Exponential(base=timedelta(days=1), factor=1.1, cap=timedelta(days=365), jitter=0.3),
    ],
)
def test_a_backoff_policy_comes_back_as_it_was(store: StoreHarness, backoff: NoRetry | Fixed | Exponential) -> None:
    job = create(store, limits=JobLimits(backoff=backoff))

    assert stored(store, job).backoff == backoff


def test_what_create_returns_is_what_is_stored(store: StoreHarness) -> None:
    job = create(store, payload={"n": 1.5}, priority=3)

    assert columns(job) == columns(stored(store, job))


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (None, "{}"),
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ({"n": 1e16, "z": -0.0, "big": 2**53 - 1}, '{"big":9007199254740991,"n":1e+16,"z":-0.0}'),
        ({"s": 'é\U0001f600\\"\n'}, '{"s":"é\U0001f600\\\\\\"\\n"}'),
        ("just a text", '"just a text"'),
        ([1e308, 1e-7], "[1e+308,1e-07]"),
    ],
)
def test_the_canonical_text_of_a_payload_is_the_same_everywhere(
    store: StoreHarness, payload: object, text: str
) -> None:
    assert stored(store, create(store, payload=payload)).payload_json == text


def test_a_payload_of_the_largest_size_is_kept(store: StoreHarness) -> None:
    text = "é" * (MAX_BYTES // 2 - 1)

    assert stored(store, create(store, payload=text)).payload == text


def test_a_time_of_another_zone_is_kept_in_utc(store: StoreHarness) -> None:
    there = datetime(2026, 6, 1, 3, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    kept = stored(store, create(store, scheduled_at=there)).scheduled_at

    assert (kept, kept.tzinfo) == (there, UTC)


def test_the_history_begins_with_who_created_it(store: StoreHarness) -> None:
    [event] = history(store, create(store, payload={"a": 1}))

    assert (event.seq, event.ts, event.org_id) == (1, START, ORG)
    assert (event.trigger, event.prev_status, event.next_status) == ("create", None, Status.QUEUED)
    assert (event.actor, event.source, event.reason) == (OURS.actor, OURS.source, None)
    assert event.detail["payload_bytes"] == len('{"a":1}')


def test_many_come_back_in_the_order_given(store: StoreHarness) -> None:
    new = [NewJob(TYPE, {"n": n}, idempotency_key=f"k-{9 - n}" if n % 2 else None) for n in range(10)]

    with store.unit_of_work(OURS) as uow:
        created = uow.jobs.create_many(new)

    assert [one.job.payload for one in created] == [{"n": n} for n in range(10)]
    assert [one.job.id for one in created] == [job.id for job in every_job(store)]


def test_none_are_none(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.create_many([]) == []


def test_more_than_one_statement_may_hold_are_created(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        created = uow.jobs.create_many(NewJob(TYPE, idempotency_key=f"k-{n}") for n in range(1_001))

    assert len({one.job.id for one in created}) == 1_001
    with store.views(OURS) as views:
        assert views.statistics().by_status[Status.QUEUED] == 1_001


BAD: dict[str, dict[str, Any]] = {
    "a naive time": {"scheduled_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - refused for being naive
    "no time": {"scheduled_at": "tomorrow"},
    "a time too late": {"scheduled_at": datetime(9999, 12, 31, tzinfo=UTC)},
    "a priority too high": {"priority": 32_768},
    "a priority too low": {"priority": -32_769},
    "a priority that is no number": {"priority": True},
    "a key too long": {"idempotency_key": "k" * 256},
    "an empty key": {"idempotency_key": ""},
    "a key with NUL": {"idempotency_key": "a\0b"},
    "an empty queue": {"queue": ""},
    "a queue too long": {"queue": "q" * 256},
    "a requester too long": {"requested_by": "r" * 256},
    "limits that are none": {"limits": 5},
    "a type too long": {"type": "t" * 256},
    "an empty type": {"type": ""},
    "a type with a lone surrogate": {"type": "\ud800"},
    "an organisation that is none": {"org_id": "acme"},
    "another organisation": {"org_id": OTHER_ORG},
}
BAD_PAYLOADS: dict[str, Any] = {
    "a key that is no text": {"a": {1: 2}},
    "NUL": {"a": "\0"},
    "NUL in a key": {"\0": 1},
    "a lone surrogate": ["\ud800"],
    "NaN": {"a": float("nan")},
    "infinity": [float("-inf")],
    "an integer too large": 2**53,
    "too deep": DEEP,
    "too large": "x" * MAX_BYTES,
    "something that is no JSON": {"at": START},
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_and_nothing_is_written(store: StoreHarness, what: str) -> None:
    with store.unit_of_work(OURS) as uow:
        with pytest.raises(InvalidInput) as raised:
            uow.jobs.create(**({"type": TYPE} | BAD[what]))
        assert raised.value.field in BAD[what]
        assert isinstance(raised.value, ValueError)

    assert every_job(store) == []


@pytest.mark.parametrize("what", BAD_PAYLOADS)
def test_a_payload_outside_the_subset_is_refused_with_its_path(store: StoreHarness, what: str) -> None:
    with store.unit_of_work(OURS) as uow:
        with pytest.raises(InvalidPayload, match=r"payload: at \$") as raised:
            uow.jobs.create(TYPE, BAD_PAYLOADS[what])
        assert isinstance(raised.value, ValueError)

    assert every_job(store) == []


def test_one_bad_job_of_many_leaves_none(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        kept = uow.jobs.create(TYPE).job
        with pytest.raises(InvalidPayload):
            uow.jobs.create_many([NewJob(TYPE), NewJob(TYPE, {"a": "\0"})])

    assert [job.id for job in every_job(store)] == [kept.id]


@pytest.mark.parametrize("org_id", [None, "not-a-uuid", 7])
def test_the_system_names_an_organisation(store: StoreHarness, org_id: Any) -> None:  # noqa: ANN401 - a bad one
    with store.unit_of_work(SYSTEM) as uow, pytest.raises(InvalidInput, match="org_id"):
        uow.jobs.create(TYPE, org_id=org_id)


def test_the_system_creates_for_any_organisation(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        orgs = [uow.jobs.create(TYPE, org_id=org_id).job.org_id for org_id in (ORG, OTHER_ORG)]

    assert [job.org_id for job in every_job(store)] == orgs == [ORG, OTHER_ORG]


@pytest.mark.parametrize("org_id", [ORG, str(ORG)])
def test_a_tenant_may_repeat_its_organisation(store: StoreHarness, org_id: Any) -> None:  # noqa: ANN401 - also its text
    assert create(store, org_id=org_id).org_id == ORG


def test_an_unknown_parent_is_not_found_and_nothing_is_written(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow, pytest.raises(JobNotFound, match=str(NOBODY)):
        uow.jobs.create_many([NewJob(TYPE)], parent_id=NOBODY)

    assert every_job(store) == []


@pytest.mark.parametrize("scope", [THEIRS, SYSTEM])
def test_a_parent_of_another_organisation_is_not_found(store: StoreHarness, scope: Any) -> None:  # noqa: ANN401 - either kind of scope
    parent = create(store)

    with store.unit_of_work(scope) as uow, pytest.raises(JobNotFound):
        uow.jobs.create(TYPE, org_id=OTHER_ORG, parent_id=parent.id)

    assert [job.id for job in every_job(store)] == [parent.id]


def test_a_parent_made_in_the_same_unit_of_work_is_found(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        parent = uow.jobs.create(TYPE).job
        child = uow.jobs.create(TYPE, parent_id=parent.id).job

    assert stored(store, child).parent_id == parent.id


def test_an_id_drawn_by_the_caller_is_used(store: StoreHarness) -> None:
    own = UUID("018f3c6e-0000-7000-8000-000000000001")
    with store.unit_of_work(OURS) as uow:
        [created] = uow.jobs.create_many([NewJob(TYPE, id=own)])

    assert created.job.id == own
    assert [job.id for job in every_job(store)] == [own]


SAME_ID: dict[str, Callable[[JobRepository, UUID], object]] = {
    "alone": lambda jobs, own: jobs.create_many([NewJob(TYPE, id=own)]),
    "after another": lambda jobs, own: jobs.create_many([NewJob(TYPE), NewJob(TYPE, id=own)]),
    "before another": lambda jobs, own: jobs.create_many([NewJob(TYPE, id=own), NewJob(TYPE, idempotency_key="k")]),
    "with a new key": lambda jobs, own: jobs.create_many([NewJob(TYPE, id=own, idempotency_key="new")]),
    "beside a replay": lambda jobs, own: jobs.create_many(
        [NewJob(TYPE, {"n": 1}, idempotency_key="old"), NewJob(TYPE, id=own)]
    ),
    "beside a conflict of keys": lambda jobs, own: jobs.create_many(
        [NewJob(TYPE, {"n": 2}, idempotency_key="old"), NewJob(TYPE, id=own)]
    ),
    "before another with its key": lambda jobs, own: jobs.create_many(
        [NewJob(TYPE, id=own, idempotency_key="new"), NewJob(TYPE, idempotency_key="new")]
    ),
}


@pytest.mark.parametrize("scope", [OURS, THEIRS])
@pytest.mark.parametrize("way", SAME_ID)
def test_a_second_job_with_the_same_id_is_refused_and_nothing_is_written(
    store: StoreHarness,
    way: str,
    scope: Any,  # noqa: ANN401 - either kind of scope
) -> None:
    create(store, payload={"n": 1}, idempotency_key="old", scope=scope)
    first = create(store)
    before = [columns(job) for job in every_job(store)]

    with store.unit_of_work(scope) as uow:
        with pytest.raises(UniqueViolation) as raised:
            SAME_ID[way](uow.jobs, first.id)
        after = uow.jobs.create(TYPE).job

    assert raised.value.constraint_name == "pk_job"
    assert [columns(job) for job in every_job(store)] == [*before, columns(after)]


@pytest.mark.parametrize("key", [None, "k"])
def test_an_id_twice_in_one_call_is_refused(store: StoreHarness, key: str | None) -> None:
    own = store.tools.ids()
    with store.unit_of_work(OURS) as uow, pytest.raises(UniqueViolation, match="pk_job"):
        uow.jobs.create_many([NewJob(TYPE, id=own, idempotency_key=key), NewJob(TYPE, id=own, idempotency_key=key)])

    assert every_job(store) == []


def test_an_id_of_the_same_unit_of_work_is_refused_too(store: StoreHarness) -> None:
    own = store.tools.ids()
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create_many([NewJob(TYPE, id=own)])
        with pytest.raises(UniqueViolation, match="pk_job"):
            uow.jobs.create_many([NewJob(TYPE, id=own)])

    assert [job.id for job in every_job(store)] == [own]


def test_the_id_of_a_job_that_was_rolled_back_is_free(store: StoreHarness) -> None:
    own = store.tools.ids()
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create_many([NewJob(TYPE, id=own)])
        uow.rollback()
        uow.jobs.create_many([NewJob(TYPE, id=own)])

    assert [job.id for job in every_job(store)] == [own]
