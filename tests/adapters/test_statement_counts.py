"""How many statements a method takes: one for each question, and a bounded number for a batch of any size."""

from collections.abc import Callable
from datetime import timedelta
from inspect import getmembers, isfunction
from uuid import UUID

import pytest

from heimdex.adapters import job_repository
from heimdex.adapters.statement_log import logged_statements
from heimdex.domain.asset import NewAsset
from heimdex.domain.job import Hold, Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Progress, Succeed
from heimdex.domain.results import Ending, Note, Report
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import AssetRepository, JobRepository, UnitOfWork, Views
from tests.sql_stores import PostgresHarness, SqlHarness, SqliteHarness

OURS = Tenant(UUID(int=1), actor="a")
WORKER = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=30)
FIVE = [UUID(int=n) for n in range(5)]


@pytest.fixture(params=["sqlite_store", "postgres_store"])
def store(request: pytest.FixtureRequest) -> SqlHarness:
    harness: SqlHarness = request.getfixturevalue(request.param)
    return harness


def create(store: SqlHarness, number: int) -> list[Job]:
    with store.unit_of_work(OURS) as uow:
        return [created.job for created in uow.jobs.create_many([NewJob("t")] * number)]


def claim(store: SqlHarness, number: int) -> list[Job]:
    create(store, number)
    with store.unit_of_work(WORKER) as uow:
        return uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=number)


READING: dict[str, tuple[int, Callable[[UnitOfWork, UUID], object]]] = {
    "JobRepository.find": (1, lambda uow, job_id: uow.jobs.find(job_id)),
    "JobRepository.get": (1, lambda uow, job_id: uow.jobs.get(job_id)),
    "JobRepository.find_many": (1, lambda uow, _: uow.jobs.find_many(FIVE)),
    "JobRepository.made_by": (1, lambda uow, job_id: uow.jobs.made_by([NewJob("t", id=job_id)])),
    "JobRepository.settled_event": (2, lambda uow, job_id: uow.jobs.settled_event(job_id, 1)),
    "JobRepository.exists": (1, lambda uow, job_id: uow.jobs.exists(job_id)),
    "JobRepository.with_events": (1, lambda uow, job_id: uow.jobs.with_events(job_id)),
    "JobRepository.list_with_events": (2, lambda uow, _: uow.jobs.list_with_events()),
    "JobRepository.latest_event": (1, lambda uow, job_id: uow.jobs.latest_event(job_id)),
    "JobRepository.queued": (1, lambda uow, _: uow.jobs.queued()),
    "JobRepository.by_type_and_status": (1, lambda uow, _: uow.jobs.by_type_and_status("t", Status.QUEUED)),
    "JobRepository.cancel_requested": (
        1,
        lambda uow, job_id: uow.jobs.cancel_requested([Hold(job_id, seq) for seq in range(5)]),
    ),
    "JobRepository.ids": (1, lambda uow, _: uow.jobs.ids(Status.QUEUED)),
    "AssetRepository.find": (1, lambda uow, job_id: uow.assets.find(job_id)),
    "AssetRepository.of_job": (1, lambda uow, job_id: uow.assets.of_job(job_id)),
}
VIEWING: dict[str, tuple[int, Callable[[Views, UUID], object]]] = {
    # The types that wait, and those that have a worker.
    "Views.statistics": (2, lambda views, _: views.statistics()),
    "Views.page": (1, lambda views, _: views.page(JobFilter(type="t"), limit=2)),
    "Views.count": (1, lambda views, _: views.count(JobFilter(type="t"))),
    # The jobs, and the pauses.
    "Views.queues": (2, lambda views, _: views.queues()),
    # The job, the time, its history, the pauses, the workers, the jobs before it; SQLite's time is the process's.
    "Views.explain_waiting": (6, lambda views, job_id: views.explain_waiting(job_id)),
    "Views.erasures": (1, lambda views, _: views.erasures()),
    "Views.find": (1, lambda views, job_id: views.find(job_id)),
    "Views.history": (1, lambda views, job_id: views.history(job_id)),
    "Views.histories": (1, lambda views, _: views.histories(FIVE)),
    "Views.events_after": (1, lambda views, _: views.events_after(dict.fromkeys(FIVE, 0))),
    "Views.history_ids": (1, lambda views, _: views.history_ids()),
    # The rows, and the histories.
    "Views.ledger": (2, lambda views, _: [*views.ledger()]),
    "Views.assets": (1, lambda views, _: views.assets(FIVE)),
    "Views.refusals": (1, lambda views, job_id: views.refusals(job_id)),
    "Views.workers": (1, lambda views, _: views.workers()),
}
WRITING = {
    *["create", "create_many", "claim", "claim_due", "finish", "report", "log", "renew", "expire", "add", "add_many"],
    *["cancel", "retry_by_hand", "cancel_matching", "retry_matching", "claim_one_by_one", "expire_one_by_one"],
}


@pytest.mark.parametrize("method", READING)
def test_a_question_takes_one_statement_however_many_rows_there_are(store: SqlHarness, method: str) -> None:
    number, ask = READING[method]
    job_id = create(store, 5)[0].id
    with store.unit_of_work(OURS) as uow, logged_statements(store.store) as statements:
        assert ask(uow, job_id) is not None or method == "AssetRepository.find"

    assert len(statements) == number


@pytest.mark.parametrize("method", VIEWING)
def test_a_view_takes_one_statement_however_many_rows_there_are(store: SqlHarness, method: str) -> None:
    number, ask = VIEWING[method]
    job_id = create(store, 5)[0].id
    with store.views(WORKER) as views, logged_statements(store.store) as statements:
        ask(views, job_id)

    on_sqlite = method == "Views.explain_waiting" and isinstance(store, SqliteHarness)
    assert len(statements) == number - on_sqlite


def test_every_reading_method_is_counted() -> None:
    def methods(port: type) -> set[str]:
        names = {name for name, _ in getmembers(port, isfunction) if not name.startswith("_")}
        return {f"{port.__name__}.{name}" for name in names - WRITING}

    assert set(READING) == methods(JobRepository) | methods(AssetRepository)
    assert set(VIEWING) == methods(Views)


@pytest.mark.parametrize("limit", [1, 100])
def test_jobs_with_their_histories_take_two_statements_whatever_the_limit(store: SqlHarness, limit: int) -> None:
    claim(store, 20)
    with store.unit_of_work(OURS) as uow, logged_statements(store.store) as statements:
        assert len(uow.jobs.list_with_events(limit=limit)) == min(limit, 20)

    assert len(statements) == 2


def test_only_the_id_is_read_where_only_ids_are_asked_for(store: SqlHarness) -> None:
    with store.unit_of_work(OURS) as uow, logged_statements(store.store) as statements:
        uow.jobs.ids(Status.QUEUED)
        uow.jobs.exists(FIVE[0])

    assert statements[0].startswith("SELECT job.id \nFROM job")
    assert statements[1].startswith("SELECT EXISTS (SELECT job.id \nFROM job")


def holds(jobs: list[Job]) -> list[Hold]:
    return [job.hold for job in jobs if job.hold is not None]


BATCHES: dict[str, Callable[[UnitOfWork, list[Job]], object]] = {
    "succeed": lambda uow, held: uow.jobs.finish([Ending(job, Succeed("1")) for job in held]),
    "fail and retry": lambda uow, held: uow.jobs.finish([Ending(job, Fail("boom", "no")) for job in held]),
    "refused": lambda uow, held: uow.jobs.finish([Ending(job, Succeed()) for job in held for _ in range(2)]),
    "report": lambda uow, held: uow.jobs.report([Report(hold, Progress("s", 1)) for hold in holds(held)]),
    "renew": lambda uow, held: uow.jobs.renew(holds(held), lease=LEASE),
    "renew what was lost": lambda uow, held: uow.jobs.renew([Hold(job.id, 99) for job in held], lease=LEASE),
    "add assets": lambda uow, held: uow.assets.add_many(
        [(job, NewAsset.of("u", media_type="m", size=1, sha256="0" * 64)) for job in held]
    ),
}


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_takes_as_many_statements_as_a_single_job(store: SqlHarness, batch: str) -> None:
    numbers = []
    for size in (1, 100):
        held = claim(store, size)
        with store.unit_of_work(WORKER) as uow, logged_statements(store.store) as statements:
            BATCHES[batch](uow, held)
        numbers.append(len(statements))

    assert numbers[0] == numbers[1] <= 5


def test_a_step_of_a_bulk_takes_as_many_statements_for_many_jobs_as_for_one(store: SqlHarness) -> None:
    numbers = []
    for size in (1, 100):
        create(store, size)
        with store.unit_of_work(OURS) as uow, logged_statements(store.store) as statements:
            assert len(uow.jobs.cancel_matching(JobFilter(type="t"), reason="r")) == size
            assert len(uow.jobs.retry_matching(JobFilter(type="t"), reason="r")) == size
        numbers.append(len(statements))
        store.start_anew()

    assert numbers[0] == numbers[1] <= 6


def test_an_expiry_of_many_takes_as_many_statements_as_of_one(store: SqlHarness) -> None:
    numbers = []
    for size in (1, 100):
        claim(store, size)
        store.advance(LEASE)
        with store.unit_of_work(WORKER) as uow, logged_statements(store.store) as statements:
            assert len(uow.jobs.expire(limit=100)) == size
        numbers.append(len(statements))
        store.start_anew()

    assert numbers[0] == numbers[1] <= 3


def test_a_claim_of_a_hundred_is_one_statement_on_postgres(postgres_store: PostgresHarness) -> None:
    create(postgres_store, 100)
    with postgres_store.unit_of_work(WORKER) as uow, logged_statements(postgres_store.store) as statements:
        claimed = uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=100)

    assert (len(claimed), len(statements)) == (100, 1)


def test_a_claim_of_a_hundred_takes_as_many_statements_as_of_one(store: SqlHarness) -> None:
    create(store, 101)
    numbers = []
    for size in (1, 100):
        with store.unit_of_work(WORKER) as uow, logged_statements(store.store) as statements:
            assert len(uow.jobs.claim_due(worker=UUID(int=9), types={"t"}, lease=LEASE, limit=size)) == size
        numbers.append(len(statements))

    assert numbers[0] == numbers[1] <= 3


@pytest.mark.parametrize("keyed", ["keyed", "free"])
def test_creating_a_thousand_takes_a_handful_of_statements(store: SqlHarness, keyed: str) -> None:
    new = [NewJob("t", idempotency_key=f"k-{n}" if keyed == "keyed" else None) for n in range(1_000)]
    with store.unit_of_work(OURS) as uow, logged_statements(store.store) as statements:
        uow.jobs.create_many(new)
        if keyed == "keyed":
            uow.jobs.create_many(new)

    assert len(statements) <= 16


def test_creating_one_is_one_statement_on_postgres_and_two_on_sqlite(store: SqlHarness) -> None:
    with store.unit_of_work(OURS) as uow, logged_statements(store.store) as statements:
        uow.jobs.create("t", idempotency_key="k")

    assert len(statements) == (2 if isinstance(store, SqliteHarness) else 1)


def test_a_replay_is_one_question_more(postgres_store: PostgresHarness) -> None:
    for number in (1, 2):
        with postgres_store.unit_of_work(OURS) as uow, logged_statements(postgres_store.store) as statements:
            assert uow.jobs.create("t", idempotency_key="k").replayed == (number == 2)
        assert len(statements) == number


@pytest.mark.parametrize(("batch", "number"), [("succeed", 1), ("fail and retry", 2)])
def test_a_finish_of_a_hundred_writes_on_postgres_and_asks_the_time_where_that_decides(
    postgres_store: PostgresHarness, batch: str, number: int
) -> None:
    held = claim(postgres_store, 100)
    with postgres_store.unit_of_work(WORKER) as uow, logged_statements(postgres_store.store) as statements:
        BATCHES[batch](uow, held)

    assert len(statements) == number


def test_more_keys_than_a_statement_may_have_are_looked_up_in_parts(
    store: SqlHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_repository, "_KEYS_AT_ONCE", 2)
    new = [NewJob("t", idempotency_key=f"k-{n}") for n in range(5)]
    with store.unit_of_work(OURS) as uow:
        created = uow.jobs.create_many(new)
    with store.unit_of_work(OURS) as uow, logged_statements(store.store) as statements:
        replayed = uow.jobs.create_many(new)

    assert [one.job.id for one in replayed] == [one.job.id for one in created]
    assert sum("idempotency_key IN" in statement for statement in statements) == 3


def test_rows_are_locked_in_the_order_of_their_ids(postgres_store: PostgresHarness) -> None:
    held = claim(postgres_store, 3)
    postgres_store.advance(LEASE)
    with postgres_store.unit_of_work(WORKER) as uow, logged_statements(postgres_store.store) as statements:
        uow.jobs.renew(holds(held), lease=LEASE)
        uow.jobs.report([Report(hold, Note("{}")) for hold in holds(held)])
        uow.jobs.finish([Ending(job, Succeed()) for job in held])
        uow.jobs.expire(limit=9)

    locking = [statement for statement in statements if "FOR UPDATE" in statement]
    in_order = ["ORDER BY job.id" in statement for statement in locking]
    # A write locks rows in the order of the ids that it is sent.
    sent_in_order = ["ORDER BY job_id) AS new" in statement for statement in locking]
    assert [one or other for one, other in zip(in_order, sent_in_order, strict=True)] == [True] * len(locking)
    assert (in_order.count(True), sent_in_order.count(True)) == (4, 2)
    # It locks what it writes, row by row. The notes have moved the rows, so that they are locked and written again.
    [successes] = [statement for statement in statements if "WITH succeeded" in statement]
    assert "ORDER BY id\n        ) AS new,\n        LATERAL (" in successes
