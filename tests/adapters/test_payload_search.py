"""SQLite keeps whatever is written past Heimdex: a payload that cannot be read fails no search."""

from datetime import timedelta

import pytest

from heimdex.domain.job_filter import JobFilter, PayloadMatch
from heimdex.domain.scope import Tenant
from tests.adapters.test_bad_rows import OURS, create, write_past_heimdex
from tests.sql_stores import SqlHarness
from tests.stores import START

WHICH = JobFilter(
    type="t", created_from=START, created_before=START + timedelta(days=1), payload=PayloadMatch(("at",), 1)
)


@pytest.mark.parametrize(
    "payload",
    [
        "'no JSON'",
        "''",
        "X'ff'",
        "X'7b7d'",
        "7",
        "CAST(X'7b226174223aff7d' AS TEXT)",
        """'{"at":1e999}'""",
        """'{"at":"\\ud800"}'""",
        """'{"at":1'""",
        f"'{'[' * 100_000}'",
    ],
    ids=lambda payload: payload[:20],
)
def test_a_payload_that_is_no_json_is_not_found_and_fails_alone(sqlite_store: SqlHarness, payload: str) -> None:
    with sqlite_store.unit_of_work(OURS) as uow:
        good = uow.jobs.create("t", {"at": 1}).job
    write_past_heimdex(sqlite_store, f"payload = {payload}", create(sqlite_store))

    with sqlite_store.views(OURS) as views:
        found, count = views.page(WHICH), views.count(WHICH)
    with sqlite_store.unit_of_work(Tenant(OURS.org_id, actor="operator")) as uow:
        canceled = uow.jobs.cancel_matching(WHICH, reason="not these")

    assert ([job.id for job in found.jobs], count, [job.id for job in canceled]) == ([good.id], 1, [good.id])
