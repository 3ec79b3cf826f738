"""Rows that go past SQLAlchemy's types, there and back: the same jobs as through its mapping."""

from collections.abc import Iterator
from datetime import UTC, timedelta
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from heimdex.adapters.job_repository import MUTABLE, job_row
from heimdex.adapters.job_verbs import Change
from heimdex.adapters.orm import job_table
from heimdex.adapters.postgres_jobs import PostgresJobRepository
from heimdex.adapters.postgres_values import read_as
from heimdex.adapters.rows import jobs_from
from heimdex.adapters.scoping import carrying
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.domain.backoff import Exponential, Fixed, NoRetry
from heimdex.domain.job import Job, as_kept, copied
from heimdex.domain.json_text import trusted
from heimdex.domain.new_job import JobLimits, NewJob, specify, with_id
from heimdex.domain.rules import EARLIEST, LATEST
from heimdex.domain.scope import System
from heimdex.domain.transitions import END_STATUSES, Status
from tests.sql_stores import PostgresHarness

SYSTEM = System(actor="a", reason="a test looks at everything")
NAMES = tuple(column.key for column in job_table.c)

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from("\"\\{},'\n %:"))
names = words.filter(bool).map(lambda word: word[:32])
times = st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None), timezones=st.just(UTC)).map(
    lambda at: at.replace(fold=0)
)
lengths = st.integers(0, 10**10).map(lambda milliseconds: timedelta(milliseconds=milliseconds))
whole = st.integers(0, 2**31 - 1)
fractions = st.floats(-1e300, 1e300)
# Without the sign of a zero, which the domain takes off: a number column keeps none.
unsigned = fractions.map(lambda number: number + 0.0)
documents = st.dictionaries(names, words | whole | fractions | st.none(), max_size=3).map(trusted)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Any row that the database accepts, whether or not a history could lead to it."""
    status = draw(st.sampled_from(Status))
    running, ended = status is Status.RUNNING, status in END_STATUSES
    return as_kept(
        {
            "id": draw(st.uuids()),
            "org_id": draw(st.uuids()),
            "parent_id": draw(st.none() | st.uuids()),
            "type": draw(names),
            "queue": draw(names),
            "priority": draw(st.integers(-32_768, 32_767)),
            "payload_json": draw(documents),
            "result_json": draw(st.none() | documents),
            "status": status,
            "attempt": draw(st.integers(0, 5)),
            "max_attempts": draw(st.integers(5, 1_000)),
            "backoff_policy": draw(st.sampled_from(["none", "fixed", "exp"])),
            "backoff_base": draw(lengths),
            "backoff_factor": draw(unsigned),
            "backoff_cap": draw(lengths),
            "backoff_jitter": draw(unsigned),
            "timeout": draw(lengths),
            "scheduled_at": draw(times),
            "idempotency_key": draw(st.none() | names),
            "fingerprint": draw(names),
            "requested_by": draw(names),
            "stage": draw(st.none() | names),
            "progress": draw(st.integers(0, 100)),
            "claimed_by": draw(st.uuids()) if running else None,
            "lease_seq": draw(whole) if running else None,
            "lease_until": draw(times) if running else None,
            "crashes": draw(st.integers(0, 3)),
            "cancel_requested_at": draw(st.none() | times),
            "last_error_code": draw(st.none() | names),
            "last_error_message": draw(st.none() | words),
            "created_at": draw(times),
            "updated_at": draw(times),
            "started_at": draw(st.none() | times),
            "finished_at": draw(times) if ended else None,
            "version": draw(st.integers(1, 2**31 - 1)),
        }
    )


def seen(job: Job) -> str:
    """Return the columns with their classes: a number and a word that look alike are not the same."""
    return repr([(name, getattr(job, name)) for name in NAMES])


def insert_row(session: Session, job: Job) -> None:
    session.connection().execute(carrying(insert(job_table), SYSTEM), [job_row(job)])


def loaded(session: Session) -> Job:
    [job] = session.scalars(carrying(select(Job), SYSTEM))
    session.expunge_all()
    return job


def read(session: Session) -> Job:
    columns = ", ".join(read_as(column) for column in job_table.c)
    rows = session.connection().execute(carrying(text(f"SELECT {columns} FROM job"), SYSTEM))  # noqa: S608 - our columns
    [job] = jobs_from(rows, NAMES, {})
    return job


@pytest.fixture(scope="module")
def session(lasting_postgres_store: PostgresHarness) -> Iterator[Session]:
    lasting_postgres_store.start_anew()
    database = lasting_postgres_store.store.database
    session = database.begin(SYSTEM)
    yield session
    database.end(session)


any_number = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@any_number
@given(job=jobs())
def test_a_row_that_is_read_past_the_mapping_is_the_job_that_the_mapping_loads(session: Session, job: Job) -> None:
    insert_row(session, job)
    assert seen(read(session)) == seen(loaded(session)) == seen(job)
    session.rollback()


@any_number
@given(job=jobs(), changed=jobs())
def test_a_row_that_is_written_past_the_mapping_is_the_job_that_the_mapping_loads(
    lasting_postgres_store: PostgresHarness, job: Job, changed: Job
) -> None:
    with lasting_postgres_store.unit_of_work(SYSTEM) as uow:
        assert isinstance(uow, SqlAlchemyUnitOfWork)
        assert isinstance(uow.jobs, PostgresJobRepository)
        session = uow.open_transaction()
        insert_row(session, job)
        for name in ("id", "org_id"):
            vars(changed)[name] = getattr(job, name)
        uow.jobs._write([Change(changed, (), job.version, job.lease_seq)])
        expected = copied(job)
        vars(expected).update({name: getattr(changed, name) for name in MUTABLE})
        assert seen(loaded(session)) == seen(expected)
        uow.rollback()


printable = st.text(
    st.characters(exclude_categories=["C", "Z"]) | st.sampled_from("\"\\{},' %:é"), min_size=1, max_size=8
)
asked = st.builds(
    lambda type, payload, queue, priority, at, key, requested_by, limits: NewJob(
        type,
        payload,
        queue=queue,
        priority=priority,
        scheduled_at=at,
        idempotency_key=key,
        requested_by=requested_by,
        limits=limits,
    ),
    printable,
    st.dictionaries(words.filter(bool), words | st.integers(-5, 2**53 - 1) | fractions | st.none(), max_size=3),
    st.sampled_from(["default", "\\u0001", '"\\u0001"']),
    st.integers(-32_768, 32_767),
    st.none() | times,
    st.none() | printable,
    st.none() | printable,
    st.none()
    | st.builds(
        JobLimits,
        max_attempts=st.integers(1, 1_000),
        backoff=st.sampled_from([NoRetry(), Fixed(base=timedelta(seconds=10)), Exponential(factor=1.5)]),
    ),
)


@any_number
@given(new_jobs=st.lists(asked, min_size=1, max_size=4, unique_by=lambda new: new.idempotency_key or object()))
def test_a_created_job_is_the_one_that_is_decided_stamped_and_applied_for_itself(
    lasting_postgres_store: PostgresHarness, new_jobs: list[NewJob]
) -> None:
    org_id = UUID(int=1)
    with lasting_postgres_store.unit_of_work(SYSTEM) as uow:
        assert isinstance(uow, SqlAlchemyUnitOfWork)
        assert isinstance(uow.jobs, PostgresJobRepository)
        created = [one.job for one in uow.jobs.create_many(new_jobs, org_id=org_id)]
        stored = uow.jobs.find_many([job.id for job in created])
        for job, new in zip(created, new_jobs, strict=True):
            expected = uow.jobs._born(specify(with_id(new, job.id)), org_id, job.created_at)
            event = uow.jobs.latest_event(job.id)
            assert seen(job) == seen(stored[job.id]) == seen(expected.job)
            assert repr(event) == repr(expected.events[0])
            assert event is not None
            assert event.detail_json == expected.events[0].detail_json
        uow.rollback()
