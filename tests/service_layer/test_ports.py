"""The little that the ports say themselves."""

from uuid import UUID

import pytest

from heimdex.domain.errors import JobNotFound
from heimdex.domain.job_filter import JobFilter
from heimdex.service_layer.ports import SchemaState
from tests.service_layer.worker_harness import TENANT, HandLedger, nothing, registry


def test_get_returns_the_job_or_says_that_it_is_not_there() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job_id = ledger.create("nothing")

    with ledger.store.unit_of_work(TENANT) as uow:
        assert uow.jobs.get(job_id).id == job_id
        with pytest.raises(JobNotFound) as caught:
            uow.jobs.get(UUID(int=404))
    assert caught.value.job_id == UUID(int=404)


def test_a_filter_accepts_a_job_that_has_all_that_it_names() -> None:
    ledger = HandLedger(registry(nothing=nothing))
    job = ledger.job(ledger.create("nothing", queue="slow"))

    assert JobFilter().accepts(job)
    assert JobFilter(type="nothing", queue="slow").accepts(job)
    assert not JobFilter(type="nothing", queue="default").accepts(job)


def test_a_schema_is_current_at_its_head_alone() -> None:
    assert SchemaState(current="2", head="2").is_current
    assert not SchemaState(current=None, head="2").is_current
