"""Read-only questions: statistics, pages, histories, assets, refusals."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.domain.asset import NewAsset
from heimdex.domain.errors import InvalidInput, UnitOfWorkNotOpen
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.outcomes import Fail, Succeed
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import MAX_FOLLOWED, MAX_LISTED, WORKER_ALIVE_FOR, Views
from tests.contract.steps import (
    NOBODY,
    OURS,
    SYSTEM,
    THEIRS,
    TYPE,
    WORKER,
    claim_by_id,
    columns,
    create,
    finish,
    running,
)
from tests.stores import StoreHarness

SOON = timedelta(microseconds=1)


def test_statistics_of_nothing_have_every_status(store: StoreHarness) -> None:
    with store.views(OURS) as views:
        found = views.statistics()

    assert (found.by_status, found.by_type, found.unserved_types) == (dict.fromkeys(Status, 0), {}, ())


def test_statistics_count_by_status_and_by_type(store: StoreHarness) -> None:
    create(store)
    create(store, "other.type")
    running(store)
    finish(store, running(store), Succeed())
    finish(store, running(store), Fail("boom", "no", permanent=True))
    create(store, scope=THEIRS)

    with store.views(OURS) as views:
        ours = views.statistics()
    with store.views(SYSTEM) as views:
        every = views.statistics()

    assert ours.by_status == dict.fromkeys(Status, 0) | {
        Status.QUEUED: 2,
        Status.RUNNING: 1,
        Status.SUCCEEDED: 1,
        Status.FAILED: 1,
    }
    assert ours.by_type == {
        TYPE: {Status.QUEUED: 1, Status.RUNNING: 1, Status.SUCCEEDED: 1, Status.FAILED: 1},
        "other.type": {Status.QUEUED: 1},
    }
    assert every.by_status[Status.QUEUED] == 3


def test_queued_types_that_no_living_worker_serves_are_named(store: StoreHarness) -> None:
    for job_type in ("b", "a", "served"):
        create(store, job_type)
    running(store, "nobody waits for this one")
    with store.unit_of_work(SYSTEM) as uow:
        uow.workers.seen(WORKER, name="w", types=["served", "more"], queues=[])

    def unserved() -> tuple[str, ...]:
        with store.views(OURS) as views:
            return views.statistics().unserved_types

    assert unserved() == ("a", "b")
    store.advance(WORKER_ALIVE_FOR - SOON)
    assert unserved() == ("a", "b")
    store.advance(SOON)
    assert unserved() == ("a", "b", "served")


def test_a_job_is_found_or_none(store: StoreHarness) -> None:
    job = create(store)
    with store.views(OURS) as views:
        found = views.find(job.id)
        assert views.find(NOBODY) is None

    assert found is not None
    assert columns(found) == columns(job)


def test_pages_go_from_the_newest_id_to_the_oldest_without_gaps(store: StoreHarness) -> None:
    ids = [create(store).id for _ in range(5)]
    pages, after = [], None
    with store.views(OURS) as views:
        while True:
            page = views.page(JobFilter(), after=after, limit=2)
            pages.append([job.id for job in page.jobs])
            after = page.next_after
            if after is None:
                break

    newest_first = ids[::-1]
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]


def test_the_last_page_says_so_even_when_it_is_full(store: StoreHarness) -> None:
    for _ in range(2):
        create(store)
    with store.views(OURS) as views:
        assert views.page(JobFilter(), limit=2).next_after is None
        assert views.page(JobFilter(), after=UUID(int=0)).jobs == ()


def test_a_page_goes_on_after_an_id_that_is_not_there(store: StoreHarness) -> None:
    first, second = create(store), create(store)
    between = UUID(int=first.id.int + 1)
    with store.views(OURS) as views:
        assert [job.id for job in views.page(JobFilter(), after=between).jobs] == [first.id]
        assert [job.id for job in views.page(JobFilter(), after=second.id).jobs] == [first.id]


def test_new_jobs_do_not_shift_a_page(store: StoreHarness) -> None:
    old = [create(store).id for _ in range(3)]
    with store.views(OURS) as views:
        first = views.page(JobFilter(), limit=2)
    create(store)
    with store.views(OURS) as views:
        second = views.page(JobFilter(), after=first.next_after, limit=2)

    assert [job.id for job in (*first.jobs, *second.jobs)] == old[::-1]


def test_a_page_shows_only_what_its_filter_accepts(store: StoreHarness) -> None:
    parent = running(store)
    child = create(store, "child", parent_id=parent.id, requested_by="r", queue="slow")
    create(store)
    filters = {
        "status": JobFilter(status=Status.RUNNING),
        "type": JobFilter(type="child"),
        "queue": JobFilter(queue="slow"),
        "requested_by": JobFilter(requested_by="r"),
        "parent_id": JobFilter(parent_id=parent.id),
        "all": JobFilter(status=Status.QUEUED, type="child", queue="slow", requested_by="r", parent_id=parent.id),
        "none": JobFilter(status=Status.RUNNING, type="child"),
    }
    with store.views(OURS) as views:
        found = {name: [job.id for job in views.page(which).jobs] for name, which in filters.items()}

    assert found == {name: [child.id] for name in filters} | {"status": [parent.id], "none": []}


@pytest.mark.parametrize("limit", [0, -1, MAX_LISTED, True])
def test_the_size_of_a_page_is_bounded(store: StoreHarness, limit: int) -> None:
    with store.views(OURS) as views, pytest.raises(InvalidInput, match="limit"):
        views.page(JobFilter(), limit=limit)


def test_a_history_is_in_the_order_of_its_numbers(store: StoreHarness) -> None:
    held = running(store)
    with store.unit_of_work(OURS) as uow:
        for n in range(9):
            uow.jobs.log(held.id, {"n": n})

    with store.views(OURS) as views:
        assert [event.seq for event in views.history(held.id)] == list(range(1, 12))
        assert views.history(NOBODY) == ()


def test_many_histories_come_at_once(store: StoreHarness) -> None:
    waiting, held = create(store), running(store)
    with store.views(OURS) as views:
        found = views.histories([held.id, NOBODY, waiting.id])
        assert views.histories([]) == {}

    assert {job_id: [event.trigger for event in events] for job_id, events in found.items()} == {
        held.id: ["create", "claim"],
        NOBODY: [],
        waiting.id: ["create"],
    }


def test_ids_with_a_history_come_ascending_and_after_a_cursor(store: StoreHarness) -> None:
    ids = [running(store).id for _ in range(4)]
    with store.views(OURS) as views:
        assert views.history_ids() == ids
        assert views.history_ids(limit=3) == ids[:3]
        assert views.history_ids(after=ids[2]) == ids[3:]
        assert views.history_ids(after=ids[0], limit=1) == [ids[1]]
        assert views.history_ids(limit=0) == []


def test_assets_of_many_jobs_come_at_once_in_the_order_of_their_uris(store: StoreHarness) -> None:
    one, other, none = create(store), create(store), create(store)
    with store.unit_of_work(OURS) as uow:
        uow.assets.add_many(
            [
                (job, NewAsset.of(uri, media_type="text/plain", size=1, sha256="0" * 64))
                for job, uri in [(other, "b"), (one, "z"), (other, "a")]
            ]
        )
    with store.views(OURS) as views:
        found = views.assets([other.id, none.id, one.id])

    assert {job_id: [asset.uri for asset in assets] for job_id, assets in found.items()} == {
        other.id: ["a", "b"],
        none.id: [],
        one.id: ["z"],
    }


MANY = [UUID(int=n) for n in range(MAX_LISTED + 1)]
BOUNDED: dict[str, Callable[[Views], object]] = {
    "histories": lambda views: views.histories(MANY),
    "assets": lambda views: views.assets(MANY),
    "history_ids": lambda views: views.history_ids(limit=MAX_LISTED + 1),
}


@pytest.mark.parametrize("method", BOUNDED)
def test_one_question_is_about_a_bounded_number_of_jobs(store: StoreHarness, method: str) -> None:
    with store.views(OURS) as views, pytest.raises(InvalidInput):
        BOUNDED[method](views)


def test_a_view_sees_what_was_committed_before_it_asks(store: StoreHarness) -> None:
    with store.views(OURS) as views:
        assert views.history_ids() == []
    job = create(store)
    with store.views(OURS) as views:
        assert views.history_ids() == [job.id]


def test_views_and_a_unit_of_work_may_be_open_together(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create(TYPE)
        with store.views(OURS) as views:
            assert views.history_ids() == []


def test_views_cannot_be_used_after_their_block(store: StoreHarness) -> None:
    with store.views(OURS) as views:
        pass

    for use in (views.statistics, views.workers, lambda: views.find(NOBODY), lambda: views.page(JobFilter())):
        with pytest.raises(UnitOfWorkNotOpen):
            use()


def test_changing_what_a_view_returns_changes_nothing_stored(store: StoreHarness) -> None:
    job = create(store)
    with store.views(OURS) as views:
        views.page(JobFilter()).jobs[0].priority = 9
        found = views.find(job.id)
        assert found is not None
        found.priority = 9
        again = views.find(job.id)

    assert again is not None
    assert again.priority == 0


def test_a_question_sees_what_was_committed_after_the_one_before_it(store: StoreHarness) -> None:
    with store.views(OURS) as views:
        assert views.page(JobFilter()).jobs == ()
        job = create(store)
        assert [found.id for found in views.page(JobFilter()).jobs] == [job.id]
        claimed = claim_by_id(store, job)
        found = views.find(job.id)

    assert found is not None
    assert found.hold == claimed.hold


def test_what_follows_in_histories_comes_in_order_and_whole_from_its_beginning(store: StoreHarness) -> None:
    first, second = running(store), create(store)

    with store.views(OURS) as views:
        everything = views.events_after({first.id: 0, second.id: 0})
        rest = views.events_after({first.id: 1, second.id: 1})
        cut = views.events_after({first.id: 0, second.id: 0}, limit=2)

    assert {job_id: [event.seq for event in events] for job_id, events in everything.items()} == {
        first.id: [1, 2],
        second.id: [1],
    }
    assert {job_id: [event.seq for event in events] for job_id, events in rest.items()} == {
        first.id: [2],
        second.id: [],
    }
    assert sum(map(len, cut.values())) == 2
    assert [event.seq for event in cut[min(first.id, second.id)]][:1] == [1]


def test_nothing_follows_in_a_history_of_others_or_of_nobody(store: StoreHarness) -> None:
    theirs = create(store, scope=THEIRS)

    with store.views(OURS) as views:
        found = views.events_after({theirs.id: 0, NOBODY: 0})
        nothing = views.events_after({})

    assert (found, nothing) == ({theirs.id: (), NOBODY: ()}, {})


def test_no_more_than_a_hundred_histories_are_followed_at_once(store: StoreHarness) -> None:
    with store.views(OURS) as views, pytest.raises(InvalidInput, match="number of job ids"):
        views.events_after({UUID(int=number): 0 for number in range(MAX_FOLLOWED + 1)})
