"""Every statement that a Tenant's unit of work or views run: each table in it is held to the organisation."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Delete, Insert, Join, Select, Table, TextClause, Update, event, or_, select, text, update
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList, ClauseElement, ColumnElement
from sqlalchemy.sql.expression import FromClause

from heimdex.adapters.orm import event_table, job_table, worker_table
from heimdex.domain.asset import NewAsset
from heimdex.domain.job_filter import JobFilter, PayloadMatch
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Progress, Snooze
from heimdex.domain.results import Ending, Report
from heimdex.domain.scope import Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import UnitOfWork, Views
from tests.sql_stores import SqlHarness
from tests.stores import START

OURS = Tenant(UUID(int=1), actor="a")
LEASE = timedelta(seconds=30)
# A condition, a column that is inserted, or the function that inserts, whose first parameter is the organisation: what
# its values are the guard sees to, and `ask` for the function.
_HELD_TEXT = re.compile(
    r"\borg_id = (CAST\(:org_id|\?)|^INSERT INTO \w+ \([^)]*\borg_id\b[^)]*\) VALUES \(|^SELECT heimdex_create_job_v1\("
)
# Workers belong to no organisation.
OF_NOBODY = {worker_table}


def unheld(statement: ClauseElement) -> list[str]:
    """Return the tables, wherever they stand in a statement, whose rows are not held to one organisation."""
    found: list[str] = []
    for part in visitors.iterate(statement):
        match part:
            case Select():
                tables, conditions = _sources(part.get_final_froms())
                found += _not_held(tables, [*conditions, *_conjuncts(part.whereclause)])
            case Update() | Delete():
                tables, _ = _sources([part.table])
                found += _not_held(tables, _conjuncts(part.whereclause))
            case TextClause():
                found += [] if _HELD_TEXT.search(part.text) else [part.text]
            case _:
                pass
    return found


def _sources(froms: Sequence[FromClause]) -> tuple[list[Table], list[ColumnElement[bool]]]:
    """Return the tables of a FROM clause and the conditions of its joins."""
    tables: list[Table] = []
    conditions: list[ColumnElement[bool]] = []
    for source in froms:
        if isinstance(source, Join):
            inner, further = _sources([source.left, source.right])
            tables += inner
            conditions += further + ([] if source.onclause is None else _conjuncts(source.onclause))
        elif isinstance(source, Table):
            tables.append(source)
    return tables, conditions


def _conjuncts(clause: ColumnElement[bool] | None) -> list[ColumnElement[bool]]:
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        return [part for inner in clause.clauses for part in _conjuncts(inner)]
    return [] if clause is None else [clause]


def _not_held(tables: list[Table], conditions: list[ColumnElement[bool]]) -> list[str]:
    held = {
        side.table
        for condition in conditions
        if isinstance(condition, BinaryExpression) and condition.operator is operators.eq
        for side in (condition.left, condition.right)
        if getattr(side, "name", None) == "org_id"
    }
    return [table.name for table in tables if table not in held | OF_NOBODY]


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> SqlHarness:
    harness: SqlHarness = request.getfixturevalue(request.param)
    return harness


@contextmanager
def watched(store: SqlHarness) -> Iterator[list[ClauseElement]]:
    statements: list[ClauseElement] = []

    def keep(*context: object) -> None:
        statement = context[1]
        assert isinstance(statement, ClauseElement)
        statements.append(statement)

    def keep_of_driver(*context: object) -> None:
        sql, of_sqlalchemy = context[2], getattr(context[4], "compiled", None)
        if of_sqlalchemy is None:
            statements.append(text(str(sql)))

    engine = store.store.database.engine
    with ExitStack() as listening:
        for name, listener in {"before_execute": keep, "before_cursor_execute": keep_of_driver}.items():
            event.listen(engine, name, listener)
            listening.callback(event.remove, engine, name, listener)
        yield statements


def use_everything(uow: UnitOfWork) -> None:
    jobs, worker = uow.jobs, UUID(int=9)
    parent = jobs.create("t", idempotency_key="k").job
    jobs.create("t", idempotency_key="k")
    jobs.create_many([NewJob("t"), NewJob("t", idempotency_key="k")], parent_id=parent.id)
    jobs.claim(parent.id, worker=worker, lease=LEASE)
    [held] = jobs.claim_due(worker=worker, types={"t"}, lease=LEASE, limit=9, queues=["default"])
    hold = held.hold
    assert hold is not None
    jobs.report([Report(hold, Progress("s", 1))])
    jobs.log(held.id, {})
    jobs.renew([hold], lease=LEASE)
    jobs.finish([Ending(held, Fail("boom", "no"))])
    jobs.finish([Ending(held, Snooze(LEASE))])
    jobs.renew([hold], lease=LEASE)
    jobs.expire(limit=9)
    for found in (jobs.find(held.id), jobs.with_events(held.id), jobs.latest_event(held.id)):
        assert found is not None
    jobs.exists(held.id)
    jobs.list_with_events(status=Status.QUEUED, type="t")
    jobs.queued(type="t")
    jobs.by_type_and_status("t", Status.QUEUED)
    jobs.ids(Status.QUEUED)
    asset = uow.assets.add(held, NewAsset.of("u", media_type="m", size=1, sha256="0" * 64))
    uow.assets.find(asset.id)
    uow.assets.of_job(held.id)


SEARCH = JobFilter(type="t", created_from=START, created_before=START + LEASE, payload=PayloadMatch(("at",), "x"))


def ask_everything(views: Views) -> None:
    views.statistics()
    views.page(JobFilter(type="t"), after=UUID(int=2**127))
    views.page(SEARCH)
    views.count(SEARCH)
    [job_id, *_] = views.history_ids(after=UUID(int=1))
    views.find(job_id)
    views.history(job_id)
    views.events_after({job_id: 0})
    views.assets([job_id])
    views.refusals(job_id)


def test_every_table_of_every_statement_is_held_to_the_organisation(store: SqlHarness) -> None:
    with store.unit_of_work(OURS) as uow, watched(store) as written:
        use_everything(uow)
    with store.views(OURS) as views, watched(store) as read:
        ask_everything(views)

    statements = written + read
    assert len(statements) > 30
    assert [(unheld(statement), str(statement)) for statement in statements if unheld(statement)] == []
    assert {type(statement) for statement in statements} >= {Select, Update, Insert, TextClause}


OURS_ONLY = job_table.c.org_id == UUID(int=1)


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        (select(job_table), ["job"]),
        (select(job_table).where(job_table.c.id == UUID(int=1)), ["job"]),
        (select(job_table).where(OURS_ONLY), []),
        (select(job_table).where(or_(OURS_ONLY, job_table.c.priority == 1)), ["job"]),
        (select(job_table).where(OURS_ONLY, job_table.c.id.in_(select(event_table.c.job_id))), ["job_event"]),
        (select(job_table, event_table).where(OURS_ONLY), ["job_event"]),
        (select(job_table).join(event_table, event_table.c.job_id == job_table.c.id).where(OURS_ONLY), ["job_event"]),
        (select(job_table).join(event_table, event_table.c.org_id == job_table.c.org_id).where(OURS_ONLY), []),
        (update(job_table).values(priority=1), ["job"]),
        (update(job_table).where(OURS_ONLY).values(priority=1), []),
        (text("SELECT 1 FROM job"), ["SELECT 1 FROM job"]),
        (text("UPDATE job SET priority = 1 WHERE id = ?"), ["UPDATE job SET priority = 1 WHERE id = ?"]),
        (text("UPDATE job SET priority = 1 WHERE org_id = ?"), []),
        (text("INSERT INTO job (id) VALUES (?)"), ["INSERT INTO job (id) VALUES (?)"]),
        (text("INSERT INTO job (id, org_id) VALUES (?, ?)"), []),
    ],
    ids=str,
)
def test_a_table_that_is_not_held_is_found(statement: ClauseElement, names: list[str]) -> None:
    assert unheld(statement) == names
