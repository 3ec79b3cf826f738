"""Assets: what jobs found or made."""

import pytest
from attrs import evolve

from heimdex.domain.asset import MAX_SIZE, MAX_URI, Asset, NewAsset
from heimdex.domain.errors import JobNotFound, UniqueViolation
from tests.contract.steps import (
    NOBODY,
    ORG,
    OURS,
    SYSTEM,
    THEIRS,
    create,
    every_job,
)
from tests.stores import START, StoreHarness


def new_asset(uri: str = "file:///a.txt") -> NewAsset:
    return NewAsset.of(uri, media_type="text/plain", size=5, sha256="0" * 64, metadata={"title": "é", "n": 1e16})


def fields(asset: Asset) -> tuple[object, ...]:
    return (
        asset.id,
        asset.org_id,
        asset.job_id,
        asset.uri,
        asset.media_type,
        asset.size,
        asset.sha256,
        asset.metadata_json,
        asset.created_at,
    )


def test_an_asset_is_found_as_it_was_added(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        added = uow.assets.add(job, new_asset())
    with store.unit_of_work(OURS) as uow:
        found = uow.assets.find(added.id)

    assert found is not None
    assert fields(found) == fields(added)
    assert fields(found)[1:] == (
        ORG,
        job.id,
        "file:///a.txt",
        "text/plain",
        5,
        "0" * 64,
        '{"n":1e+16,"title":"é"}',
        START,
    )


def test_an_unknown_asset_is_none(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        assert uow.assets.find(NOBODY) is None
        assert uow.assets.of_job(NOBODY) == []


def test_the_largest_values_are_kept(store: StoreHarness) -> None:
    job = create(store)
    largest = NewAsset(
        uri="é" * MAX_URI, media_type="m" * 255, size=MAX_SIZE, sha256="f" * 64, metadata_json='{"a":"\U0001f600"}'
    )
    with store.unit_of_work(OURS) as uow:
        added = uow.assets.add(job, largest)
        found = uow.assets.find(added.id)

    assert found is not None
    assert fields(found) == fields(added)


def test_the_assets_of_a_job_come_in_the_order_of_their_uris(store: StoreHarness) -> None:
    job, other = create(store), create(store)
    uris = ["file:///b", "file:///B", "file:///a-1", "file:///a", "file:///a/1", "file:///é"]
    with store.unit_of_work(OURS) as uow:
        uow.assets.add_many([(job, new_asset(uri)) for uri in uris])
        uow.assets.add(other, new_asset("file:///0"))
        within = [asset.uri for asset in uow.assets.of_job(job.id)]
    with store.unit_of_work(OURS) as uow:
        after = [asset.uri for asset in uow.assets.of_job(job.id)]

    assert within == after == sorted(uris)


def test_many_are_answered_in_the_order_given(store: StoreHarness) -> None:
    one, other = create(store), create(store)
    with store.unit_of_work(OURS) as uow:
        added = uow.assets.add_many(
            [(other, new_asset("file:///b")), (one, new_asset("file:///b")), (other, new_asset())]
        )
        assert uow.assets.add_many([]) == []

    assert [(asset.job_id, asset.uri) for asset in added] == [
        (other.id, "file:///b"),
        (one.id, "file:///b"),
        (other.id, "file:///a.txt"),
    ]


@pytest.mark.parametrize("committed", [True, False])
def test_a_uri_that_the_job_has_is_refused_and_the_unit_of_work_goes_on(
    store: StoreHarness, *, committed: bool
) -> None:
    job = create(store)
    if committed:
        with store.unit_of_work(OURS) as uow:
            uow.assets.add(job, new_asset())

    with store.unit_of_work(OURS) as uow:
        if not committed:
            uow.assets.add(job, new_asset())
        with pytest.raises(UniqueViolation) as raised:
            uow.assets.add(job, new_asset())
        uow.jobs.create("after")

    assert raised.value.constraint_name == "uq_asset_org_job_uri"
    assert len(every_job(store)) == 2
    with store.views(OURS) as views:
        assert len(views.assets([job.id])[job.id]) == 1


@pytest.mark.parametrize("uris", [["file:///new", "file:///old"], ["file:///new", "file:///new"]])
def test_of_many_with_a_taken_uri_none_is_added(store: StoreHarness, uris: list[str]) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        uow.assets.add(job, new_asset("file:///old"))
        with pytest.raises(UniqueViolation):
            uow.assets.add_many([(job, new_asset(uri)) for uri in uris])

    with store.views(OURS) as views:
        assert [asset.uri for asset in views.assets([job.id])[job.id]] == ["file:///old"]


def test_the_same_uri_of_another_job_is_another_asset(store: StoreHarness) -> None:
    jobs = [create(store), create(store), create(store, scope=THEIRS)]
    with store.unit_of_work(SYSTEM) as uow:
        uow.assets.add_many([(job, new_asset()) for job in jobs])

    with store.views(SYSTEM) as views:
        assert [len(assets) for assets in views.assets([job.id for job in jobs]).values()] == [1, 1, 1]


def test_a_uri_is_free_again_after_a_rollback(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        uow.assets.add(job, new_asset())
        uow.rollback()
        assert uow.assets.of_job(job.id) == []
        uow.assets.add(job, new_asset())

    with store.views(OURS) as views:
        assert len(views.assets([job.id])[job.id]) == 1


def test_an_asset_belongs_to_the_organisation_of_its_job(store: StoreHarness) -> None:
    theirs = create(store, scope=THEIRS)

    with store.unit_of_work(SYSTEM) as uow:
        assert uow.assets.add(theirs, new_asset()).org_id == theirs.org_id


def test_an_asset_of_another_organisations_job_is_refused_and_none_is_added(store: StoreHarness) -> None:
    ours, theirs = create(store), create(store, scope=THEIRS)

    with store.unit_of_work(OURS) as uow, pytest.raises(JobNotFound, match=str(theirs.id)):
        uow.assets.add_many([(ours, new_asset()), (theirs, new_asset())])

    with store.views(SYSTEM) as views:
        assert views.assets([ours.id, theirs.id]) == {ours.id: (), theirs.id: ()}


def test_changing_an_asset_changes_nothing_stored(store: StoreHarness) -> None:
    job = create(store)
    with store.unit_of_work(OURS) as uow:
        added = uow.assets.add(job, new_asset())
        added.size = 99
        found = uow.assets.find(added.id)
        assert found is not None
        found.uri = "file:///other"
        uow.assets.of_job(job.id)[0].media_type = "none"

    with store.views(OURS) as views:
        [kept] = views.assets([job.id])[job.id]
    assert (kept.size, kept.uri, kept.media_type) == (5, "file:///a.txt", "text/plain")


def test_a_job_that_does_not_exist_has_no_assets_whatever_the_callers_copy_says(store: StoreHarness) -> None:
    job = create(store)
    invented, moved = evolve(job, id=NOBODY), evolve(job, org_id=THEIRS.org_id)
    with store.unit_of_work(SYSTEM) as uow:
        for copy in (invented, moved):
            with pytest.raises(JobNotFound) as raised:
                uow.assets.add_many([(job, new_asset()), (copy, new_asset("file:///b.txt"))])
            assert raised.value.job_id == copy.id

        assert uow.assets.of_job(job.id) == []


def test_a_copy_that_names_its_readers_organisation_opens_no_other_ones_job(store: StoreHarness) -> None:
    theirs = create(store, scope=THEIRS)
    with store.unit_of_work(OURS) as uow, pytest.raises(JobNotFound):
        uow.assets.add(evolve(theirs, org_id=ORG), new_asset())


def test_a_job_of_the_same_unit_of_work_may_have_assets(store: StoreHarness) -> None:
    with store.unit_of_work(OURS) as uow:
        job = uow.jobs.create("t").job
        added = uow.assets.add(job, new_asset())

    assert added.job_id == job.id
