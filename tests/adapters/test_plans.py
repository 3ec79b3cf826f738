"""What the hot statements look at on PostgreSQL: their batch, however long the queue, whatever the statistics say."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import event, text

from heimdex.adapters.claim_bounds import ClaimBounds
from heimdex.adapters.scoping import carrying
from heimdex.adapters.unit_of_work import SqlAlchemyUnitOfWork
from heimdex.domain.job import Job
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Cancel, Fail, Outcome, Progress, Succeed
from heimdex.domain.results import Ending, Report
from heimdex.domain.scope import Scope, System, Tenant
from heimdex.service_layer.ports import UnitOfWork
from tests.sql_stores import PostgresHarness, admin_connection

TENANT = Tenant(UUID(int=1), actor="a")
WORKER = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=30)
WAITING, BATCH = 2_000, 100


def run(store: PostgresHarness, *statements: str) -> None:
    with closing(admin_connection(store.url)) as admin, admin.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def never_gathered(store: PostgresHarness) -> None:
    run(
        store,
        "DELETE FROM pg_statistic WHERE starelid = 'job'::regclass",
        "UPDATE pg_class SET reltuples = -1, relpages = 0 WHERE oid = 'job'::regclass",
    )


def of_an_empty_table(store: PostgresHarness) -> None:
    run(store, "VACUUM job", "ANALYZE job")


def of_ended_jobs(store: PostgresHarness) -> None:
    fill(store, 300)
    while held := claim(store):
        with store.unit_of_work(WORKER) as uow:
            uow.jobs.finish([Ending(job, Cancel("done")) for job in held])
    run(store, "ANALYZE job")


GATHERED: dict[str, Callable[[PostgresHarness], None]] = {
    "never gathered": never_gathered,
    "of an empty table": of_an_empty_table,
    "of ended jobs": of_ended_jobs,
}


@pytest.fixture(params=[*GATHERED, "of now"])
def store(postgres_store: PostgresHarness, request: pytest.FixtureRequest) -> Iterator[PostgresHarness]:
    run(postgres_store, "ALTER TABLE job SET (autovacuum_enabled = off)")
    if request.param in GATHERED:
        GATHERED[request.param](postgres_store)
        fill(postgres_store, WAITING)
    else:
        fill(postgres_store, WAITING)
        run(postgres_store, "ANALYZE job")
    yield postgres_store
    run(postgres_store, "ALTER TABLE job RESET (autovacuum_enabled)")


def fill(store: PostgresHarness, number: int) -> None:
    with store.unit_of_work(TENANT) as uow:
        uow.jobs.create_many([NewJob("t")] * number)


def claim(store: PostgresHarness) -> list[Job]:
    with store.unit_of_work(WORKER) as uow:
        return claim_batch(uow)


def claim_batch(uow: UnitOfWork) -> list[Job]:
    return uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=BATCH)


def most_looked_at(store: PostgresHarness, act: Callable[[UnitOfWork], object], scope: Scope = WORKER) -> int:
    """Return the most rows that one step of the last statement of an act looks at; what it did is taken back."""
    sent: list[tuple[str, Any]] = []

    def keep(*context: object) -> None:
        sent.append((str(context[2]), context[3]))

    with store.unit_of_work(scope) as uow:
        event.listen(store.store.database.engine, "before_cursor_execute", keep)
        act(uow)
        event.remove(store.store.database.engine, "before_cursor_execute", keep)
        uow.rollback()
    statement, parameters = sent[-1]
    with closing(admin_connection(store.url)) as admin, admin.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(statement.replace("\nWITH ", "\nEXPLAIN (ANALYZE, FORMAT JSON) WITH ", 1), parameters)
        [[[explained]]] = cursor.fetchall()
        cursor.execute("ROLLBACK")
    return max(looked_at(explained["Plan"]))


def looked_at(plan: Mapping[str, Any]) -> Iterator[int]:
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    yield (plan["Actual Rows"] + removed) * plan["Actual Loops"]
    for part in plan.get("Plans", []):
        yield from looked_at(cast("Mapping[str, Any]", part))


def most_looked_at_by_function(store: PostgresHarness, name: str, *arguments: object) -> int:
    """As `most_looked_at`, of the query that a function of the schema returns, with the function's settings."""
    with closing(admin_connection(store.url)) as admin, admin.cursor() as cursor:
        cursor.execute(
            "SELECT prosrc, proargnames, proconfig, oidvectortypes(proargtypes) FROM pg_proc WHERE proname = %s", [name]
        )
        [(source, names, settings, types)] = cursor.fetchall()
        query = source.partition("RETURN QUERY")[2].rpartition("END")[0]
        for place, parameter in enumerate(names[: len(arguments)], 1):
            query = re.sub(rf"\b{parameter}\b", f"${place}", query)
        cursor.execute("BEGIN")
        for setting in settings:
            cursor.execute(f"SET LOCAL {setting}")
        cursor.execute(f"PREPARE one ({types}) AS {query}")
        values = ", ".join(["%s"] * len(arguments))
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE one ({values})", arguments)
        [[[explained]]] = cursor.fetchall()
        cursor.execute("ROLLBACK; DEALLOCATE one")
    return max(looked_at(explained["Plan"]))


def test_a_claim_of_every_organisation_looks_at_the_jobs_that_it_takes(store: PostgresHarness) -> None:
    arguments = (["t"], None, BATCH, str(UUID(int=9)), LEASE, "worker", None)

    assert most_looked_at_by_function(store, "heimdex_claim_due_v1", *arguments) <= 2 * BATCH


def test_a_claim_of_one_organisation_looks_at_the_jobs_that_it_takes(store: PostgresHarness) -> None:
    assert most_looked_at(store, claim_batch, TENANT) <= 2 * BATCH


def test_a_claim_from_bounds_looks_at_the_jobs_that_it_takes(store: PostgresHarness) -> None:
    database = store.store.database
    usual, database.claim_bounds = (
        database.claim_bounds,
        ClaimBounds(tolerated=-1_000_000, lag=timedelta(0), monotonic=lambda: 0.0),
    )
    claim(store)
    number = most_looked_at(store, claim_batch)
    database.claim_bounds = usual

    assert number <= 2 * BATCH


OUTCOMES: dict[str, Outcome] = {"succeed": Succeed("1"), "fail and retry": Fail("boom", "no")}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_finish_looks_at_the_jobs_that_it_ends(store: PostgresHarness, outcome: str) -> None:
    held = claim(store)
    endings = [Ending(job, OUTCOMES[outcome]) for job in held]

    # Of a job that is tried again two events are written.
    assert most_looked_at(store, lambda uow: uow.jobs.finish(endings)) <= 2 * BATCH


def test_a_report_looks_at_the_jobs_that_it_is_about(store: PostgresHarness) -> None:
    reports = [Report(job.hold, Progress("s", 1)) for job in claim(store) if job.hold is not None]

    assert most_looked_at(store, lambda uow: uow.jobs.report(reports)) <= 2 * BATCH


def test_what_a_claim_asks_of_the_planner_ends_with_it(postgres_store: PostgresHarness) -> None:
    fill(postgres_store, 1)
    asked = text("SELECT current_setting('enable_sort'), current_setting('jit')")
    with postgres_store.unit_of_work(WORKER) as uow:
        assert isinstance(uow, SqlAlchemyUnitOfWork)
        connection = uow.open_transaction().connection()
        connection.execute(carrying(text("SET LOCAL jit = off"), WORKER))
        for found in (1, 0):
            assert len(claim_batch(uow)) == found
            assert tuple(connection.execute(carrying(asked, WORKER)).one()) == ("on", "off")
