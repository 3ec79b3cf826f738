"""What a database or its driver says, in our words: each once, none untranslated, no password and no value in any."""

import sqlite3
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.engine import make_url

from heimdex.adapters import database_errors
from heimdex.adapters.database import EngineSettings
from heimdex.adapters.database_errors import translated
from heimdex.adapters.orm import job_table, worker_table
from heimdex.adapters.scoping import carrying
from heimdex.adapters.sql_store import open_database
from heimdex.domain.errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    DataRejected,
    HeimdexError,
    InvalidSetting,
    SchemaMismatch,
    SchemaMissing,
    SerializationConflict,
    TransientDatabaseError,
    UniqueViolation,
)
from heimdex.domain.scope import System, Tenant
from tests.actors import Actor
from tests.sql_stores import PostgresHarness, SqlHarness, SqliteHarness
from tests.stores import HandClock

TENANT = Tenant(UUID(int=1), actor="a")
SYSTEM = System(actor="s", reason="a test")
SECRET = "a-secret-value"  # noqa: S105 - it is looked for in what is shown

SQLSTATES: dict[str, type[DatabaseError]] = {
    "40001": SerializationConflict,  # serialization_failure
    "40P01": TransientDatabaseError,  # deadlock_detected
    "55P03": TransientDatabaseError,  # lock_not_available
    "57014": TransientDatabaseError,  # query_canceled
    "57P01": ConnectionLost,  # admin_shutdown
    "57P02": ConnectionLost,  # crash_shutdown
    "57P03": DatabaseUnavailable,  # cannot_connect_now
    "53100": DatabaseUnavailable,  # disk_full
    "53200": DatabaseUnavailable,  # out_of_memory
    "53300": DatabaseUnavailable,  # too_many_connections
    "25006": DatabaseUnavailable,  # read_only_sql_transaction
    "3D000": DatabaseUnavailable,  # invalid_catalog_name
    "28000": DatabaseUnavailable,  # invalid_authorization_specification
    "28P01": DatabaseUnavailable,  # invalid_password
    "42501": DatabaseUnavailable,  # insufficient_privilege
    "42P01": SchemaMissing,  # undefined_table
    "42883": SchemaMissing,  # undefined_function
    "42703": SchemaMismatch,  # undefined_column
}
OF_A_CLASS: dict[str, type[DatabaseError]] = {
    "08006": ConnectionLost,  # connection_failure
    "22021": DataRejected,  # character_not_in_repertoire
    "22P05": DataRejected,  # untranslatable_character
    "23502": DataRejected,  # not_null_violation
    "23514": DataRejected,  # check_violation
    "54000": DataRejected,  # program_limit_exceeded
    "HX001": DataRejected,  # our own triggers
    "XX000": DatabaseError,  # internal_error
}
SQLITE_CODES: dict[int, type[DatabaseError]] = {
    sqlite3.SQLITE_BUSY: TransientDatabaseError,
    sqlite3.SQLITE_LOCKED: TransientDatabaseError,
    sqlite3.SQLITE_READONLY: DatabaseUnavailable,
    sqlite3.SQLITE_CANTOPEN: DatabaseUnavailable,
    sqlite3.SQLITE_FULL: DatabaseUnavailable,
    sqlite3.SQLITE_IOERR: DatabaseUnavailable,
    sqlite3.SQLITE_PERM: DatabaseUnavailable,
    sqlite3.SQLITE_NOTADB: DatabaseUnavailable,
    sqlite3.SQLITE_CORRUPT: DatabaseUnavailable,
    sqlite3.SQLITE_CONSTRAINT: DataRejected,
    sqlite3.SQLITE_TOOBIG: DataRejected,
    sqlite3.SQLITE_MISMATCH: DataRejected,
}


def run(store: SqlHarness, statement: str) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        uow.open_transaction().execute(carrying(text(statement), SYSTEM))  # type: ignore[attr-defined]  # past the port


@pytest.mark.parametrize("state", SQLSTATES | OF_A_CLASS)
def test_each_sqlstate_has_its_error(postgres_store: PostgresHarness, state: str) -> None:
    with pytest.raises(DatabaseError) as raised:
        run(postgres_store, f"DO $$ BEGIN RAISE EXCEPTION 'said so' USING ERRCODE = '{state}'; END $$")

    assert type(raised.value) is (SQLSTATES | OF_A_CLASS)[state]
    assert raised.value.detail.startswith("said so")


def test_every_sqlstate_and_sqlite_code_of_the_table_is_tried() -> None:
    assert set(database_errors._BY_SQLSTATE) == set(SQLSTATES)
    assert set(database_errors._BY_SQLSTATE_CLASS) <= {state[:2] for state in OF_A_CLASS}
    assert set(database_errors._BY_SQLITE_CODE) == set(SQLITE_CODES)


@pytest.mark.parametrize("code", SQLITE_CODES)
@pytest.mark.parametrize("extended", [0, 5 << 8])
def test_each_sqlite_code_has_its_error(code: int, extended: int) -> None:
    error = sqlite3.OperationalError("said so")
    error.sqlite_errorcode = code | extended

    assert type(translated(error)) is SQLITE_CODES[code]


def test_another_error_of_a_driver_is_a_database_error() -> None:
    assert type(translated(sqlite3.ProgrammingError("said so"))) is DatabaseError
    assert str(translated(TypeError("said so"))) == "TypeError: said so"


@pytest.mark.parametrize("store", ["sqlite_store", "postgres_store"])
def test_a_missing_table_and_a_missing_column_say_what_to_do(request: pytest.FixtureRequest, store: str) -> None:
    harness: SqlHarness = request.getfixturevalue(store)
    with pytest.raises(SchemaMissing, match="heimdex db upgrade"):
        run(harness, "SELECT * FROM nothing_of_ours")
    with pytest.raises(SchemaMismatch, match="heimdex db upgrade"):
        run(harness, "SELECT nothing_of_ours FROM job")


@pytest.mark.parametrize("store", ["sqlite_store", "postgres_store"])
def test_a_broken_constraint_is_named_and_shows_no_value(request: pytest.FixtureRequest, store: str) -> None:
    harness: SqlHarness = request.getfixturevalue(store)
    with harness.unit_of_work(SYSTEM) as uow:
        uow.workers.seen(UUID(int=1), name=SECRET, types=[], queues=[])
    row = {"id": UUID(int=1), "name": SECRET, "types": (), "queues": (), "started_at": harness.clock.now()}

    for change, kind, says in (
        ({"seen_at": harness.clock.now()}, UniqueViolation, "pk_worker"),
        ({"id": UUID(int=2), "seen_at": None}, DataRejected, "seen_at"),
    ):
        statement = carrying(insert(worker_table).values(row | change), SYSTEM)
        with pytest.raises(kind, match=says) as raised, harness.unit_of_work(SYSTEM) as uow:
            uow.open_transaction().connection().execute(statement)  # type: ignore[attr-defined]  # past the port
        assert SECRET not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("store", ["sqlite_store", "postgres_store"])
def test_a_value_that_no_driver_takes_is_translated_too(request: pytest.FixtureRequest, store: str) -> None:
    harness: SqlHarness = request.getfixturevalue(store)
    statement = carrying(insert(job_table).values(id="no uuid", org_id=UUID(int=1)), SYSTEM)

    with pytest.raises(DatabaseError), harness.unit_of_work(SYSTEM) as uow:
        uow.open_transaction().connection().execute(statement)  # type: ignore[attr-defined]  # past the port


@pytest.mark.parametrize("store", ["sqlite_store", "postgres_store"])
def test_an_interrupt_during_a_statement_stays_one(request: pytest.FixtureRequest, store: str) -> None:
    harness: SqlHarness = request.getfixturevalue(store)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    engine = harness.store.database.engine
    event.listen(engine, "before_cursor_execute", interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), harness.unit_of_work(TENANT) as uow:
            uow.jobs.find(UUID(int=1))
    finally:
        event.remove(engine, "before_cursor_execute", interrupt)
    with harness.unit_of_work(TENANT) as uow:
        uow.jobs.create("t")


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def small_pool(request: pytest.FixtureRequest) -> Iterator[SqlHarness]:
    """Return a store with one connection, for which nobody waits long."""
    url = request.getfixturevalue(request.param).url
    brief = timedelta(milliseconds=50)
    harness = SqlHarness(url, EngineSettings(pool_size=1, max_overflow=0, pool_timeout=brief, lock_timeout=brief))
    yield harness
    harness.close()


def test_a_pool_without_a_free_connection_is_unavailable(small_pool: SqlHarness) -> None:
    with Actor(small_pool, SYSTEM) as one:
        one.does(lambda uow: uow.jobs.queued())
        with small_pool.views(SYSTEM) as views, pytest.raises(DatabaseUnavailable, match="raise the pool size"):
            views.history_ids()
        one.commits()

    with small_pool.views(SYSTEM) as views:
        assert views.history_ids() == []


def test_what_opened_no_connection_can_be_opened_again(small_pool: SqlHarness) -> None:
    with Actor(small_pool, SYSTEM) as one:
        one.does(lambda uow: uow.jobs.queued())
        with pytest.raises(DatabaseError), small_pool.unit_of_work(TENANT):
            pass
        one.commits()

    with small_pool.unit_of_work(TENANT) as uow:
        uow.jobs.create("t")


BAD_URLS = [
    "",
    "heimdex.db",
    f"mysql://user:{SECRET}@host/db",
    f"postgresql+psycopg://user:{SECRET}@host/db",
    f"postgresql+psycopg2://user:{SECRET}@host:port/db",
    f"://user:{SECRET}@host",
    f"oracle://host/db?password={SECRET}",
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:///file.db?mode=ro",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_names_no_database_of_ours_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidSetting, match="HEIMDEX_DATABASE_URL") as raised:
        open_database(url, EngineSettings(), HandClock())

    assert SECRET not in "".join(traceback.format_exception(raised.value))


def unreachable(store: PostgresHarness) -> dict[str, str]:
    """Return addresses at which nobody lets us in, each with a password."""
    url = make_url(store.url).set(password=SECRET)
    return {
        "host": url.set(host="127.0.0.1", port=1, query={}).render_as_string(hide_password=False),
        "database": url.set(database="nothing_of_ours").render_as_string(hide_password=False),
        "user": url.set(username="nobody_of_ours").render_as_string(hide_password=False),
    }


@pytest.mark.parametrize("wrong", ["host", "database", "user"])
def test_a_server_that_does_not_let_us_in_is_unavailable_and_no_password_is_shown(
    postgres_store: PostgresHarness, wrong: str
) -> None:
    harness = SqlHarness(unreachable(postgres_store)[wrong])
    for connect in (lambda: harness.unit_of_work(SYSTEM), lambda: harness.store.database.begin(SYSTEM)):
        with pytest.raises(DatabaseUnavailable, match="check that the server runs") as raised:
            connect()
        assert SECRET not in "".join(traceback.format_exception(raised.value))
    harness.close()


def test_settings_of_an_engine_show_no_password(postgres_store: PostgresHarness) -> None:
    database = open_database(unreachable(postgres_store)["user"], EngineSettings(), HandClock())

    assert SECRET not in repr(database.engine)
    database.close()


def not_a_database(path: Path) -> None:
    path.write_bytes(b"this is no SQLite file" * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [not_a_database, a_folder])
def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "file.db")

    with pytest.raises(DatabaseUnavailable, match="check that the file"):
        SqlHarness(f"sqlite:///{tmp_path / 'file.db'}").unit_of_work(SYSTEM)


def test_a_file_that_somebody_else_writes_is_transient(sqlite_store: SqliteHarness) -> None:
    other = sqlite3.connect(sqlite_store.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    impatient = SqlHarness(sqlite_store.url, EngineSettings(lock_timeout=timedelta(milliseconds=50)))

    with pytest.raises(TransientDatabaseError, match="locked"), impatient.unit_of_work(SYSTEM):
        pass
    other.execute("ROLLBACK")
    other.close()
    with impatient.unit_of_work(TENANT) as uow:
        uow.jobs.create("t")
    impatient.close()


def fill(store: SqliteHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        connection = uow.open_transaction().connection()  # type: ignore[attr-defined]  # past the port
        connection.execute(carrying(text("PRAGMA max_page_count = 1"), SYSTEM))
        for _ in range(100):
            uow.jobs.create("t", "x" * 50_000, org_id=TENANT.org_id)


def test_a_full_disk_is_unavailable_and_nothing_is_kept(sqlite_store: SqliteHarness) -> None:
    with pytest.raises(DatabaseUnavailable, match="have room"):
        fill(sqlite_store)

    with sqlite_store.views(SYSTEM) as views:
        assert views.history_ids() == []


def test_all_are_errors_of_ours() -> None:
    for error in (sqlite3.Error("x"), ValueError("x"), OSError("x")):
        assert isinstance(translated(error), HeimdexError)
