"""Rows that go past SQLAlchemy's types to SQLite's driver, there and back: the same jobs as through its mapping."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from heimdex.adapters.job_repository import MUTABLE
from heimdex.adapters.job_verbs import Change
from heimdex.adapters.orm import event_table
from heimdex.adapters.scoping import carrying
from heimdex.adapters.sqlite_jobs import SqliteJobRepository
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job, copied
from heimdex.domain.transitions import Status, Trigger
from tests.property.test_postgres_rows import (
    SYSTEM,
    any_number,
    documents,
    insert_row,
    jobs,
    loaded,
    names,
    seen,
    times,
    whole,
)
from tests.sql_stores import SqliteHarness

EVENT_NAMES = tuple(column.key for column in event_table.c)

events = st.builds(
    JobEvent,
    job_id=st.uuids(),
    seq=whole.filter(bool),
    org_id=st.uuids(),
    ts=times,
    prev_status=st.none() | st.sampled_from(Status),
    next_status=st.sampled_from(Status),
    trigger=st.sampled_from(Trigger),
    actor=names,
    source=st.none() | names,
    reason=st.none() | names,
    detail_json=documents,
)


@pytest.fixture(scope="module")
def uow(lasting_sqlite_store: SqliteHarness) -> Iterator[SqlAlchemyUnitOfWork]:
    lasting_sqlite_store.start_anew()
    with lasting_sqlite_store.unit_of_work(SYSTEM) as uow:
        assert isinstance(uow, SqlAlchemyUnitOfWork)
        yield uow


def repository(uow: SqlAlchemyUnitOfWork) -> SqliteJobRepository:
    assert isinstance(uow.jobs, SqliteJobRepository)
    return uow.jobs


def loaded_event(session: Session) -> JobEvent:
    [event] = session.scalars(carrying(select(JobEvent), SYSTEM))
    session.expunge_all()
    return event


def seen_event(event: JobEvent) -> str:
    return repr([(name, getattr(event, name)) for name in EVENT_NAMES])


@any_number
@given(job=jobs(), event=events)
def test_what_is_inserted_past_the_mapping_is_what_the_mapping_loads(
    uow: SqlAlchemyUnitOfWork, job: Job, event: JobEvent
) -> None:
    assert repository(uow)._insert([Change(job, (event,), 0, None)]) == {job.id}
    session = uow.open_transaction()
    assert seen(loaded(session)) == seen(job)
    assert seen_event(loaded_event(session)) == seen_event(event)
    uow.rollback()


@any_number
@given(job=jobs())
def test_a_row_that_is_read_past_the_mapping_is_the_job_that_the_mapping_loads(
    uow: SqlAlchemyUnitOfWork, job: Job
) -> None:
    session = uow.open_transaction()
    insert_row(session, job)
    _, found = repository(uow)._lock({job.id})
    assert seen(found[job.id]) == seen(loaded(session)) == seen(job)
    uow.rollback()


@any_number
@given(job=jobs(), changed=jobs())
def test_a_row_that_is_written_past_the_mapping_is_the_job_that_the_mapping_loads(
    uow: SqlAlchemyUnitOfWork, job: Job, changed: Job
) -> None:
    session = uow.open_transaction()
    insert_row(session, job)
    for name in ("id", "org_id"):
        vars(changed)[name] = getattr(job, name)
    repository(uow)._write([Change(changed, (), job.version, job.lease_seq)])
    expected = copied(job)
    vars(expected).update({name: getattr(changed, name) for name in MUTABLE})
    assert seen(loaded(session)) == seen(expected)
    uow.rollback()
