"""Which jobs a filter chooses, by when they were created and by what is in their payloads."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter, PayloadMatch
from heimdex.domain.json_text import JsonValue
from heimdex.domain.outcomes import Fail
from heimdex.domain.transitions import Status
from tests.contract.steps import OURS, SYSTEM, THEIRS, TYPE, create, every_job, finish, running
from tests.stores import START, StoreHarness

DAY = timedelta(days=1)
SOON = timedelta(microseconds=1)


def chosen(store: StoreHarness, which: JobFilter) -> list[Job]:
    """Return the jobs that a page shows, which a count counts and an own look at every job finds as well."""
    with store.views(OURS) as views:
        page, count = views.page(which), views.count(which)
    ours = [job.id for job in every_job(store) if job.org_id == OURS.org_id and which.accepts(job)]
    assert [job.id for job in page.jobs] == ours[::-1]
    assert count == len(ours)
    return list(page.jobs)


def having(path: str, value: JsonValue) -> JobFilter:
    """Return the filter for jobs of this day with a value in the payload."""
    match = PayloadMatch(tuple(path.split(".")), value)
    return JobFilter(type=TYPE, created_from=START, created_before=START + DAY, payload=match)


def test_a_window_begins_with_its_first_moment_and_ends_before_its_last(store: StoreHarness) -> None:
    first = create(store)
    store.advance(SOON)
    second = create(store)
    at = second.created_at

    def ids(**window: object) -> list[object]:
        return [job.id for job in chosen(store, JobFilter(**window))]  # type: ignore[arg-type]  # times, all of them

    assert ids(created_from=at) == [second.id]
    assert ids(created_before=at) == [first.id]
    assert ids(created_from=first.created_at, created_before=at) == [first.id]
    assert ids(created_from=at, created_before=at) == []
    assert ids(created_from=at + SOON) == []


VALUES: list[JsonValue] = [
    *["", "1", "true", "null", "é", "日本", "😀", '"', "\\", "a\nb\x1f", "a.b", "%", "'"],
    *[0, 1, -1, 2**53 - 1, 0.1, 1.0, -0.5, 1e16, 1e-7, 1.5e300, True, False, None],
]


def test_a_value_in_a_payload_is_found_as_it_is_and_none_that_resembles_it(store: StoreHarness) -> None:
    jobs = [create(store, payload={"at": value, "other": 1}) for value in VALUES]
    create(store, payload={"other": 1})
    create(store, payload=None)
    create(store, payload=[1])
    create(store, payload={"at": [1]})
    create(store, payload={"at": {"at": 1}})
    create(store, scope=THEIRS, payload={"at": 1})

    found = [[job.id for job in chosen(store, having("at", value))] for value in VALUES]

    assert found == [[job.id] for job in jobs]


def test_a_path_goes_into_objects_and_not_into_arrays(store: StoreHarness) -> None:
    deep = create(store, payload={"customer": {"id": 42, "no-de": {"_x": "y"}}})
    create(store, payload={"customer": [{"id": 42}]})
    create(store, payload={"customer": "id"})
    create(store, payload={"customer.id": 42})
    create(store, payload={"id": 42})

    assert [job.id for job in chosen(store, having("customer.id", 42))] == [deep.id]
    assert [job.id for job in chosen(store, having("customer.no-de._x", "y"))] == [deep.id]
    assert chosen(store, having("customer.id.more", 42)) == []


def test_a_payload_is_looked_into_only_within_its_type_and_its_window(store: StoreHarness) -> None:
    create(store, "other.type", {"at": 1})
    inside = create(store, payload={"at": 1})
    store.advance(DAY)
    create(store, payload={"at": 1})

    assert [job.id for job in chosen(store, having("at", 1))] == [inside.id]


def test_everybody_may_be_searched_and_a_stranger_finds_nothing(store: StoreHarness) -> None:
    theirs = create(store, scope=THEIRS, payload={"secret": "x"})
    with store.views(SYSTEM) as views:
        assert [job.id for job in views.page(having("secret", "x")).jobs] == [theirs.id]

    assert chosen(store, having("secret", "x")) == []


def _cancel(store: StoreHarness, which: JobFilter) -> list[Job]:
    with store.unit_of_work(OURS) as uow:
        return uow.jobs.cancel_matching(which, reason="not these")


def _retry(store: StoreHarness, which: JobFilter) -> list[Job]:
    with store.unit_of_work(OURS) as uow:
        return uow.jobs.retry_matching(which, reason="these again")


@pytest.mark.parametrize(("verb", "status"), [(_cancel, Status.CANCELED), (_retry, Status.QUEUED)])
def test_many_are_changed_by_what_is_in_their_payloads(
    store: StoreHarness, verb: Callable[[StoreHarness, JobFilter], list[Job]], status: Status
) -> None:
    for scope in (OURS, THEIRS):
        for payload in ({"at": 1}, {"at": 2}, {"at": 1}):
            if verb is _cancel:
                create(store, scope=scope, payload=payload)
            else:
                finish(store, running(store, scope=scope, payload=payload), Fail("boom", "no", permanent=True))

    changed = verb(store, having("at", 1))

    assert [job.payload for job in changed] == [{"at": 1}] * 2
    assert {job.org_id for job in changed} == {OURS.org_id}
    assert [job.id for job in every_job(store) if job.status is status] == [job.id for job in changed]
