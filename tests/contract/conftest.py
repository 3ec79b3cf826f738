"""Every test of this folder runs on every store, and leaves histories that explain their rows."""

from collections.abc import Iterator

import pytest

from heimdex.domain.fold import explains
from heimdex.domain.verification import check
from tests.contract.steps import SYSTEM, every_job
from tests.stores import StoreHarness


@pytest.fixture(autouse=True)
def histories_explain_their_rows(store: StoreHarness) -> Iterator[None]:
    yield
    jobs = every_job(store)
    with store.views(SYSTEM) as views:
        histories = views.histories([job.id for job in jobs])
    for job in jobs:
        assert explains(job, histories[job.id]) == ()
        assert check(job, histories[job.id]) == []
        assert {event.org_id for event in histories[job.id]} == {job.org_id}
