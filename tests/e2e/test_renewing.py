"""Leases are renewed though a job function keeps the interpreter to itself for longer than a lease."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from heimdex import CreateJobs, NewJob, Status, Tenant, Trigger
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import load
from tests.e2e.conftest import ORG, Workers, wait_until

SCOPE = Tenant(ORG, actor="user@example.com")
SETTINGS = {"JOBS": "tests.e2e.tasks:jobs", "LEASE_SECONDS": "1", "RENEW_SECONDS": "0.3", "SWEEP_SECONDS": "0.2"}


@pytest.fixture(params=["url", "postgres_url"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Application]:
    with bootstrap(load({"HEIMDEX_DATABASE_URL": ledger_url})) as app:
        app.schema.upgrade()
        yield app


def _status(app: Application, job_id: UUID) -> Status | None:
    with app.views(SCOPE) as views:
        job = views.find(job_id)
    return None if job is None else job.status


def test_a_function_that_keeps_the_interpreter_for_three_leases_costs_no_lease(
    ledger: Application, ledger_url: str, workers: Workers
) -> None:
    new = [NewJob("hold", {"seconds": 3}), NewJob("wait", {"seconds": 4.5})]
    ids = [created.job.id for created in ledger.handle(CreateJobs(scope=SCOPE, new_jobs=new))]
    workers.start(DATABASE_URL=ledger_url, **SETTINGS)
    wait_until(lambda: {_status(ledger, job_id) for job_id in ids} == {Status.RUNNING})
    workers.start("--queue", "nobody's", DATABASE_URL=ledger_url, **SETTINGS)
    wait_until(lambda: {_status(ledger, job_id) for job_id in ids} == {Status.SUCCEEDED})

    with ledger.views(SCOPE) as views:
        histories = views.histories(ids)
    for job_id in ids:
        assert [event.trigger for event in histories[job_id]] == [Trigger.CREATE, Trigger.CLAIM, Trigger.SUCCEED]
