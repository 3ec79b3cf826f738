"""Each way in which a filter on the organisation could be forgotten: refused, or filtered."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Executable, create_engine, delete, exists, func, insert, or_, select, text, update
from sqlalchemy.orm import Session

from heimdex.adapters.driver_statements import DriverStatement, on_driver
from heimdex.adapters.orm import event_table, job_table
from heimdex.adapters.scoping import carrying, scoped
from heimdex.domain.errors import UnscopedStatement
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.scope import System, Tenant
from tests.sql_stores import SqlHarness, SqliteHarness

OURS = Tenant(UUID(int=1), actor="a")
THEIRS = Tenant(UUID(int=2), actor="b")
SYSTEM = System(actor="s", reason="a test looks at everything")


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> SqlHarness:
    harness: SqlHarness = request.getfixturevalue(request.param)
    for scope in (OURS, THEIRS):
        with harness.unit_of_work(scope) as uow:
            uow.jobs.create("t", {})
    return harness


@pytest.fixture
def session(store: SqlHarness) -> Iterator[Session]:
    session = store.store.database.begin(SYSTEM)
    yield session
    session.rollback()
    store.store.database.end(session)


FORGOTTEN: dict[str, Callable[[], Executable]] = {
    "select": lambda: select(Job),
    "select of columns": lambda: select(job_table.c.id),
    "count": lambda: select(func.count()).select_from(job_table),
    "exists": lambda: select(exists(select(job_table.c.id))),
    "by primary key": lambda: select(Job).where(job_table.c.id == UUID(int=1)),
    "events": lambda: select(event_table),
    "update": lambda: update(job_table).values(priority=9),
    "orm update": lambda: update(Job).values(priority=9),
    "delete": lambda: delete(job_table).where(job_table.c.priority == 9),
    "orm delete": lambda: delete(Job).where(job_table.c.priority == 9),
    "text": lambda: text("SELECT id FROM job"),
    "from_statement": lambda: select(Job).from_statement(text("SELECT * FROM job").columns(*job_table.c)),
}
# The organisation is among the values, and yet the statement reaches others' rows.
BESIDE: dict[str, Callable[[], Executable]] = {
    "as another column's value": lambda: select(Job).where(job_table.c.id == OURS.org_id),
    "as a text of another name": lambda: text("SELECT id FROM job WHERE id = :id").bindparams(id=OURS.org_id.hex),
    "beside another one": lambda: select(Job).where(job_table.c.org_id.in_([OURS.org_id, THEIRS.org_id])),
    "or another one": lambda: select(Job).where(
        or_(job_table.c.org_id == OURS.org_id, job_table.c.org_id == THEIRS.org_id)
    ),
    "as a literal": lambda: text("SELECT id FROM job WHERE org_id = '00000000-0000-0000-0000-000000000001'"),
}


@pytest.mark.parametrize("way", FORGOTTEN)
def test_a_statement_without_a_scope_is_refused(session: Session, way: str) -> None:
    with pytest.raises(UnscopedStatement):
        session.execute(FORGOTTEN[way]())


@pytest.mark.parametrize("way", FORGOTTEN | BESIDE)
def test_a_tenants_statement_without_its_organisation_is_refused(session: Session, way: str) -> None:
    with pytest.raises(UnscopedStatement):
        session.execute(carrying((FORGOTTEN | BESIDE)[way](), OURS))


@pytest.mark.parametrize("way", FORGOTTEN)
def test_the_system_may_run_it(session: Session, way: str) -> None:
    session.execute(carrying(FORGOTTEN[way](), SYSTEM))


@pytest.mark.parametrize("way", FORGOTTEN)
def test_a_scope_on_the_connection_or_the_session_does_not_count(session: Session, way: str) -> None:
    option = {"heimdex_scope": SYSTEM}
    with pytest.raises(UnscopedStatement):
        session.execute(FORGOTTEN[way](), execution_options=option)
    session.connection().execution_options(**option)

    with pytest.raises(UnscopedStatement):
        session.execute(FORGOTTEN[way]())
    with pytest.raises(UnscopedStatement):
        session.execute(carrying(FORGOTTEN[way](), OURS))


def test_session_get_is_refused(session: Session) -> None:
    with pytest.raises(UnscopedStatement):
        session.get(Job, UUID(int=1))


def test_a_flush_is_refused(session: Session) -> None:
    [job] = session.scalars(scoped(select(Job), OURS, job_table))
    job.priority = 9

    with pytest.raises(UnscopedStatement):
        session.flush()


def test_driver_level_sql_is_refused(session: Session) -> None:
    with pytest.raises(UnscopedStatement):
        session.connection().exec_driver_sql("SELECT id FROM job")


def test_sql_of_a_driver_runs_with_its_scope_and_under_a_tenant_with_its_organisation(
    sqlite_store: SqliteHarness,
) -> None:
    ours, theirs = (OURS.org_id.hex, 1), (THEIRS.org_id.hex, 1)
    statement = DriverStatement("SELECT count(*) FROM job WHERE org_id = ? AND ?", 0)
    change = DriverStatement("UPDATE job SET priority = 9 WHERE org_id = ? AND ?", 0)
    with sqlite_store.store.database.begin(SYSTEM) as session:
        connection = session.connection()
        assert on_driver(connection, statement, OURS, [ours]).scalar() == 0
        assert on_driver(connection, change, SYSTEM, [ours, theirs]).rowcount == 0
        for rows in ([theirs], [ours, theirs]):
            with pytest.raises(UnscopedStatement):
                on_driver(connection, change, OURS, rows)
        with pytest.raises(UnscopedStatement):
            connection.exec_driver_sql(statement.sql, [ours])
    sqlite_store.store.database.end(session)


def test_a_bulk_insert_with_one_row_of_another_organisation_is_refused(session: Session, store: SqlHarness) -> None:
    rows = rows_of_both(store)
    with pytest.raises(UnscopedStatement):
        session.connection().execute(carrying(insert(job_table), OURS), rows)
    with pytest.raises(UnscopedStatement):
        session.connection().execute(carrying(insert(job_table).values(rows), OURS))
    with pytest.raises(UnscopedStatement):
        session.connection().execute(carrying(insert(job_table).returning(job_table.c.id), OURS), rows)


def test_an_orm_bulk_insert_is_refused(session: Session, store: SqlHarness) -> None:
    with pytest.raises(UnscopedStatement):
        session.bulk_insert_mappings(Job, rows_of_both(store))


def rows_of_both(store: SqlHarness) -> list[dict[str, Any]]:
    with store.views(SYSTEM) as views:
        rows = [
            {column.key: getattr(job, column.key) for column in job_table.c} for job in views.page(JobFilter()).jobs
        ]
    assert {row["org_id"] for row in rows} == {OURS.org_id, THEIRS.org_id}
    return rows


@pytest.mark.parametrize("scope", [OURS, THEIRS])
def test_scoped_filters_to_the_organisation(session: Session, scope: Tenant) -> None:
    found = session.scalars(scoped(select(Job), scope, job_table)).all()

    assert [job.org_id for job in found] == [scope.org_id]


def test_a_scoped_update_and_delete_reach_only_the_organisation(session: Session) -> None:
    connection = session.connection()
    assert connection.execute(scoped(update(job_table).values(priority=9), OURS, job_table)).rowcount == 1
    assert connection.execute(scoped(delete(job_table), OURS, job_table)).rowcount == 1

    assert session.scalar(carrying(select(func.count()).select_from(job_table), SYSTEM)) == 1


def test_text_that_names_its_organisation_may_run(session: Session) -> None:
    statement = text("SELECT id FROM job WHERE org_id = :org_id").bindparams(org_id=OURS.org_id.hex)

    session.execute(carrying(statement, OURS))


def test_the_refusal_shows_the_statement_without_values(session: Session) -> None:
    with pytest.raises(UnscopedStatement, match="without its organisation was refused: SELECT") as raised:
        session.execute(select(job_table.c.id).where(job_table.c.idempotency_key == "a secret"))

    assert "a secret" not in str(raised.value)


def test_the_callers_own_engine_is_never_guarded(sqlite_store: SqliteHarness) -> None:
    engine = create_engine(sqlite_store.url)
    with engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(job_table)).scalar() == 0
    engine.dispose()
