"""The schema: made by migration, equal to the mapping, guarded by the database itself."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg2
import pytest
from alembic import op
from sqlalchemy import Engine, create_engine, inspect, text

from heimdex.adapters import migrating
from heimdex.adapters.orm import metadata
from heimdex.adapters.schema import HEAD, Schema
from heimdex.domain.errors import DatabaseUnavailable, SchemaMismatch, SchemaMissing, TransientDatabaseError
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import Tenant
from tests.postgres_server import PostgresServer
from tests.sql_stores import PostgresHarness, SqlHarness, SqliteHarness, admin_connection, migrated_postgres

TENANT = Tenant(UUID(int=1), actor="a")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.fresh_name("empty")
    server.create_database(name)
    yield server.url(name)
    server.drop_database(name)


def catalog(engine: Engine) -> dict[str, Any]:
    """Return what the database knows of our tables: columns, keys, CHECKs and indexes with their predicates."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            made = "SELECT name, sql FROM sqlite_master WHERE type = '{}' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
            tables = [name for name, _ in connection.execute(text(made.format("table"))) if name != "heimdex_version"]
            indexes = [tuple(row) for row in connection.execute(text(made.format("index")))]
            inspector = inspect(connection)
            return {"indexes": indexes} | {table: sqlite_table(inspector, table) for table in tables}
        queries = {
            "columns": "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable"
            " FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
            "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND contype <> 'n' ORDER BY 1, 2",
            "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes"
            " WHERE schemaname = 'public' ORDER BY 1, 2",
        }
        return {
            name: [tuple(row) for row in connection.execute(text(query)) if "heimdex_version" not in row]
            for name, query in queries.items()
        }


def sqlite_table(inspector: Any, table: str) -> dict[str, Any]:  # noqa: ANN401 - SQLAlchemy's inspector
    return {
        "columns": [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
        "checks": sorted((c["name"], c["sqltext"]) for c in inspector.get_check_constraints(table)),
        "key": inspector.get_pk_constraint(table),
    }


def test_the_migrated_schema_is_the_mapped_one(empty_url: str, tmp_path: Path) -> None:
    Schema(empty_url).upgrade()
    migrated = create_engine(empty_url)
    found = catalog(migrated)

    if migrated.dialect.name == "sqlite":
        # Its triggers look at it, and PostgreSQL needs none, so that it is not among the mapped tables.
        del found["pruning"]
        created = create_engine(f"sqlite:///{tmp_path / 'created.db'}")
    else:
        Schema(empty_url).downgrade("base")
        created = migrated
    metadata.create_all(created)

    assert catalog(created) == found
    metadata.drop_all(created)
    created.dispose()
    migrated.dispose()


@pytest.mark.parametrize(
    "drift",
    [
        "ALTER TABLE job ADD COLUMN extra text",
        "DROP INDEX idx_job_claim",
        "CREATE INDEX idx_planted ON job (created_at)",
        "ALTER TABLE job RENAME COLUMN stage TO step",
    ],
)
def test_planted_drift_is_seen(empty_url: str, drift: str) -> None:
    Schema(empty_url).upgrade()
    engine = create_engine(empty_url)
    before = catalog(engine)
    with engine.begin() as connection:
        connection.execute(text(drift))

    assert catalog(engine) != before
    engine.dispose()


def test_up_down_and_up_again(empty_url: str) -> None:
    schema = Schema(empty_url)

    assert schema.state().current is None
    assert schema.upgrade().is_current
    assert schema.upgrade().is_current
    assert schema.downgrade("base").current is None
    assert schema.upgrade().is_current


def test_a_missing_schema_is_named_with_the_way_out(empty_url: str) -> None:
    with pytest.raises(SchemaMissing, match="heimdex db upgrade"):
        Schema(empty_url).check()


def test_an_upgrade_that_fails_half_way_leaves_nothing_and_can_be_done_again(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_table = op.create_table

    def fail_at_assets(name: str, *columns: Any, **options: Any) -> object:  # noqa: ANN401 - the signature of Alembic's
        if name == "asset":
            raise RuntimeError("power cut")
        return create_table(name, *columns, **options)

    monkeypatch.setattr(op, "create_table", fail_at_assets)
    with pytest.raises(RuntimeError, match="power cut"):
        Schema(empty_url).upgrade()
    monkeypatch.undo()

    assert Schema(empty_url).state().current is None
    assert Schema(empty_url).upgrade().is_current


def test_of_several_processes_that_upgrade_one_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    code = "import sys; from heimdex.adapters.schema import Schema; assert Schema(sys.argv[1]).upgrade().is_current"
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'new.db'}"]
    upgrades = [subprocess.Popen(command) for _ in range(3)]

    assert [upgrade.wait(60) for upgrade in upgrades] == [0, 0, 0]


def test_an_upgrade_gives_up_on_an_sqlite_file_that_stays_locked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    Schema(url).upgrade()
    writer = sqlite3.connect(tmp_path / "busy.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")

    with pytest.raises(TransientDatabaseError):
        Schema(url, lock_timeout=timedelta(milliseconds=50)).upgrade()
    # To look needs no lock.
    assert Schema(url).check().is_current
    writer.close()


def test_an_upgrade_of_postgres_does_not_wait_for_a_lock_for_ever(postgres_server: PostgresServer) -> None:
    url = migrated_postgres(postgres_server)
    # The last revision that changes a table: each is a transaction of its own.
    assert Schema(url).downgrade("0002").current == "0002"
    holder = admin_connection(url)
    with holder.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE job IN ACCESS SHARE MODE")

    with pytest.raises(TransientDatabaseError, match="lock timeout"):
        Schema(url, lock_timeout=timedelta(milliseconds=50)).downgrade("base")
    holder.close()
    assert Schema(url).state().current == "0002"


def test_looking_at_a_file_that_is_not_there_leaves_none(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.db"
    schema = Schema(f"sqlite:///{file}")

    assert schema.state().current is None
    for look in (schema.check, partial(schema.downgrade, "base"), schema.look):
        with pytest.raises(SchemaMissing, match=r"there is no file .*mistyped\.db; .*heimdex db upgrade"):
            look()
    assert not file.exists()


def test_a_newer_schema_is_refused(empty_url: str) -> None:
    schema = Schema(empty_url)
    schema.upgrade()
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE heimdex_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(SchemaMismatch, match="does not know; install a newer Heimdex"):
        schema.check()


def test_a_unit_of_work_refuses_a_missing_schema_and_works_once_it_is_there(empty_url: str) -> None:
    harness = SqlHarness(empty_url)

    with pytest.raises(SchemaMissing):
        harness.unit_of_work(TENANT)
    harness.store.schema.upgrade()
    with harness.unit_of_work(TENANT) as uow:
        uow.jobs.create("t")
    harness.close()


def test_an_unreachable_server_and_an_unwritable_file_say_what_to_check(tmp_path: Path) -> None:
    for url in (
        "postgresql+psycopg2://postgres@127.0.0.1:1/nothing",
        f"sqlite:///{tmp_path / 'no' / 'such' / 'folder' / 'heimdex.db'}",
        f"sqlite:///{tmp_path}",
    ):
        with pytest.raises(DatabaseUnavailable, match="check that"):
            Schema(url).check()


@pytest.mark.parametrize("table", ["job_event", "job_refusal"])
@pytest.mark.parametrize("change", ["UPDATE {} SET actor = 'x'", "DELETE FROM {}"])
def test_sqlite_itself_refuses_to_change_the_past(sqlite_store: SqliteHarness, table: str, change: str) -> None:
    leave_a_refusal(sqlite_store)
    connection = sqlite3.connect(sqlite_store.url.removeprefix("sqlite:///"))

    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(change.format(table))
    connection.close()


@pytest.mark.parametrize("table", ["job_event", "job_refusal"])
@pytest.mark.parametrize("change", ["UPDATE {} SET actor = 'x'", "DELETE FROM {}", "TRUNCATE {}"])
def test_postgres_itself_refuses_to_change_the_past(postgres_store: PostgresHarness, table: str, change: str) -> None:
    leave_a_refusal(postgres_store)
    connection = admin_connection(postgres_store.url)

    with connection.cursor() as cursor, pytest.raises(psycopg2.Error, match="append-only"):
        cursor.execute(change.format(table))
    connection.close()


def leave_a_refusal(store: SqliteHarness | PostgresHarness) -> None:
    with store.unit_of_work(TENANT) as uow:
        created = uow.jobs.create("t").job
        held = uow.jobs.claim(created.id, worker=UUID(int=9), lease=timedelta(seconds=30))
        uow.jobs.finish([Ending(held, Succeed())])
        assert uow.jobs.finish([Ending(held, Succeed())]).refusals


def test_the_head_that_is_looked_for_is_the_last_revision() -> None:
    assert migrating.head() == HEAD


def test_a_process_that_only_looks_loads_no_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    Schema(url).upgrade()
    look = "import sys; from heimdex.adapters.schema import Schema; Schema(sys.argv[1]).check()"
    code = f"{look}; assert 'alembic' not in sys.modules"

    assert subprocess.run([sys.executable, "-c", code, url], check=False).returncode == 0
