"""The application in memory, which repeats exactly."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest

from heimdex import JobNotFound, Status, Tenant, TransientDatabaseError
from heimdex.bootstrap import Application
from heimdex.config import Settings
from heimdex.testing import SimulatedApplication, application, assert_created, assert_nothing_created
from tests.testing.kit import ORG, create, registry, sign_up


def lived() -> list[str]:
    """Return what was written in the life of an application in which mails are retried and a worker dies."""
    app = application(registry())
    jobs = [sign_up(app, "nobody"), sign_up(app, "a@example.com"), create(app, "mail.all", {"to": ["b@example.com"]})]
    app.crash("before_finish")
    app.run_out()
    with app.views(Tenant(ORG, actor="user@example.com")) as views:
        return [repr((event, event.detail)) for job in jobs for event in views.history(job.id)]


def test_it_is_an_application_like_any_other(app: SimulatedApplication) -> None:
    assert isinstance(app, Application)
    assert app.schema.check().is_current


def test_two_runs_write_the_same() -> None:
    assert lived() == lived()


def test_ids_are_uuids_of_version_7_that_sort_by_time(app: SimulatedApplication) -> None:
    ids = [sign_up(app, "a@example.com").id for _ in range(3)]
    app.clock.advance(timedelta(milliseconds=1))
    ids.append(sign_up(app, "b@example.com").id)

    assert ids == sorted(ids)
    assert len(set(ids)) == 4
    assert {(id.version, id.variant) for id in ids} == {(7, "specified in RFC 4122")}


def test_the_clock_is_that_of_the_ledger(app: SimulatedApplication) -> None:
    app.clock.advance(timedelta(days=3))

    assert sign_up(app, "a@example.com").created_at == app.clock.now()


def test_each_application_is_empty(app: SimulatedApplication) -> None:
    sign_up(app, "a@example.com")

    assert_nothing_created(application(registry()))


def test_without_job_functions_it_accepts_jobs_of_any_type() -> None:
    app = application()

    create(app, "somebody.elses", {"any": "thing"})

    assert assert_created(app, "somebody.elses").status is Status.QUEUED


def test_settings_are_taken_but_the_environment_and_the_url_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDEX_LEASE_SECONDS", "77")

    assert application().settings.lease_seconds == 30
    given = application(settings=Settings(lease_seconds=60, database_url="sqlite:///production.db"))
    assert (given.settings.lease_seconds, given.settings.database_url) == (60, "memory://")


def test_a_retry_of_the_users_code_lets_simulated_time_pass(app: SimulatedApplication) -> None:
    before = app.clock.now()
    errors = [TransientDatabaseError("a deadlock"), TransientDatabaseError("another one")]

    def act() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert app.retry_transient(act) == "done"
    assert app.clock.now() - before > timedelta(seconds=2)


def test_a_job_is_found_by_its_id(app: SimulatedApplication) -> None:
    created = sign_up(app, "a@example.com")
    app.drain()

    assert app.job(created.id).result == {"sent_to": "a@example.com"}
    with pytest.raises(JobNotFound):
        app.job(UUID(int=1))


def test_other_threads_may_use_it_as_those_of_a_web_framework_do(app: SimulatedApplication) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: sign_up(app, f"{number}@example.com"), range(20)))

    app.drain()

    assert {job.status for job in assert_created(app, "mail.welcome", count=20)} == {Status.SUCCEEDED}
