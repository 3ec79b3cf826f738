"""`db roles`: what it makes, again and by several at a time, who it lets in, and where a store refuses to work."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg2 import sql
from sqlalchemy.engine import make_url

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.roles import ROLES
from heimdex.adapters.schema import Schema
from heimdex.bootstrap import bootstrap
from heimdex.config import Settings
from heimdex.domain.errors import CapabilityMissing, DatabaseUnavailable, InvalidInput, SchemaMissing, WallMissing
from heimdex.service_layer.ports import Duty
from tests.contract.steps import OURS, SYSTEM, TYPE
from tests.postgres_server import PostgresServer
from tests.sql_stores import SqlHarness, SqliteHarness, admin_connection, migrated_postgres
from tests.walled_stores import asked, name_of, new_login

PRODUCTION = EngineSettings(wall_required=True)


@pytest.fixture
def fresh_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the superuser's URL of a migrated database of its own, in which nothing has been made."""
    url = migrated_postgres(postgres_server, test_clock=False)
    yield url
    postgres_server.drop_database(make_url(url).database or "")


def rows(url: str, question: str) -> list[tuple[Any, ...]]:
    admin = admin_connection(url)
    with admin.cursor() as cursor:
        cursor.execute(question)
        found = cursor.fetchall()
    admin.close()
    return found


def run(url: str, *statements: str) -> None:
    admin = admin_connection(url)
    with admin.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    admin.close()


# What is made


def test_every_table_of_organisations_is_forced_and_has_policies(walled_url: str) -> None:
    """A new table needs a row in GRANTS."""
    of_organisations = {
        name: (enabled, forced)
        for name, enabled, forced in rows(
            walled_url,
            "SELECT relname, relrowsecurity, relforcerowsecurity"
            " FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
            " WHERE relkind IN ('r', 'p') AND attname = 'org_id' AND relnamespace = 'public'::regnamespace",
        )
    }
    policies = rows(walled_url, "SELECT tablename, roles::text[] FROM pg_policies WHERE cmd = 'ALL'")

    assert {"job", "job_event", "job_refusal", "asset"} <= set(of_organisations)
    assert set(of_organisations.values()) == {(True, True)}
    for table in of_organisations:
        holders = sorted(role for name, roles in policies if name == table for role in roles)
        expected = {"heimdex_owner", "heimdex_worker"} if table == "org_erasure" else set(ROLES)
        assert holders == sorted(expected), table


def test_a_policy_of_one_organisation_reads_and_checks_the_same(walled_url: str) -> None:
    """Only a pause of every organisation is seen by each."""
    policies = rows(
        walled_url,
        "SELECT policyname, tablename, cmd, permissive, qual, with_check FROM pg_policies"
        " WHERE roles && ARRAY['heimdex_api', 'heimdex_read_only', 'public']::name[]",
    )
    alike = {(qual, check) for _, _, cmd, _, qual, check in policies if cmd == "ALL"}
    others = [(name, table, cmd) for name, table, cmd, _, _, _ in policies if cmd != "ALL"]

    [(qual, check)] = alike
    assert qual == check
    assert "NULLIF(current_setting('heimdex.org_id'" in str(qual)
    assert others == [("every_organisation", "paused_queue", "SELECT")]


def test_what_is_append_only_can_be_added_to_and_no_more(walled_url: str) -> None:
    granted = rows(
        walled_url,
        "SELECT table_name, grantee, privilege_type FROM information_schema.role_table_grants"
        " WHERE table_name IN ('job_event', 'job_refusal') AND (grantee LIKE 'heimdex%' OR grantee = 'PUBLIC')",
    )
    roles = ("heimdex_api", "heimdex_worker")

    assert {(who, what) for _, who, what in granted} == {
        *[(role, right) for role in roles for right in ("SELECT", "INSERT")],
        ("heimdex_read_only", "SELECT"),
    }


def test_nobody_can_log_in_as_a_role(walled_url: str) -> None:
    found = rows(
        walled_url,
        "SELECT rolname, rolcanlogin, rolsuper, rolbypassrls FROM pg_roles WHERE rolname LIKE 'heimdex\\_%'"
        " AND NOT rolcanlogin ORDER BY 1",
    )

    assert [name for name, *_ in found] == sorted(ROLES)
    assert {tuple(rest) for _, *rest in found} == {(False, False, False)}


def test_jobs_are_created_by_who_may_write(walled_url: str) -> None:
    for role, may in (("heimdex_api", True), ("heimdex_read_only", False), ("heimdex_worker", True)):
        function = "'heimdex_create_job_v1'::regproc::oid"
        assert asked(walled_url, f"SELECT has_function_privilege('{role}', {function}, 'EXECUTE')") is may


def test_jobs_of_every_organisation_are_claimed_by_workers_alone(walled_url: str) -> None:
    for role, may in (("heimdex_api", False), ("heimdex_read_only", False), ("heimdex_worker", True)):
        function = "'heimdex_claim_due_v1'::regproc::oid"
        assert asked(walled_url, f"SELECT has_function_privilege('{role}', {function}, 'EXECUTE')") is may


def test_histories_are_removed_by_workers_alone(walled_url: str) -> None:
    for role, may in (("heimdex_api", False), ("heimdex_read_only", False), ("heimdex_worker", True)):
        question = f"SELECT has_function_privilege('{role}', 'heimdex_remove_histories(uuid[])', 'EXECUTE')"
        assert asked(walled_url, question) is may


def state(url: str) -> list[list[tuple[Any, ...]]]:
    return [
        rows(url, "SELECT * FROM pg_policies ORDER BY tablename, policyname"),
        rows(url, "SELECT relname, relacl::text, relforcerowsecurity FROM pg_class ORDER BY 1, 2"),
        rows(url, "SELECT roleid::regrole, member::regrole FROM pg_auth_members ORDER BY 1, 2"),
    ]


def test_it_can_be_run_again_and_changes_nothing(walled_url: str) -> None:
    with new_login(walled_url) as login:
        Schema(walled_url).make_roles(name_of(login), duty=Duty.API)
        before = state(walled_url)
        again = Schema(walled_url).make_roles(name_of(login), duty=Duty.API)
        assert state(walled_url) == before

    assert again.roles == ()
    assert again.login == name_of(login)
    assert {"job", "job_event", "job_refusal", "asset"} <= set(again.tables)


def test_it_mends_what_somebody_took_down_or_gave_away(fresh_url: str) -> None:
    Schema(fresh_url).make_roles()
    made = state(fresh_url)
    run(
        fresh_url,
        "ALTER TABLE job NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY heimdex_api ON job",
        "GRANT DELETE ON job_event TO heimdex_api",
        "GRANT SELECT ON job TO PUBLIC",
    )

    Schema(fresh_url).make_roles()

    assert [sorted(map(str, one)) for one in state(fresh_url)] == [sorted(map(str, one)) for one in made]


def test_several_may_run_at_once_in_one_database_and_in_two(postgres_server: PostgresServer, fresh_url: str) -> None:
    other = migrated_postgres(postgres_server, test_clock=False)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda url: Schema(url).make_roles(), [fresh_url, other] * 4))

    assert len({one.tables for one in made}) == 1


def test_a_table_that_a_later_revision_brings_is_passed_over_until_then(postgres_server: PostgresServer) -> None:
    name = postgres_server.fresh_name("early")
    postgres_server.create_database(name)
    schema = Schema(postgres_server.url(name))
    with pytest.raises(SchemaMissing, match="heimdex db upgrade"):
        schema.make_roles()
    schema.upgrade("0001")
    assert schema.make_roles().tables == ("asset", "job", "job_event", "job_refusal")
    schema.upgrade()

    harness = SqlHarness(postgres_server.url(name), PRODUCTION)
    assert {"paused_queue", "org_erasure"} <= set(schema.make_roles().tables)
    harness.close()


# Who is let in


@pytest.mark.parametrize(
    ("duty", "roles"),
    [
        (Duty.API, {"heimdex_api"}),
        (Duty.WORKER, {"heimdex_worker"}),
        (Duty.BOTH, {"heimdex_api", "heimdex_worker"}),
    ],
)
def test_a_login_gets_the_roles_of_its_duty(walled_url: str, duty: Duty, roles: set[str]) -> None:
    with new_login(walled_url) as login:
        Schema(walled_url).make_roles(name_of(login), duty=duty)
        held = asked(
            login,
            "SELECT array_agg(rolname::text) FROM pg_roles WHERE rolname LIKE 'heimdex\\_%'"
            " AND pg_has_role(session_user, oid, 'USAGE')",
        )

    assert set(held) == roles  # type: ignore[call-overload]  # an array comes as a list


@pytest.mark.parametrize("login", ["nobody_of_ours", "x; DROP TABLE job", '"'])
def test_a_login_that_is_not_there_is_refused(walled_url: str, login: str) -> None:
    with pytest.raises(InvalidInput, match="create it first"):
        Schema(walled_url).make_roles(login)


def test_who_may_not_make_roles_is_told_so(walled_url: str, api_url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"must be owner|permission denied"):
        Schema(api_url).make_roles()


def test_an_owner_that_is_no_superuser_makes_them_and_still_migrates_and_prunes(
    postgres_server: PostgresServer,
) -> None:
    name = postgres_server.fresh_name("owned")
    postgres_server.create_database(name)
    admin_url = postgres_server.url(name)
    Schema(migrated_postgres(postgres_server, test_clock=False)).make_roles()  # the roles exist on the server
    with new_login(admin_url) as login:
        admin = admin_connection(admin_url)
        with admin.cursor() as cursor:
            identifier = sql.Identifier(name_of(login))
            cursor.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(identifier))
            for role in ROLES:
                cursor.execute(sql.SQL("GRANT {} TO {} WITH ADMIN OPTION").format(sql.Identifier(role), identifier))
        admin.close()
        schema = Schema(login)
        schema.upgrade()
        schema.make_roles(name_of(login))
        store = SqlHarness(login, PRODUCTION)
        with store.unit_of_work(OURS) as uow:
            uow.jobs.create(TYPE)
            uow.jobs.create(TYPE, idempotency_key="k")
        with store.unit_of_work(SYSTEM) as uow:
            removed = uow.maintenance.erase(UUID(int=5), OURS.org_id, reason="a test", limit=1)
        store.close()

        assert (removed.jobs, removed.events) == (1, 1)
        assert asked(login, "SELECT count(*) FROM job") == 1
        assert asked(login, "SET ROLE heimdex_api; SELECT count(*) FROM job") == 0
    postgres_server.drop_database(name)


# Other stores


def test_stores_without_roles_say_so(sqlite_store: SqliteHarness) -> None:
    with pytest.raises(CapabilityMissing, match="only PostgreSQL has roles"):
        sqlite_store.store.schema.make_roles()
    with bootstrap(Settings(database_url="memory://")) as app, pytest.raises(CapabilityMissing, match="no roles"):
        app.schema.make_roles()


# Where a store refuses to work, or says what it lacks


def test_without_roles_a_store_works_and_says_once_that_one_wall_is_missing(
    fresh_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqlHarness(fresh_url)
    with caplog.at_level(logging.WARNING, "heimdex"):
        for _ in range(2):
            with store.unit_of_work(OURS) as uow:
                uow.jobs.create(TYPE)
            with store.views(SYSTEM):
                pass
    store.close()

    [record] = caplog.records
    assert record.message == (
        "organisations have one wall, not two: row-level security has not been made for every table;"
        " run `heimdex db roles`"
    )


def test_a_login_without_a_role_is_told_so(walled_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with new_login(walled_url) as login:
        run(walled_url, f"GRANT SELECT ON heimdex_version TO {quoted(login)}")
        store = SqlHarness(login)
        with pytest.raises(DatabaseUnavailable, match="permission denied"), store.unit_of_work(OURS) as uow:
            uow.jobs.queued()
        store.close()
        with pytest.raises(WallMissing, match="is a member of neither heimdex_api nor heimdex_worker"):
            SqlHarness(login, PRODUCTION).unit_of_work(OURS)

    assert "is a member of neither" in caplog.text


def quoted(login: str) -> str:
    return '"' + name_of(login).replace('"', '""') + '"'


def test_a_store_behind_both_walls_warns_of_nothing(both_url: str, caplog: pytest.LogCaptureFixture) -> None:
    store = SqlHarness(both_url, PRODUCTION)
    with store.views(OURS) as views:
        views.statistics()
    store.close()

    assert caplog.records == []


def test_production_refuses_to_start_without_roles(fresh_url: str) -> None:
    store = SqlHarness(fresh_url, PRODUCTION)
    run(fresh_url, "CREATE ROLE plain_login LOGIN", "GRANT SELECT ON heimdex_version TO plain_login")
    plain = make_url(fresh_url).set(username="plain_login").render_as_string(hide_password=False)
    try:
        with pytest.raises(WallMissing, match=r"production needs row-level security: .*heimdex db roles"):
            Schema(plain, wall_required=True).check()
        for start in (store.unit_of_work, store.views):
            with pytest.raises(WallMissing), start(OURS):
                pass
    finally:
        run(fresh_url, "DROP OWNED BY plain_login", "DROP ROLE plain_login")
    store.close()


@pytest.mark.parametrize("option", ["SUPERUSER", "BYPASSRLS"])
def test_production_refuses_a_login_that_policies_do_not_hold(walled_url: str, option: str) -> None:
    with new_login(walled_url, option) as login:
        Schema(walled_url).make_roles(name_of(login))
        store = SqlHarness(login, PRODUCTION)
        with pytest.raises(WallMissing, match="superuser or has BYPASSRLS"):
            store.unit_of_work(OURS)
        store.close()


def test_the_settings_say_what_production_is(fresh_url: str, tmp_path: Path) -> None:
    with bootstrap(Settings(database_url=fresh_url, env="production")) as app, pytest.raises(WallMissing):
        app.schema.check()
    with bootstrap(Settings(database_url=f"sqlite:///{tmp_path / 'a.db'}", env="production")) as app:
        app.schema.upgrade()
        with app.unit_of_work(OURS) as uow:
            uow.jobs.create(TYPE)
