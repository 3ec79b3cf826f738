"""The second wall: with the first one gone, PostgreSQL itself shows and takes only the organisation's own rows.

Every test connects as a login that is neither superuser nor BYPASSRLS.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Executable, Table, delete, event, func, insert, select, text, update
from sqlalchemy.engine import Engine

from heimdex.adapters import postgres_connection, postgres_jobs, scoping
from heimdex.adapters.orm import asset_table, event_table, job_table, refusal_table
from heimdex.adapters.postgres_claim import claim_statement
from heimdex.adapters.postgres_write import write_statement
from heimdex.adapters.scoping import carrying
from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import DatabaseError, RoleNotGranted, UnscopedStatement
from heimdex.domain.outcomes import Progress, Succeed
from heimdex.domain.results import Ending, Report
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import UnitOfWork, Views
from tests.contract.steps import (
    LEASE,
    NOBODY,
    OURS,
    SYSTEM,
    THEIRS,
    TYPE,
    WORKER,
    claim,
    counts,
    create,
    every_job,
    finish,
    history,
    hold_of,
    refusals,
    running,
)
from tests.contract.test_tenancy import (
    IN_UNIT_OF_WORK,
    IN_VIEWS,
    Foreign,
    answer,
    everything,
    populate,
    refusal_of,
)
from tests.sql_stores import PostgresHarness, SqlHarness
from tests.stores import StoreHarness
from tests.walled_stores import WalledHarness, asked

THING = NewAsset.of("file:///a", media_type="text/plain", size=1, sha256="0" * 64)


@pytest.fixture(autouse=True)
def _the_logins_are_held_by_policies(api_url: str, worker_url: str, both_url: str) -> None:
    for url in (api_url, worker_url, both_url):
        assert asked(url, "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = session_user") is False


@pytest.fixture
def first_wall_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the organisation out of every statement, and the guard that would notice."""
    for module in [module for name, module in sys.modules.items() if name.startswith("heimdex.adapters.")]:
        if hasattr(module, "scoped"):
            monkeypatch.setattr(module, "scoped", lambda statement, scope, _table: carrying(statement, scope))
    monkeypatch.setattr(
        postgres_jobs, "claim_statement", lambda of_tenant, **others: claim_statement(of_tenant=False, **others)
    )
    monkeypatch.setattr(postgres_jobs, "write_statement", lambda of_tenant: write_statement(of_tenant=False))
    monkeypatch.setattr(scoping, "_may_run", lambda _: True)


def transaction(uow: UnitOfWork) -> Any:  # noqa: ANN401 - past the port
    return uow.open_transaction()  # type: ignore[attr-defined]  # past the port


def run(uow: UnitOfWork, statement: Executable, scope: Scope = OURS) -> Any:  # noqa: ANN401 - as SQLAlchemy
    return transaction(uow).connection().execute(carrying(statement, scope))


# What works under the roles


def test_a_job_lives_its_whole_life_under_the_roles(walled_store: WalledHarness) -> None:
    job = create(walled_store, payload={"a": 1}, idempotency_key="k")
    [held] = claim(walled_store)
    with walled_store.unit_of_work(SYSTEM) as uow:
        uow.workers.seen(WORKER, name="w", types=[TYPE], queues=["default"])
        uow.jobs.report([Report(hold_of(held), Progress("half", 50))])
        assert uow.jobs.renew([hold_of(held)], lease=LEASE) == {hold_of(held)}
        uow.assets.add(held, THING)
    assert not finish(walled_store, held, Succeed()).refusals
    assert finish(walled_store, held, Succeed()).refusals

    with walled_store.views(OURS) as views:
        assert views.statistics().by_status[Status.SUCCEEDED] == 1
        assert [event.trigger for event in views.history(job.id)] == ["create", "claim", "progress", "succeed"]
        assert len(views.assets([job.id])[job.id]) == views.refusals(job.id) == 1
    with walled_store.unit_of_work(OURS) as uow:
        assert uow.jobs.create(TYPE, {"a": 1}, idempotency_key="k").replayed


def test_a_run_that_was_lost_expires_under_the_roles(walled_store: WalledHarness) -> None:
    running(walled_store)
    walled_store.advance(LEASE)
    with walled_store.unit_of_work(SYSTEM) as uow:
        assert len(uow.jobs.expire(limit=9)) == 1
    assert counts(walled_store) == {Status.QUEUED: 1}


def test_the_system_sees_every_organisation_and_each_sees_its_own(walled_store: WalledHarness) -> None:
    ours, theirs = create(walled_store), create(walled_store, scope=THEIRS)

    assert [job.id for job in every_job(walled_store)] == [ours.id, theirs.id]
    for scope, job in ((OURS, ours), (THEIRS, theirs)):
        with walled_store.unit_of_work(scope) as uow:
            assert [found.id for found in uow.jobs.queued()] == [job.id]


def test_one_write_is_behind_the_wall_and_leaves_nothing_of_it(walled_store: WalledHarness) -> None:
    with walled_store.unit_of_one_write(OURS) as uow:
        created = uow.jobs.create(TYPE, idempotency_key="k")
    with walled_store.unit_of_one_write(OURS) as uow:
        assert uow.jobs.create(TYPE, idempotency_key="k").job.id == created.job.id
    connection = walled_store.store.database.connect_alone(OURS)
    who = "SELECT concat_ws(' ', current_user, current_setting('heimdex.org_id')) WHERE %s IS NOT NULL"
    told = [postgres_connection.ask(connection, who, OURS, OURS.org_id) for _ in range(2)]
    raw = postgres_connection.driver_connection(connection)
    raw.begin_as_ever()
    as_ever = raw.cursor()
    as_ever.execute("SELECT current_user = session_user, current_setting('heimdex.org_id', true)")
    left = as_ever.fetchone()
    connection.close()

    assert told == [f"heimdex_api {OURS.org_id.hex}"] * 2
    assert left in {(True, None), (True, "")}


# One wall at a time


@pytest.fixture(params=["both walls", "the second alone"])
def store(request: pytest.FixtureRequest) -> StoreHarness:
    """Return PostgreSQL with both walls, or with nothing but policies. With the first alone the contract suite runs."""
    if request.param == "the second alone":
        request.getfixturevalue("first_wall_gone")
    harness: StoreHarness = request.getfixturevalue("walled_store")
    return harness


def test_the_contract_suite_runs_behind_the_first_wall_alone(postgres_store: PostgresHarness) -> None:
    create(postgres_store)

    assert postgres_store.store.database.wall is None


@pytest.fixture
def foreign(store: StoreHarness) -> Foreign:
    there = populate(store)
    store.start_anew()
    return there


@pytest.mark.parametrize("method", IN_UNIT_OF_WORK)
def test_a_unit_of_work_answers_a_stranger_as_if_nothing_were_there(
    store: StoreHarness, foreign: Foreign, method: str
) -> None:
    def ask() -> object:
        with store.unit_of_work(OURS) as uow:
            return IN_UNIT_OF_WORK[method](uow, foreign)

    on_empty = answer(ask, refusal_of(method))
    store.start_anew()
    populate(store)
    before = everything(store)

    assert answer(ask, refusal_of(method)) == on_empty
    assert everything(store) == before


@pytest.mark.parametrize("method", IN_VIEWS)
def test_views_answer_a_stranger_as_if_nothing_were_there(store: StoreHarness, foreign: Foreign, method: str) -> None:
    def ask() -> object:
        with store.views(OURS) as views:
            return IN_VIEWS[method](views, foreign)

    on_empty = answer(ask)
    store.start_anew()
    populate(store)

    assert answer(ask) == on_empty


def test_the_first_wall_is_gone_in_these_tests(postgres_store: PostgresHarness, first_wall_gone: None) -> None:
    create(postgres_store, scope=THEIRS)
    with postgres_store.unit_of_work(OURS) as uow:
        assert len(uow.jobs.queued()) == 1


@pytest.mark.usefixtures("first_wall_gone")
def test_no_table_shows_a_row_of_another_organisation(walled_store: WalledHarness) -> None:
    populate(walled_store)
    for table in (job_table, event_table, refusal_table, asset_table):
        counting = select(func.count()).select_from(table)
        with walled_store.unit_of_work(OURS) as uow:
            assert run(uow, counting).scalar() == 0
        with walled_store.unit_of_work(THEIRS) as uow:
            assert run(uow, counting, THEIRS).scalar() > 0


@pytest.mark.usefixtures("first_wall_gone")
def test_a_row_of_another_organisation_cannot_be_changed_or_put_in(walled_store: WalledHarness) -> None:
    their = populate(walled_store)
    with walled_store.unit_of_work(THEIRS) as uow:
        copies = {
            table.name: dict(run(uow, select(table).limit(1), THEIRS).one()._mapping)
            for table in (job_table, event_table, refusal_table, asset_table)
        }
    with walled_store.unit_of_work(OURS) as uow:
        assert run(uow, update(job_table).values(priority=9)).rowcount == 0
    for table in (job_table, event_table, refusal_table, asset_table):
        row = {column.key: copies[table.name][column.name] for column in table.c}
        with pytest.raises(DatabaseError, match="row-level security"), walled_store.unit_of_work(OURS) as uow:
            run(uow, insert(table).values(row))
    create(walled_store)
    with pytest.raises(DatabaseError, match="row-level security"), walled_store.unit_of_work(OURS) as uow:
        run(uow, update(job_table).values(org_id=THEIRS.org_id))

    assert refusals(walled_store, their.ended) == 1


@pytest.mark.parametrize("scope", [OURS, SYSTEM], ids=["api", "worker"])
@pytest.mark.parametrize("table", [event_table, refusal_table], ids=["event", "refusal"])
@pytest.mark.usefixtures("first_wall_gone")
def test_what_is_append_only_is_closed_to_every_role(walled_store: WalledHarness, scope: Scope, table: Table) -> None:
    populate(walled_store)
    for change in (delete(table), update(table).values(actor="x"), text(f"TRUNCATE {table.name}")):
        with (
            pytest.raises(DatabaseError, match=f"permission denied for table {table.name}"),
            walled_store.unit_of_work(scope) as uow,
        ):
            run(uow, change, scope)


# Who may work in which scope


@pytest.fixture
def api_store(walled_store: WalledHarness, api_url: str) -> Iterator[SqlHarness]:
    store = SqlHarness(api_url)
    yield store
    store.close()


@pytest.fixture
def worker_store(walled_store: WalledHarness, worker_url: str) -> Iterator[SqlHarness]:
    store = SqlHarness(worker_url)
    yield store
    store.close()


def test_an_api_login_serves_organisations_and_not_the_system(api_store: SqlHarness) -> None:
    job = create(api_store)
    with api_store.views(OURS) as views:
        assert views.find(job.id) is not None
    refused = r"no member of heimdex_worker.*--as worker"
    with pytest.raises(RoleNotGranted, match=refused), api_store.unit_of_work(SYSTEM):
        pass
    with api_store.views(SYSTEM) as views, pytest.raises(RoleNotGranted, match=refused):
        views.history_ids()

    create(api_store)


def test_a_worker_login_serves_the_system_and_not_an_organisation(
    worker_store: SqlHarness, walled_store: WalledHarness
) -> None:
    create(walled_store)
    [held] = claim(worker_store)
    assert not finish(worker_store, held, Succeed()).refusals
    with pytest.raises(RoleNotGranted, match=r"no member of heimdex_api.*--as api"), worker_store.unit_of_work(OURS):
        pass


def test_an_api_login_that_forgets_its_organisation_sees_nothing(api_store: SqlHarness, api_url: str) -> None:
    create(api_store)

    assert asked(api_url, "SELECT count(*) FROM job") == 0
    assert asked(api_url, "SELECT count(*) FROM job_event") == 0


def test_a_reader_sees_the_organisation_that_it_names_and_writes_nothing(
    walled_store: WalledHarness, walled_url: str
) -> None:
    create(walled_store)
    create(walled_store, scope=THEIRS)
    names = f"SET ROLE heimdex_read_only; SET heimdex.org_id = '{OURS.org_id}'; "

    assert asked(walled_url, f"{names} SELECT count(*) FROM job") == 1  # noqa: S608 - put together from constants
    with pytest.raises(Exception, match="permission denied"):
        asked(walled_url, f"{names} DELETE FROM job RETURNING 1")  # noqa: S608 - put together from constants


# Nothing stays on a connection, and nothing costs a round trip


WHO = "SELECT current_user || ' ' || coalesce(current_setting('heimdex.org_id', true), '')"


def fail(uow: UnitOfWork) -> None:
    uow.jobs.create(TYPE)
    raise KeyError


def fail_in_the_database(uow: UnitOfWork) -> None:
    run(uow, text("SELECT 1 / 0 FROM job WHERE org_id = :org_id").bindparams(org_id=OURS.org_id.hex))
    run(uow, text("SELECT 1 / (SELECT count(*) FROM job WHERE org_id = :org_id)").bindparams(org_id=NOBODY.hex))


def fail_before_the_database(uow: UnitOfWork) -> None:
    run(uow, select(job_table.c.id).where(job_table.c.org_id == OURS.org_id, job_table.c.priority == object()))


ENDS: dict[str, Callable[[UnitOfWork], object]] = {
    "committed": lambda uow: uow.jobs.create(TYPE),
    "rolled back": lambda uow: uow.rollback(),
    "failed": fail,
    "failed in the database": fail_in_the_database,
    "failed in the driver": fail_before_the_database,
    "not used": lambda _: None,
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("reading", [False, True], ids=["unit of work", "views"])
def test_a_connection_keeps_neither_role_nor_organisation(
    walled_store: WalledHarness, end: str, *, reading: bool
) -> None:
    engine = walled_store.store.database.engine
    walled_store.store.database.close()
    try:
        if reading:
            with walled_store.views(OURS) as views:
                ask(views, end)
        else:
            with walled_store.unit_of_work(OURS) as uow:
                ENDS[end](uow)
    except (KeyError, DatabaseError):
        pass

    raw = engine.raw_connection()
    cursor = raw.cursor()
    cursor.execute(WHO)
    assert cursor.fetchone() == (f"{engine.url.username} ",)
    raw.close()


def ask(views: Views, end: str) -> None:
    views.statistics()
    if end.startswith("failed"):
        raise KeyError


def who(uow: UnitOfWork, scope: Scope = OURS) -> str:
    where = text(f"{WHO} WHERE :org_id IS NOT NULL").bindparams(org_id=OURS.org_id.hex)
    return str(run(uow, where, scope).scalar_one())


def test_each_transaction_of_a_unit_of_work_says_who_it_is(walled_store: WalledHarness) -> None:
    ours = f"heimdex_api {OURS.org_id.hex}"
    with walled_store.unit_of_work(OURS) as uow:
        assert who(uow) == ours
        uow.rollback()
        assert who(uow) == ours
        with pytest.raises(DatabaseError):
            fail_before_the_database(uow)
        assert who(uow) == ours
        uow.rollback()
        with pytest.raises(DatabaseError):
            fail_before_the_database(uow)
        assert who(uow) == ours
    with walled_store.unit_of_work(SYSTEM) as uow:
        assert who(uow, SYSTEM) == "heimdex_worker "


def test_a_savepoint_that_is_undone_does_not_undo_who_it_is(walled_store: WalledHarness) -> None:
    with walled_store.unit_of_work(OURS) as uow:
        savepoint = transaction(uow).connection().begin_nested()
        assert who(uow) == f"heimdex_api {OURS.org_id.hex}"
        savepoint.rollback()
        assert who(uow) == f"heimdex_api {OURS.org_id.hex}"


def test_our_engine_runs_nothing_that_says_for_nobody(walled_store: WalledHarness) -> None:
    create(walled_store)
    with pytest.raises(UnscopedStatement), walled_store.store.database.engine.connect() as connection:
        connection.execute(carrying(select(job_table.c.id), SYSTEM))


def test_the_wall_costs_no_round_trip(walled_store: WalledHarness, postgres_store: PostgresHarness) -> None:
    numbers = [round_trips(store) for store in (walled_store, postgres_store)]

    assert numbers[0] == numbers[1] > 0


def round_trips(store: SqlHarness) -> int:
    """Return how many statements reach the server in one life of a job, with transactions and all."""
    sent: list[str] = []
    create(store)  # the schema has been looked at
    engine: Engine = store.store.database.engine
    listeners: dict[str, Callable[..., None]] = {
        "before_cursor_execute": lambda *context: sent.append(str(context[2])),
        "begin": lambda _: sent.append("BEGIN"),
        "commit": lambda _: sent.append("COMMIT"),
        "rollback": lambda _: sent.append("ROLLBACK"),
    }
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        [held] = claim(store)
        with store.unit_of_work(OURS) as uow:
            uow.jobs.create(TYPE)
            uow.jobs.queued()
        with store.unit_of_work(SYSTEM) as uow:
            uow.jobs.finish([Ending(held, Succeed())])
        history(store, held)
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)
    return len(sent)
