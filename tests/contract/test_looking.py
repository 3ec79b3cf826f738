"""Looking for what was written when nobody knows whether it was."""

from attrs import evolve

from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Succeed
from tests.contract.steps import NOBODY, OURS, SYSTEM, THEIRS, columns, create, finish, running, stored
from tests.stores import StoreHarness


def test_an_event_is_found_by_its_job_and_number(store: StoreHarness) -> None:
    job = running(store)

    with store.unit_of_work(SYSTEM) as uow:
        event = uow.jobs.settled_event(job.id, job.version)
        assert uow.jobs.settled_event(job.id, job.version + 1) is None
        assert uow.jobs.settled_event(NOBODY, 1) is None
    assert event is not None
    assert (event.seq, event.ts, event.source) == (job.version, job.updated_at, SYSTEM.source)


def test_an_event_of_another_organisation_is_not_found(store: StoreHarness) -> None:
    job = create(store)

    with store.unit_of_work(THEIRS) as uow:
        assert uow.jobs.settled_event(job.id, 1) is None


def test_many_jobs_are_found_by_their_ids(store: StoreHarness) -> None:
    jobs = [create(store) for _ in range(3)]
    theirs = create(store, scope=THEIRS)

    with store.unit_of_work(OURS) as uow:
        found = uow.jobs.find_many([jobs[0].id, jobs[2].id, theirs.id, NOBODY])
        assert uow.jobs.find_many([]) == {}
    assert {job_id: columns(job) for job_id, job in found.items()} == {
        job.id: columns(stored(store, job)) for job in (jobs[0], jobs[2])
    }


def test_what_a_request_made_is_told_from_what_another_made_under_its_id(store: StoreHarness) -> None:
    parent = create(store)
    requests = [NewJob("mail.send", {"n": n}, id=store.tools.ids(), idempotency_key=f"k-{n}") for n in range(2)]
    with store.unit_of_work(OURS) as uow:
        uow.jobs.create_many(requests)
    first, second = requests
    others = [evolve(first, payload={"n": 9}), evolve(first, idempotency_key="other"), evolve(first, type="other")]

    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.made_by([first, second]).keys() == {first.id, second.id}
        assert uow.jobs.made_by([first], parent_id=parent.id) == {}
        for other in others:
            assert uow.jobs.made_by([other]) == {}
        assert uow.jobs.made_by([evolve(first, id=None)]) == {}


def test_what_a_request_made_is_found_however_it_has_gone_on(store: StoreHarness) -> None:
    job = running(store)
    finish(store, job, Succeed())

    with store.unit_of_work(OURS) as uow:
        assert uow.jobs.made_by([NewJob(job.type, id=job.id)]).keys() == {job.id}
