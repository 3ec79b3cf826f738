"""The whole ledger as a verification reads it: every row beside its history, by id."""

from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.adapters import ledger_pages
from heimdex.domain.errors import UnitOfWorkNotOpen
from heimdex.domain.new_job import NewJob
from heimdex.domain.operations import Retention
from heimdex.domain.outcomes import Fail, Progress, Succeed
from heimdex.domain.results import Report
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import Recorded
from heimdex.service_layer.verifying import Verification, verify
from tests.contract.steps import (
    NOBODY,
    ORG,
    OTHER_ORG,
    OURS,
    SYSTEM,
    THEIRS,
    TYPE,
    claim_by_id,
    columns,
    create,
    finish,
    history,
    hold_of,
    running,
    stored,
)
from tests.stores import StoreHarness

NOW = Retention(jobs=timedelta(0), histories=timedelta(0))


def ledger(store: StoreHarness, scope: Scope = SYSTEM, after: UUID | None = None) -> list[Recorded]:
    with store.views(scope) as views:
        return list(views.ledger(after=after))


def verified(store: StoreHarness, scope: Scope = SYSTEM, *, limit: int = 9) -> Verification:
    with store.views(scope) as views:
        return verify(views, limit=limit)


def prune(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        uow.maintenance.prune_jobs(NOW, limit=100)


def report_often(store: StoreHarness, times: int) -> UUID:
    job = running(store)
    with store.unit_of_work(SYSTEM) as uow:
        uow.jobs.report([Report(hold_of(job), Progress("reading", at % 100)) for at in range(times)])
    return job.id


@pytest.fixture
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pages so small that a few jobs need several."""
    monkeypatch.setattr(ledger_pages, "_JOBS", 2)
    monkeypatch.setattr(ledger_pages, "_EVENTS", 4)


def test_an_empty_ledger_has_nothing(store: StoreHarness) -> None:
    assert ledger(store) == []
    assert verified(store) == Verification()


def test_each_job_comes_with_its_history_in_order(store: StoreHarness) -> None:
    job = running(store)
    finish(store, job, Succeed("[1]"))
    [recorded] = ledger(store)

    assert recorded.job is not None
    assert columns(recorded.job) == columns(stored(store, job))
    assert (recorded.job_id, recorded.unreadable) == (job.id, None)
    assert [line(event) for event in recorded.events] == [line(event) for event in history(store, job)]


def line(event: object) -> tuple[object, ...]:
    names = (
        "job_id",
        "seq",
        "org_id",
        "ts",
        "prev_status",
        "next_status",
        "trigger",
        "source",
        "reason",
        "detail_json",
    )
    return tuple(getattr(event, name) for name in names)


def test_a_history_without_a_row_is_among_them(store: StoreHarness) -> None:
    first, gone, last = create(store), running(store), create(store)
    finish(store, gone, Succeed())
    prune(store)

    found = ledger(store)

    assert [(one.job_id, one.job is None, len(one.events)) for one in found] == [
        (first.id, False, 1),
        (gone.id, True, 3),
        (last.id, False, 1),
    ]
    assert (verified(store).sound, verified(store).jobs, verified(store).pruned) == (True, 2, 1)


@pytest.mark.usefixtures("_small_pages")
def test_pages_end_anywhere_and_nothing_is_left_out_or_comes_twice(store: StoreHarness) -> None:
    expected: list[tuple[UUID, bool, int]] = []
    for number in (1, 3, 0, 9, 4, 2, 0, 0, 17, 1):
        job_id = report_often(store, number)
        expected.append((job_id, True, number + 2))
    for gone in (1, 4, 5, 9):
        job_id, _, events = expected[gone]
        with store.views(SYSTEM) as views:
            job = views.find(job_id)
        assert job is not None
        finish(store, job, Fail("boom", "it broke", permanent=True))
        expected[gone] = (job_id, False, events + 1)
    prune(store)

    found = [(one.job_id, one.job is not None, len(one.events)) for one in ledger(store)]

    assert found == expected
    assert ledger(store, after=expected[4][0])[0].job_id == expected[5][0]
    assert [one.job_id for one in ledger(store, after=expected[-1][0])] == []
    assert verified(store).sound


@pytest.mark.usefixtures("_small_pages")
def test_a_tenant_reads_its_own_ledger_only(store: StoreHarness) -> None:
    ours = [create(store).id for _ in range(3)]
    theirs = [create(store, scope=THEIRS).id for _ in range(5)]

    assert [one.job_id for one in ledger(store, OURS)] == ours
    assert [one.job_id for one in ledger(store, THEIRS)] == theirs
    assert verified(store, OURS).organisations == {ORG}
    assert verified(store).organisations == {ORG, OTHER_ORG}


@pytest.mark.usefixtures("_small_pages")
def test_a_ledger_that_grows_and_moves_meanwhile_is_sound(store: StoreHarness) -> None:
    jobs = [create(store) for _ in range(6)]
    seen = []
    with store.views(SYSTEM) as views:
        for number, recorded in enumerate(views.ledger()):
            seen.append(recorded)
            if number < 6:
                claim_by_id(store, jobs[-1 - number])
                create(store)

    assert len(seen) >= 6
    assert all(one.job is None or one.job.version == len(one.events) for one in seen)


def test_it_is_not_read_after_its_block(store: StoreHarness) -> None:
    create(store)
    with store.views(SYSTEM) as views:
        begun = views.ledger()
    with pytest.raises(UnitOfWorkNotOpen):
        next(begun)


def test_an_erased_organisation_is_sound(store: StoreHarness) -> None:
    running(store)
    create(store, scope=THEIRS)
    with store.unit_of_work(SYSTEM) as uow:
        uow.maintenance.erase(NOBODY, ORG, reason="contract ended", limit=100)

    report = verified(store)

    assert (report.sound, report.jobs, report.organisations) == (True, 1, {OTHER_ORG})


def test_many_jobs_are_counted_as_they_are_read(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create_many([NewJob(TYPE)] * 1_001)
    told: list[int] = []
    with store.views(SYSTEM) as views:
        report = verify(views, limit=0, tell=told.append)

    assert (report.jobs, report.events, sum(told)) == (1_001, 1_001, 1_001)
    assert len(told) == 3
