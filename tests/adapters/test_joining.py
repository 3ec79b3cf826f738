"""A job and a caller's own rows in one transaction: kept together, undone together, whatever driver the caller has."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, func, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from heimdex.adapters.orm import job_table
from heimdex.bootstrap import bootstrap
from heimdex.config import Settings
from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import (
    CapabilityMissing,
    DatabaseError,
    IdempotencyConflict,
    InvalidInput,
    NestedUnitOfWork,
    SchemaMissing,
    SerializationConflict,
    TransientDatabaseError,
    UniqueViolation,
    UnitOfWorkMisuse,
    UnitOfWorkNotOpen,
)
from heimdex.domain.job import Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Progress, Succeed
from heimdex.domain.results import Ending, Report
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import UnitOfWork
from tests.contract.steps import LEASE, OURS, SYSTEM, THEIRS, TYPE, WORKER, create, every_job, hold_of
from tests.sql_stores import PostgresHarness, SqlHarness, SqliteHarness
from tests.walled_stores import WalledHarness

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

MISTAKEN = text("SELECT 1 FROM nothing_of_anybody")
THING = NewAsset.of("file:///a", media_type="text/plain", size=1, sha256="0" * 64)


class Base(DeclarativeBase): ...


class Note(Base):
    """A table of the caller's own."""

    __tablename__ = "callers_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    said: Mapped[str]


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> SqlHarness:
    harness: SqlHarness = request.getfixturevalue(request.param)
    return harness


@pytest.fixture
def engine(store: SqlHarness) -> Iterator[Engine]:
    with callers_engine(store.url) as engine:
        yield engine


@pytest.fixture
def postgres_engine(postgres_store: PostgresHarness) -> Iterator[Engine]:
    with callers_engine(postgres_store.url) as engine:
        yield engine


@contextmanager
def callers_engine(url: str, **options: Any) -> Iterator[Engine]:  # noqa: ANN401 - as create_engine takes them
    engine = create_engine(url, **options)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        yield session


def notes(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(Note)) or 0


def jobs(store: SqlHarness) -> int:
    return len(every_job(store))


def create_in(store: SqlHarness, whose: Session | Connection) -> UUID:
    """Create one job in a caller's transaction."""
    with store.store.join(whose, OURS) as uow:
        return uow.jobs.create(TYPE).job.id


def create_and(store: SqlHarness, whose: Session | Connection, act: Callable[[], object]) -> None:
    """Create one job in a caller's transaction, then act inside the same block."""
    with store.store.join(whose, OURS) as uow:
        uow.jobs.create(TYPE)
        act()


def fail(error: BaseException) -> NoReturn:
    raise error


# Together


def test_a_row_and_a_job_are_kept_together(store: SqlHarness, engine: Engine, session: Session) -> None:
    session.add(Note(id=1, said="before"))
    with store.store.join(session, OURS) as uow:
        job = uow.jobs.create(TYPE, {"note": 1}).job
        session.add(Note(id=2, said="inside"))
    session.add(Note(id=3, said="after"))
    assert (notes(engine) if store.many_writers else 0, jobs(store)) == (0, 0)

    session.commit()

    assert (notes(engine), [kept.id for kept in every_job(store)]) == (3, [job.id])


def test_a_row_and_a_job_are_undone_together(store: SqlHarness, engine: Engine, session: Session) -> None:
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
    session.add(Note(id=1, said="after"))
    session.flush()
    session.rollback()

    assert (notes(engine), jobs(store)) == (0, 0)


def test_a_row_and_a_job_are_undone_together_when_the_callers_block_raises(store: SqlHarness, engine: Engine) -> None:
    def act() -> None:
        with Session(engine) as session, session.begin():
            session.add(Note(id=1, said="x"))
            create_in(store, session)
            raise KeyError

    with pytest.raises(KeyError):
        act()

    assert (notes(engine), jobs(store)) == (0, 0)


def test_a_session_that_has_done_nothing_yet_can_be_joined(store: SqlHarness, session: Session) -> None:
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
    session.rollback()
    assert jobs(store) == 0
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
    session.commit()
    assert jobs(store) == 1


def test_a_connection_can_be_joined(store: SqlHarness, engine: Engine) -> None:
    with engine.connect() as connection:
        with store.store.join(connection, OURS) as uow:
            uow.jobs.create(TYPE)
        assert jobs(store) == 0
        connection.commit()
        assert jobs(store) == 1
        with store.store.join(connection, OURS) as uow:
            uow.jobs.create(TYPE)
        connection.rollback()
    with engine.begin() as connection, store.store.join(connection, OURS) as uow:
        uow.jobs.create(TYPE)

    assert jobs(store) == 2


def test_a_scoped_session_can_be_joined(store: SqlHarness, engine: Engine) -> None:
    sessions = scoped_session(sessionmaker(engine))
    with store.store.join(sessions, OURS) as uow:
        uow.jobs.create(TYPE)
    sessions.commit()
    sessions.remove()

    assert jobs(store) == 1


def test_every_kind_of_write_goes_through_a_joined_unit_of_work(store: SqlHarness, session: Session) -> None:
    life(store, session)
    session.commit()

    [parent, *_] = every_job(store)
    assert (parent.status, jobs(store)) == (Status.SUCCEEDED, 3)


def life(store: SqlHarness, whose: Session | Connection) -> None:
    """Let a job live its whole life in a caller's transaction."""
    with store.store.join(whose, OURS) as uow:
        parent = uow.jobs.create(TYPE, {"a": [1, "ü", None]}, idempotency_key="k").job
        assert uow.jobs.create(TYPE, {"a": [1, "ü", None]}, idempotency_key="k").replayed
        uow.jobs.create_many([NewJob(TYPE, idempotency_key=key) for key in ("a", "b")], parent_id=parent.id)
        with pytest.raises(IdempotencyConflict):
            uow.jobs.create(TYPE, idempotency_key="k")
    with store.store.join(whose, SYSTEM) as uow:
        held = {job.id: job for job in uow.jobs.claim_due(worker=WORKER, types={TYPE}, lease=LEASE, limit=9)}
        assert len(held) == 3
        uow.workers.seen(WORKER, name="w", types=[TYPE], queues=[])
        uow.jobs.report([Report(hold_of(held[parent.id]), Progress("half", 50))])
        assert len(uow.jobs.renew([hold_of(job) for job in held.values()], lease=LEASE)) == 3
        uow.assets.add(held[parent.id], THING)
        with pytest.raises(UniqueViolation, match="uq_asset_org_job_uri"):
            uow.assets.add(held[parent.id], THING)
        written = uow.jobs.finish([Ending(job, Succeed()) for job in held.values()] * 2)
        assert (len(written.jobs), len(written.refusals)) == (3, 3)
        kept = uow.jobs.with_events(parent.id)
        assert kept is not None
        assert [event.trigger for event in kept.events] == ["create", "claim", "progress", "succeed"]
        assert kept.job.payload == {"a": [1, "ü", None]}


# A savepoint


def test_an_exception_undoes_what_was_done_inside_and_nothing_else(
    store: SqlHarness, engine: Engine, session: Session
) -> None:
    session.add(Note(id=1, said="before"))
    session.flush()
    error = KeyError("mine")

    def write_and_fail() -> None:
        session.add(Note(id=2, said="inside"))
        session.flush()
        raise error

    with pytest.raises(KeyError) as raised:
        create_and(store, session, write_and_fail)
    kept = create_in(store, session)
    session.commit()

    assert raised.value is error
    assert [job.id for job in every_job(store)] == [kept]
    assert notes(engine) == 1


def test_rollback_undoes_what_was_written_and_the_unit_of_work_goes_on(store: SqlHarness, session: Session) -> None:
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE, idempotency_key="k")
        uow.rollback()
        assert not uow.jobs.create(TYPE, idempotency_key="k").replayed
    session.commit()

    assert jobs(store) == 1


def test_a_savepoint_of_the_callers_around_it_may_be_undone(store: SqlHarness, session: Session) -> None:
    outer = session.begin_nested()
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
    outer.rollback()
    with session.begin_nested(), store.store.join(session, OURS) as uow:
        kept = uow.jobs.create(TYPE).job
    session.commit()

    assert [job.id for job in every_job(store)] == [kept.id]


def test_a_savepoint_of_the_callers_inside_it_is_the_callers(
    store: SqlHarness, engine: Engine, session: Session
) -> None:
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
        with session.begin_nested():
            session.add(Note(id=1, said="kept"))
        savepoint = session.begin_nested()
        session.add(Note(id=2, said="undone"))
        session.flush()
        savepoint.rollback()
        uow.jobs.create(TYPE)
    session.commit()

    assert (notes(engine), jobs(store)) == (1, 2)


# A commit inside


def test_a_commit_inside_is_refused_and_nothing_is_lost(store: SqlHarness, engine: Engine, session: Session) -> None:
    session.add(Note(id=1, said="before"))
    with store.store.join(session, OURS) as uow:
        first = uow.jobs.create(TYPE).job
        for commit in (session.commit, session.connection().commit):
            with pytest.raises(UnitOfWorkMisuse, match="commit after it"):
                commit()
        session.add(Note(id=2, said="inside"))
        second = uow.jobs.create(TYPE).job
        assert jobs(store) == 0
    session.commit()

    assert [job.id for job in every_job(store)] == [first.id, second.id]
    assert notes(engine) == 2


def test_a_commit_inside_of_a_connection_is_refused_and_nothing_is_lost(store: SqlHarness, engine: Engine) -> None:
    with engine.connect() as connection:
        with store.store.join(connection, OURS) as uow:
            uow.jobs.create(TYPE)
            with pytest.raises(UnitOfWorkMisuse, match="nothing was lost"):
                connection.commit()
            uow.jobs.create(TYPE)
        connection.commit()

    assert jobs(store) == 2


def test_a_commit_of_the_transaction_itself_is_refused_and_undoes_all_of_it(store: SqlHarness, engine: Engine) -> None:
    with engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(Note.__table__.insert().values(id=1, said="x"))  # type: ignore[attr-defined]  # it is a Table
        with pytest.raises(UnitOfWorkMisuse, match="rolled back"):
            create_and(store, connection, transaction.commit)
        transaction.rollback()
        connection.execute(text("SELECT 1"))
        connection.commit()

    assert (notes(engine), jobs(store)) == (0, 0)


def test_a_commit_inside_that_ends_the_block_undoes_only_the_block(
    store: SqlHarness, engine: Engine, session: Session
) -> None:
    session.add(Note(id=1, said="before"))
    with pytest.raises(UnitOfWorkMisuse):
        create_and(store, session, session.commit)
    session.commit()

    assert (notes(engine), jobs(store)) == (1, 0)


def test_a_rollback_inside_is_noticed_at_the_end(store: SqlHarness, session: Session) -> None:
    session.add(Note(id=1, said="before"))
    with pytest.raises(UnitOfWorkMisuse, match="was ended inside the block"):
        create_and(store, session, session.rollback)
    session.commit()

    assert jobs(store) == 0


def test_a_rollback_inside_is_noticed_at_the_next_use(store: SqlHarness, session: Session) -> None:
    def roll_back_and_go_on() -> None:
        with store.store.join(session, OURS) as uow:
            uow.jobs.create(TYPE)
            session.rollback()
            with pytest.raises(UnitOfWorkMisuse, match="was ended inside the block"):
                uow.jobs.create(TYPE)
            with pytest.raises(UnitOfWorkMisuse, match="was ended inside the block"):
                uow.rollback()

    with pytest.raises(UnitOfWorkMisuse, match="was ended inside the block"):
        roll_back_and_go_on()
    session.commit()

    assert jobs(store) == 0


@pytest.mark.filterwarnings("ignore:nested transaction already deassociated")  # SQLAlchemy notices, too
def test_a_callers_savepoint_that_is_undone_inside_is_noticed(store: SqlHarness, session: Session) -> None:
    outer = session.begin_nested()
    with pytest.raises(UnitOfWorkMisuse, match="was ended inside the block"):
        create_and(store, session, outer.rollback)
    session.rollback()
    create_in(store, session)
    session.commit()

    assert jobs(store) == 1


def test_what_was_put_on_the_callers_session_and_connection_is_taken_off_again(
    store: SqlHarness, engine: Engine
) -> None:
    with engine.connect() as connection, Session(connection) as session:
        with store.store.join(session, OURS):
            pass
        session.commit()
        connection.commit()
        assert "commit" not in vars(connection)
        with store.store.join(connection, OURS):
            pass
        connection.commit()


# Wake-ups


def test_workers_are_woken_by_the_callers_commit_and_by_no_savepoint(store: SqlHarness, session: Session) -> None:
    seen: list[int] = []
    unsubscribe = store.wakeups.subscribe(lambda: seen.append(jobs(store)))
    with session.begin_nested(), store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
    with session.begin_nested():
        pass
    assert seen == []
    session.commit()
    assert seen == [1]
    session.execute(text("SELECT 1"))
    session.commit()
    unsubscribe()

    assert seen == [1]


def test_what_was_undone_wakes_nobody(store: SqlHarness, session: Session) -> None:
    woken: list[None] = []
    unsubscribe = store.wakeups.subscribe(lambda: woken.append(None))
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
    session.rollback()
    with pytest.raises(KeyError):
        create_and(store, session, lambda: fail(KeyError()))
    session.commit()
    with store.store.join(session, OURS) as uow:
        uow.jobs.create(TYPE)
    session.close()
    session.execute(text("SELECT 1"))
    session.commit()
    unsubscribe()

    assert woken == []


def test_a_connection_wakes_nobody(store: SqlHarness, engine: Engine) -> None:
    woken: list[None] = []
    unsubscribe = store.wakeups.subscribe(lambda: woken.append(None))
    with engine.begin() as connection, store.store.join(connection, OURS) as uow:
        uow.jobs.create(TYPE)
    unsubscribe()

    assert (woken, jobs(store)) == ([], 1)


# Errors


def test_our_statements_raise_our_errors_and_the_callers_raise_its_own(
    store: SqlHarness, engine: Engine, session: Session
) -> None:
    for _ in range(2):
        with pytest.raises((OperationalError, ProgrammingError)), store.store.join(session, OURS):
            session.execute(MISTAKEN)
        with pytest.raises(IntegrityError), store.store.join(session, OURS):
            session.execute(text("INSERT INTO callers_note VALUES (1, 'x'), (1, 'y')"))
    session.rollback()

    held = claimed(store)
    with store.store.join(session, SYSTEM) as uow:
        uow.assets.add(held, THING)
        with pytest.raises(UniqueViolation):
            uow.assets.add(held, THING)
    session.commit()


def claimed(store: SqlHarness) -> Job:
    job = create(store)
    with store.unit_of_work(SYSTEM) as uow:
        return uow.jobs.claim(job.id, worker=WORKER, lease=LEASE)


def test_a_failed_statement_that_was_passed_over_is_noticed_and_the_caller_goes_on(
    postgres_store: PostgresHarness, postgres_engine: Engine
) -> None:
    with Session(postgres_engine) as session:
        session.add(Note(id=1, said="before"))
        session.flush()
        with pytest.raises(DatabaseError, match="aborted"):
            create_and(postgres_store, session, lambda: pass_over_an_error(session))
        session.commit()

    assert (notes(postgres_engine), jobs(postgres_store)) == (1, 0)


def pass_over_an_error(session: Session) -> None:
    with pytest.raises(ProgrammingError):
        session.connection().execute(MISTAKEN)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_conflict_of_snapshots_has_a_name(postgres_store: PostgresHarness, level: str) -> None:
    job = create(postgres_store)
    with callers_engine(postgres_store.url, isolation_level=level) as engine, Session(engine) as session:
        session.execute(text("SELECT 1"))
        with postgres_store.store.join(session, SYSTEM) as uow:
            assert uow.jobs.get(job.id).status is Status.QUEUED
        with postgres_store.unit_of_work(SYSTEM) as theirs:
            theirs.jobs.claim(job.id, worker=WORKER, lease=LEASE)
        with pytest.raises(SerializationConflict), postgres_store.store.join(session, SYSTEM) as uow:
            uow.jobs.claim(job.id, worker=WORKER, lease=LEASE)


def test_a_snapshot_that_another_writer_has_overtaken_is_transient(sqlite_store: SqliteHarness) -> None:
    with callers_engine(sqlite_store.url) as engine, engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        connection.execute(text("SELECT count(*) FROM job"))
        create(sqlite_store)
        with pytest.raises(TransientDatabaseError), sqlite_store.store.join(connection, OURS) as uow:
            uow.jobs.create(TYPE)
        connection.rollback()


def test_a_file_that_somebody_else_writes_is_transient(sqlite_store: SqliteHarness) -> None:
    with callers_engine(sqlite_store.url, connect_args={"timeout": 0.05}) as engine:
        with sqlite_store.unit_of_work(OURS), engine.connect() as connection:
            pass
        with engine.connect() as writer, engine.connect() as connection:
            writer.exec_driver_sql("BEGIN IMMEDIATE")
            with pytest.raises(TransientDatabaseError, match="locked"), sqlite_store.store.join(connection, OURS):
                pass


def test_a_caller_that_is_in_no_transaction_is_refused(postgres_store: PostgresHarness) -> None:
    with (
        callers_engine(postgres_store.url, isolation_level="AUTOCOMMIT") as engine,
        engine.connect() as connection,
        pytest.raises(InvalidInput, match="AUTOCOMMIT"),
        postgres_store.store.join(connection, OURS),
    ):
        pass


def test_another_kind_of_database_is_refused(postgres_store: PostgresHarness, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'other.db'}")
    with engine.connect() as connection, pytest.raises(InvalidInput, match="that Heimdex works on"):
        postgres_store.store.join(connection, OURS)
    engine.dispose()


def test_what_is_no_session_is_refused(store: SqlHarness, engine: Engine) -> None:
    for wrong in (engine, None, "session"):
        with pytest.raises(InvalidInput, match="give a Session or Connection"):
            store.store.join(wrong, OURS)
    with pytest.raises(InvalidInput, match="give the Connection"):
        store.store.join(sessionmaker()(), OURS)


def test_memory_has_nothing_to_join() -> None:
    with bootstrap(Settings(database_url="memory://")) as app, pytest.raises(CapabilityMissing, match="joined"):
        app.join(object(), OURS)


def test_the_schema_is_looked_at_first(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    engine = create_engine(url)
    with bootstrap(Settings(database_url=url)) as app, engine.connect() as connection:
        with pytest.raises(SchemaMissing):
            app.join(connection, OURS)
        connection.rollback()
        app.schema.upgrade()
        with app.join(connection, OURS) as uow:
            uow.jobs.create(TYPE)
        connection.commit()
    engine.dispose()


# The life of a unit of work


def test_it_nests_no_more_than_others(store: SqlHarness, session: Session) -> None:
    starts: list[Callable[[Scope], UnitOfWork]] = [partial(store.store.join, session), store.unit_of_work]
    with store.store.join(session, OURS) as uow:
        for start in starts:
            with pytest.raises(NestedUnitOfWork), start(OURS):
                pass
        uow.jobs.create(TYPE)
    session.commit()
    with store.unit_of_work(OURS), pytest.raises(NestedUnitOfWork), store.store.join(session, OURS):
        pass
    session.rollback()

    assert jobs(store) == 1


def test_it_is_used_inside_its_block_and_once(store: SqlHarness, session: Session) -> None:
    uow: UnitOfWork = store.store.join(session, OURS)
    with pytest.raises(UnitOfWorkNotOpen):
        uow.jobs.queued()
    with uow:
        repository = uow.jobs
    with pytest.raises(UnitOfWorkNotOpen):
        repository.queued()
    with pytest.raises(UnitOfWorkNotOpen), uow:
        pass
    session.rollback()


# Organisations


def test_another_organisations_job_is_not_there(store: SqlHarness, session: Session) -> None:
    job = create(store, scope=THEIRS)
    with store.store.join(session, OURS) as uow:
        assert uow.jobs.find(job.id) is None
        assert uow.jobs.queued() == []
    session.rollback()


def test_the_callers_engine_is_not_guarded(store: SqlHarness, session: Session) -> None:
    with store.store.join(session, OURS):
        session.execute(select(func.count()).select_from(job_table))
        session.execute(update(job_table).values(priority=1))
    session.rollback()


NAMED = text("SELECT current_setting('heimdex.org_id', true)")


@pytest.mark.parametrize("named", [None, THEIRS.org_id.hex])
@pytest.mark.parametrize("fails", [False, True])
def test_the_organisation_that_the_caller_had_named_is_named_again(
    postgres_store: PostgresHarness, postgres_engine: Engine, named: str | None, *, fails: bool
) -> None:
    def use(session: Session) -> None:
        with postgres_store.store.join(session, OURS) as uow:
            assert session.scalar(NAMED) == OURS.org_id.hex
            uow.jobs.create(TYPE)
            uow.rollback()
            assert session.scalar(NAMED) == OURS.org_id.hex
            if fails:
                session.execute(MISTAKEN)

    with Session(postgres_engine) as session:
        if named is not None:
            session.execute(text("SELECT set_config('heimdex.org_id', :name, true)"), {"name": named})
        if fails:
            with pytest.raises(ProgrammingError):
                use(session)
        else:
            use(session)
        assert (session.scalar(NAMED) or "") == (named or "")


def test_a_walled_login_joins_with_its_own_role(walled_store: WalledHarness, api_url: str) -> None:
    engine = create_engine(api_url)
    with Session(engine) as session:
        before = session.scalar(text("SELECT current_user"))
        with walled_store.store.join(session, OURS) as uow:
            uow.jobs.create(TYPE)
            assert session.scalar(text("SELECT current_user")) == before
            assert session.scalar(text("SELECT count(*) FROM job")) == 1
        assert session.scalar(text("SELECT count(*) FROM job")) == 0
        session.commit()
    engine.dispose()

    assert jobs(walled_store) == 1


# Other drivers


def through(url: str, driver: str) -> str:
    return make_url(url).set(drivername=driver).render_as_string(hide_password=False)


def test_a_caller_may_use_psycopg_3(postgres_store: PostgresHarness) -> None:
    pytest.importorskip("psycopg")
    with callers_engine(through(postgres_store.url, "postgresql+psycopg")) as engine, Session(engine) as session:
        session.add(Note(id=1, said="x"))
        life(postgres_store, session)
        session.rollback()
        life(postgres_store, session)
        session.commit()

    assert jobs(postgres_store) == 3


ASYNC = {"sqlite_store": ("aiosqlite", "sqlite+aiosqlite"), "postgres_store": ("asyncpg", "postgresql+asyncpg")}


def in_async_session(store: SqlHarness, act: Callable[["AsyncSession"], Awaitable[None]]) -> None:
    """Do something in an AsyncSession of the store's database, through a driver for asyncio."""
    pytest.importorskip("greenlet")
    module, driver = ASYNC["sqlite_store" if isinstance(store, SqliteHarness) else "postgres_store"]
    pytest.importorskip(module)
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine  # noqa: PLC0415 - it needs greenlet

    async def main() -> None:
        engine = create_async_engine(through(store.url, driver))
        async with AsyncSession(engine) as session:
            await act(session)
        await engine.dispose()

    with callers_engine(store.url):
        asyncio.run(main())


def test_an_async_session_is_joined_through_run_sync(store: SqlHarness) -> None:
    woken: list[None] = []
    unsubscribe = store.wakeups.subscribe(lambda: woken.append(None))

    async def act(session: "AsyncSession") -> None:
        with pytest.raises(InvalidInput, match="run_sync"):
            store.store.join(session, OURS)
        session.add(Note(id=1, said="x"))
        await session.run_sync(lambda sync: life(store, sync))
        await session.rollback()
        assert woken == []
        await session.run_sync(lambda sync: life(store, sync))
        await session.commit()

    in_async_session(store, act)
    unsubscribe()

    assert jobs(store) == 3
    assert woken


def test_an_async_callers_commit_inside_is_refused_and_its_errors_are_its_own(store: SqlHarness) -> None:
    def misuse(session: Session) -> None:
        with store.store.join(session, OURS) as uow:
            uow.jobs.create(TYPE)
            with pytest.raises(UnitOfWorkMisuse):
                session.commit()
        with pytest.raises((ProgrammingError, OperationalError)):
            create_and(store, session, lambda: session.execute(MISTAKEN))

    async def act(session: "AsyncSession") -> None:
        await session.run_sync(misuse)
        await session.commit()

    in_async_session(store, act)

    assert jobs(store) == 1
