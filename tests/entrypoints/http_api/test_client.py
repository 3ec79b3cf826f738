"""The Python client: every call answers what the same question answers where the ledger is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Timer
from typing import Any
from uuid import UUID

import attrs
import pytest

from heimdex.adapters.http_client import HttpClient
from heimdex.bootstrap import Application, bootstrap, connect
from heimdex.config import load
from heimdex.domain.access import Role
from heimdex.domain.asset import NewAsset
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter, PayloadMatch
from heimdex.domain.new_job import JobLimits, NewJob
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending
from heimdex.domain.scope import System, Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.ports import Views
from tests.api_server import SECRET, USER, serving, token_of

ORG, OTHER = UUID(int=1), UUID(int=2)
OURS = Tenant(ORG, actor=USER)
SYSTEM = System(actor="worker", reason="a worker serves every organisation")
WORKER = UUID(int=101)
TYPE = "mail.send"


@pytest.fixture(params=["memory", "sqlite"])
def application(request: pytest.FixtureRequest) -> Iterator[Application]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("url")
    with bootstrap(load({"HEIMDEX_DATABASE_URL": url, "HEIMDEX_API_SECRET": SECRET})) as app:
        yield app


@pytest.fixture
def api(application: Application) -> Iterator[str]:
    with serving(application) as url:
        yield url


@pytest.fixture
def client(application: Application, api: str) -> Iterator[HttpClient]:
    with connect(api, token_of(application, ORG)) as client:
        yield client


@pytest.fixture
def views(application: Application) -> Iterator[Views]:
    with application.views(OURS) as views:
        yield views


def values(things: object) -> object:
    """Return what can be compared: jobs, events and assets themselves are equal to nothing else."""
    if isinstance(things, tuple | list):
        return [values(thing) for thing in things]
    return attrs.asdict(things) if attrs.has(type(things)) else things  # type: ignore[arg-type]  # as was asked


def run(application: Application, job_id: UUID) -> Job:
    """Let a worker do a job, with an asset and a result."""
    with application.unit_of_work(SYSTEM) as uow:
        held = uow.jobs.claim(job_id, worker=WORKER, lease=timedelta(seconds=30))
    with application.unit_of_work(SYSTEM) as uow:
        uow.assets.add(held, NewAsset.of("file:///a", media_type="a/b", size=1, sha256="0" * 64, metadata={"a": [1]}))
        [done] = uow.jobs.finish([Ending(held, Succeed('{"sent":true}'))]).jobs
        assert uow.jobs.finish([Ending(held, Succeed())]).refusals
    return done


def test_a_job_is_created_as_it_was_asked_for(client: HttpClient, views: Views) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    new = NewJob(
        TYPE,
        {"to": "é", "n": [1, 0.1, 1e16, None, True]},
        queue="a/b c.é",
        priority=-3,
        scheduled_at=soon,
        idempotency_key="k",
        limits=JobLimits(max_attempts=2),
    )

    created, again = client.create(new), client.create(new)
    child = client.create(NewJob(TYPE), parent_id=created.job.id)

    stored = views.find(created.job.id)
    assert values(created.job) == values(stored)
    assert (created.replayed, again.replayed, again.job.id) == (False, True, created.job.id)
    assert (created.job.payload, created.job.queue, created.job.priority) == (new.payload, new.queue, new.priority)
    assert (created.job.scheduled_at, created.job.max_attempts) == (soon, 2)
    assert (created.job.org_id, created.job.requested_by) == (ORG, USER)
    assert child.job.parent_id == created.job.id


@pytest.mark.parametrize("payload", [None, 1, "text", [1, {"a": None}], {}])
def test_any_json_is_a_payload(client: HttpClient, payload: object) -> None:
    assert client.create(NewJob(TYPE, payload)).job.payload == payload


def test_jobs_are_created_together_in_the_order_given(client: HttpClient) -> None:
    parent = client.create(NewJob("parent", idempotency_key="p")).job

    made = client.create_many([NewJob(TYPE, {"n": n}, idempotency_key=f"{n}") for n in (2, 1)], parent_id=parent.id)
    again = client.create_many([NewJob(TYPE, {"n": 1}, idempotency_key="1")], parent_id=parent.id)

    assert [one.job.payload for one in made] == [{"n": 2}, {"n": 1}]
    assert {one.job.parent_id for one in made} == {parent.id}
    assert [(one.job.id, one.replayed) for one in again] == [(made[1].job.id, True)]


def test_jobs_are_canceled_and_retried_with_a_reason(client: HttpClient, views: Views) -> None:
    job = client.create(NewJob(TYPE)).job

    assert client.cancel(job.id, "not this one").status is Status.CANCELED
    retried = client.retry(job.id, "this one")

    assert values(retried) == values(views.find(job.id))
    assert [event.reason for event in client.history(job.id)] == [None, "not this one", "this one"]
    assert {event.actor for event in client.history(job.id)} == {USER}


@pytest.mark.parametrize("queue", ["default", "a/b c?d#e%", "..", ".", "é", "pause"])
def test_queues_are_paused_resumed_and_counted(client: HttpClient, views: Views, queue: str) -> None:
    client.create(NewJob(TYPE, queue=queue))

    client.pause(queue, "a leak")
    paused = client.queues()
    answers = [client.resume(queue), client.resume(queue)]

    [counts] = paused
    assert (counts.queue, counts.queued, counts.running) == (queue, 1, 0)
    assert [(pause.queue, pause.org_id, pause.reason) for pause in counts.paused] == [(queue, ORG, "a leak")]
    assert answers == [True, False]
    assert client.queues() == views.queues()


def test_what_is_known_of_a_job_is_what_the_ledger_knows(
    client: HttpClient, application: Application, views: Views
) -> None:
    job_id = client.create(NewJob(TYPE)).job.id
    waiting = client.create(NewJob(TYPE, queue="slow", scheduled_at=datetime.now(UTC) + timedelta(days=1))).job.id
    client.pause("slow", "a leak")
    run(application, job_id)

    assert values(client.get(job_id)) == values(views.find(job_id))
    assert values(client.history(job_id)) == values(views.history(job_id))
    assert values(client.assets(job_id)) == values(views.assets([job_id])[job_id])
    assert (client.refusals(job_id), views.refusals(job_id)) == (1, 1)
    assert client.why(job_id) == views.explain_waiting(job_id)
    assert client.why(waiting) == views.explain_waiting(waiting)
    assert len(client.why(waiting)) == 3
    assert client.statistics() == views.statistics()
    assert client.queues() == views.queues()


def test_pages_lead_from_the_newest_job_to_the_oldest(client: HttpClient) -> None:
    made = [one.job.id for one in client.create_many([NewJob(TYPE, {"n": n}) for n in range(5)])]

    first = client.page(JobFilter(type=TYPE), limit=3)
    second = client.page(JobFilter(type=TYPE), after=first.next_after, limit=3)

    assert [job.id for job in (*first.jobs, *second.jobs)] == made[::-1]
    assert second.next_after is None


def test_every_part_of_a_filter_arrives(client: HttpClient) -> None:
    parent = client.create(NewJob("parent")).job
    job = client.create(
        NewJob(TYPE, {"customer": {"id": 1e16, "name": "é & b=c"}}, queue="é?"), parent_id=parent.id
    ).job
    bounds: dict[str, Any] = {"type": TYPE, "created_from": job.created_at}
    bounds["created_before"] = job.created_at + timedelta(days=1)
    second = timedelta(seconds=1)
    finding = [
        JobFilter(status=Status.QUEUED, type=TYPE),
        JobFilter(queue="é?"),
        JobFilter(parent_id=parent.id),
        JobFilter(requested_by=USER, type=TYPE),
        JobFilter(**bounds),
        JobFilter(**bounds, payload=PayloadMatch(("customer", "id"), 1e16)),
        JobFilter(**bounds, payload=PayloadMatch(("customer", "name"), "é & b=c")),
    ]
    missing = [
        JobFilter(status=Status.RUNNING),
        JobFilter(queue="é"),
        JobFilter(parent_id=job.id),
        JobFilter(requested_by="nobody"),
        JobFilter(created_from=job.created_at + second),
        JobFilter(created_before=parent.created_at),
        JobFilter(**bounds, payload=PayloadMatch(("customer", "id"), 1)),
    ]

    assert [[found.id for found in client.page(which).jobs] for which in finding] == [[job.id]] * len(finding)
    assert [client.page(which).jobs for which in missing] == [()] * len(missing)


def test_a_watcher_sees_every_event_until_the_job_rests(
    client: HttpClient, application: Application, views: Views
) -> None:
    job_id = client.create(NewJob(TYPE)).job.id
    later = Timer(0.2, run, [application, job_id])
    later.start()

    seen = list(client.watch(job_id))
    later.join()

    assert [str(event.trigger) for event in seen] == ["create", "claim", "succeed"]
    assert values(tuple(seen)) == values(views.history(job_id))
    assert [event.seq for event in client.watch(job_id, after=2)] == [3]
    assert list(client.watch(job_id, after=3)) == []


def test_who_may_not_read_content_sees_that_there_is_something(
    client: HttpClient, application: Application, api: str
) -> None:
    job_id = client.create(NewJob(TYPE, {"secret": 1})).job.id
    run(application, job_id)

    with connect(api, token_of(application, ORG, Role.VIEWER)) as viewer:
        job, [asset] = viewer.get(job_id), viewer.assets(job_id)
        events = (*viewer.history(job_id), *viewer.watch(job_id))

    assert (job.payload, job.result, job.status) == (None, None, Status.SUCCEEDED)
    assert (asset.uri, asset.metadata, asset.size) == ("", {}, 1)
    assert [event.detail for event in events] == [{}] * 6


def test_a_token_reaches_its_own_organisation_alone(client: HttpClient, application: Application, api: str) -> None:
    client.create(NewJob(TYPE))

    with connect(api, token_of(application, OTHER)) as stranger:
        assert stranger.page(JobFilter()).jobs == ()
