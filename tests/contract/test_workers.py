"""The workers that people look at."""

from datetime import timedelta
from uuid import UUID

import pytest

from heimdex.domain.errors import UnscopedStatement
from heimdex.service_layer.ports import WORKER_KEPT_FOR
from tests.contract.steps import OTHER_WORKER, OURS, SYSTEM, TYPE, WORKER
from tests.stores import START, StoreHarness

A_SECOND = timedelta(seconds=1)


def seen(store: StoreHarness, worker: UUID = WORKER, *, types: tuple[str, ...] = (TYPE,), name: str = "w") -> None:
    with store.unit_of_work(SYSTEM) as uow:
        uow.workers.seen(worker, name=name, types=types, queues=["default"])


def test_a_worker_is_on_record_from_its_first_sign(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        uow.workers.seen(WORKER, name="host:1", types={"b", "a"}, queues=["y", "x", "x"])

    with store.views(SYSTEM) as views:
        [worker] = views.workers()
    assert (worker.id, worker.name, worker.types) == (WORKER, "host:1", ("a", "b"))
    assert (worker.started_at, worker.seen_at) == (START, START)


def test_a_later_sign_moves_the_time_and_keeps_the_start(store: StoreHarness) -> None:
    seen(store)
    store.advance(A_SECOND)
    seen(store, types=("other.type",), name="renamed")

    with store.views(SYSTEM) as views:
        [worker] = views.workers()
    assert (worker.name, worker.types) == ("renamed", ("other.type",))
    assert (worker.started_at, worker.seen_at) == (START, START + A_SECOND)


def test_a_worker_that_is_gone_is_off_the_record_and_may_come_back(store: StoreHarness) -> None:
    seen(store)
    with store.unit_of_work(SYSTEM) as uow:
        uow.workers.gone(WORKER)
        uow.workers.gone(OTHER_WORKER)
    with store.views(SYSTEM) as views:
        assert views.workers() == ()

    store.advance(A_SECOND)
    seen(store)
    with store.views(SYSTEM) as views:
        [worker] = views.workers()
    assert worker.started_at == START + A_SECOND


def test_the_one_seen_last_comes_first(store: StoreHarness) -> None:
    seen(store, OTHER_WORKER)
    seen(store, WORKER)
    with store.views(SYSTEM) as views:
        assert [worker.id for worker in views.workers()] == [WORKER, OTHER_WORKER]

    store.advance(timedelta(microseconds=1))
    seen(store, OTHER_WORKER)
    with store.views(SYSTEM) as views:
        assert [worker.id for worker in views.workers()] == [OTHER_WORKER, WORKER]


def test_a_sign_is_rolled_back_with_its_unit_of_work(store: StoreHarness) -> None:
    with store.unit_of_work(SYSTEM) as uow:
        uow.workers.seen(WORKER, name="w", types=[], queues=[])
        uow.rollback()

    with store.views(SYSTEM) as views:
        assert views.workers() == ()


def test_an_organisation_writes_no_workers_and_sees_none(store: StoreHarness) -> None:
    seen(store)
    with store.unit_of_work(OURS) as uow:
        with pytest.raises(UnscopedStatement, match="workers belong to no organisation"):
            uow.workers.seen(WORKER, name="mine", types=[], queues=[])
        with pytest.raises(UnscopedStatement):
            uow.workers.gone(WORKER)

    with store.views(OURS) as views:
        assert views.workers() == ()
    with store.views(SYSTEM) as views:
        assert [worker.name for worker in views.workers()] == ["w"]


def test_changing_a_worker_changes_nothing_stored(store: StoreHarness) -> None:
    seen(store)
    with store.views(SYSTEM) as views:
        views.workers()[0].name = "other"
        assert views.workers()[0].name == "w"


def test_a_worker_that_was_lost_long_ago_is_off_the_record_when_another_starts(store: StoreHarness) -> None:
    seen(store, OTHER_WORKER, name="lost")
    store.advance(WORKER_KEPT_FOR - A_SECOND)
    seen(store, WORKER, name="first")
    with store.views(SYSTEM) as views:
        assert [worker.name for worker in views.workers()] == ["first", "lost"]

    store.advance(A_SECOND)
    seen(store, UUID(int=103), name="second")
    with store.views(SYSTEM) as views:
        assert [worker.name for worker in views.workers()] == ["second", "first"]
