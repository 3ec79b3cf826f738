"""Running what is due, and everything."""

import asyncio
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from heimdex import (
    DatabaseUnavailable,
    Fail,
    InvalidInput,
    JobContext,
    JobRegistry,
    Status,
    System,
    Tenant,
)
from heimdex.bootstrap import bootstrap
from heimdex.config import Settings, file_url
from heimdex.testing import (
    SimulatedApplication,
    SimulatedClock,
    application,
    assert_history,
    database,
    drain,
    run_out,
)
from tests.testing.kit import DELAY, ORG, MailRefused, create, registry, sign_up

JobFunction = Callable[[dict[str, Any], JobContext], object]


def with_function(function: JobFunction, **limits: Any) -> SimulatedApplication:  # noqa: ANN401 - as register's
    jobs = JobRegistry()
    jobs.register("one", **limits)(function)
    return application(jobs)


def test_a_due_job_runs_and_is_returned_as_it_came_to_rest(app: SimulatedApplication) -> None:
    created = sign_up(app, "a@example.com")

    [job] = app.drain()

    assert (job.id, job.status, job.result) == (created.id, Status.SUCCEEDED, {"sent_to": "a@example.com"})
    assert_history(app, job.id, ["create", "claim", "succeed"])
    assert app.drain() == []


def test_an_async_function_runs_and_what_it_raises_is_seen_as_of_a_plain_one() -> None:
    jobs = JobRegistry()

    @jobs.register("one", max_attempts=1)
    async def one(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"half": payload["n"] / payload["by"]}

    app = application(jobs)
    create(app, "one", {"n": 1, "by": 2})
    assert [job.result for job in app.drain()] == [{"half": 0.5}]

    create(app, "one", {"n": 1, "by": 0})
    with pytest.raises(ZeroDivisionError):
        app.drain(raise_errors=True)


def test_the_clock_stays_and_what_is_scheduled_waits(app: SimulatedApplication) -> None:
    before = app.clock.now()
    with app.unit_of_work(Tenant(ORG, actor="user@example.com")) as uow:
        uow.jobs.create("mail.welcome", {"to": "a@example.com"}, scheduled_at=before + timedelta(hours=1))

    assert app.drain() == []
    assert app.clock.now() == before

    app.clock.advance(timedelta(hours=1))
    assert [job.status for job in app.drain()] == [Status.SUCCEEDED]


def test_what_a_job_creates_is_run_too(app: SimulatedApplication) -> None:
    parent = create(app, "mail.all", {"to": ["a@example.com", "b@example.com"]})

    jobs = app.drain()

    assert [job.type for job in jobs] == ["mail.all", "mail.welcome", "mail.welcome"]
    assert {job.parent_id for job in jobs[1:]} == {parent.id}


def test_jobs_run_one_at_a_time_in_claim_order() -> None:
    ran: list[int] = []
    app = with_function(lambda payload, ctx: ran.append(payload["number"]))
    with app.unit_of_work(Tenant(ORG, actor="user@example.com")) as uow:
        for number, priority in enumerate([0, 0, 5, -5]):
            uow.jobs.create("one", {"number": number}, priority=priority)

    app.drain()

    assert ran == [2, 0, 1, 3]


def test_jobs_of_types_that_the_application_does_not_know_are_left() -> None:
    with (
        database() as url,
        bootstrap(Settings(database_url=url)) as producer,
        bootstrap(Settings(database_url=url), jobs=registry()) as app,
    ):
        job = create(producer, "elsewhere")

        assert drain(app) == []
        assert_history(app, job.id, ["create"])


def test_a_failure_is_recorded_and_retried_as_in_production(app: SimulatedApplication) -> None:
    job = sign_up(app, "nobody")

    [failed] = app.drain()

    assert (failed.status, failed.last_error_code) == (Status.QUEUED, "MailRefused")
    assert failed.last_error_message == "no such address"
    assert app.clock.now() + DELAY <= failed.scheduled_at <= app.clock.now() + 1.5 * DELAY

    app.clock.advance(timedelta(minutes=1))
    [buried] = app.drain()
    assert buried.status is Status.DEAD_LETTER
    assert_history(app, job.id, ["create", "claim", "fail", "retry", "claim", "fail", "bury"])


def test_a_job_that_ran_twice_is_returned_once_as_it_was_left() -> None:
    runs: list[int] = []

    def fail_once(payload: dict[str, Any], ctx: JobContext) -> None:
        runs.append(ctx.job.attempt)
        if len(runs) == 1:
            raise MailRefused

    app = with_function(fail_once)
    create(app, "one")

    [job] = app.run_out()

    assert (runs, job.status) == ([1, 2], Status.SUCCEEDED)


def test_an_error_is_let_out_once_it_is_recorded(app: SimulatedApplication) -> None:
    job, next_job = sign_up(app, "nobody"), sign_up(app, "a@example.com")

    with pytest.raises(MailRefused, match="no such address") as raised:
        app.drain(raise_errors=True)

    assert isinstance(raised.value.__cause__, LookupError)
    assert raised.value.__context__ is None
    assert "welcome" in {frame.name for frame in traceback.extract_tb(raised.tb)}
    assert_history(app, job.id, ["create", "claim", "fail", "retry"])
    assert_history(app, next_job.id, ["create"])


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda payload, ctx: Fail("refused", "on the list", permanent=True), "refused: on the list"),
        (lambda payload, ctx: object(), "bad_result: "),
        (lambda payload, ctx: ctx.create("one", {"other": "payload"}, idempotency_key="taken"), "effects_refused: "),
    ],
)
def test_a_failure_that_no_function_raised_is_let_out_as_an_assertion_error(function: JobFunction, code: str) -> None:
    app = with_function(function)
    with app.unit_of_work(Tenant(ORG, actor="user@example.com")) as uow:
        uow.jobs.create("one", idempotency_key="taken")

    with pytest.raises(AssertionError, match=rf"job [-\w]+ \(one\) failed: {code}"):
        app.drain(raise_errors=True)


def test_ctrl_c_and_pytest_fail_are_not_taken_for_a_failure_of_the_job() -> None:
    def interrupted(payload: dict[str, Any], ctx: JobContext) -> None:
        raise KeyboardInterrupt

    def unexpected(payload: dict[str, Any], ctx: JobContext) -> None:
        pytest.fail("this should not have been called")

    for function, error in ((interrupted, KeyboardInterrupt), (unexpected, pytest.fail.Exception)):
        app = with_function(function)
        create(app, "one")
        with pytest.raises(error):
            app.drain()


def test_leaving_the_process_is_a_failure_of_the_job_as_in_production() -> None:
    def leave(payload: dict[str, Any], ctx: JobContext) -> None:
        raise SystemExit(3)

    app = with_function(leave)
    create(app, "one")

    assert [job.last_error_code for job in app.drain()] == ["SystemExit"]


def test_a_function_that_takes_longer_than_its_timeout_fails_by_it() -> None:
    app = with_function(lambda payload, ctx: app.clock.advance(timedelta(minutes=20)), max_attempts=1)
    jobs = [create(app, "one"), create(app, "one")]

    assert [ended.last_error_code for ended in app.drain()] == ["timeout", "timeout"]
    for job in jobs:
        assert_history(app, job.id, ["create", "claim", "fail", "bury"])


def test_a_function_that_takes_longer_than_its_lease_keeps_it() -> None:
    app = with_function(lambda payload, ctx: app.clock.advance(timedelta(minutes=10)))
    create(app, "one")
    create(app, "one")

    assert [job.status for job in app.drain(raise_errors=True)] == [Status.SUCCEEDED, Status.SUCCEEDED]


def test_jobs_that_create_jobs_for_ever_come_to_a_limit() -> None:
    app = with_function(lambda payload, ctx: ctx.create("one"))
    create(app, "one")

    with pytest.raises(AssertionError, match=r"20 runs are over and a job of type one is due.* one \(20\)"):
        app.drain(limit=20)


def test_a_limit_is_a_number_of_runs(app: SimulatedApplication) -> None:
    for address in "abc":
        sign_up(app, address)

    assert len(app.drain(limit=3)) == 3
    with pytest.raises(InvalidInput, match="limit"):
        app.drain(limit=0)


def test_an_application_without_job_functions_cannot_be_drained() -> None:
    with pytest.raises(InvalidInput, match="give the application a JobRegistry"):
        application().drain()


def test_a_worker_that_drained_leaves_no_record(app: SimulatedApplication) -> None:
    sign_up(app, "nobody")
    with pytest.raises(MailRefused):
        app.drain(raise_errors=True)
    app.run_out()

    with app.views(System(actor="test", reason="workers belong to no organisation")) as views:
        assert views.workers() == ()


def test_running_out_advances_the_clock_until_every_job_has_ended(app: SimulatedApplication) -> None:
    before = app.clock.now()
    jobs = [sign_up(app, "nobody"), sign_up(app, "a@example.com"), create(app, "mail.block", {"cancel": ""})]

    ended = app.run_out()

    assert [job.id for job in ended] == [job.id for job in jobs]
    assert [job.status for job in ended] == [Status.DEAD_LETTER, Status.SUCCEEDED, Status.CANCELED]
    assert before + DELAY <= app.clock.now() <= before + 1.5 * DELAY


def test_running_out_waits_for_the_lease_of_a_dead_worker(app: SimulatedApplication) -> None:
    job = sign_up(app, "a@example.com")
    app.crash("before_start")

    app.run_out()

    assert_history(app, job.id, ["create", "claim", "expire", "retry", "claim", "succeed"])


def test_a_job_that_snoozes_for_ever_comes_to_a_limit(app: SimulatedApplication) -> None:
    create(app, "mail.poll", {"every": 60})

    with pytest.raises(AssertionError, match=r"50 runs are over and a job of type mail\.poll is due"):
        app.run_out(limit=50)


def test_running_out_lets_errors_out_when_told_to(app: SimulatedApplication) -> None:
    sign_up(app, "nobody")

    with pytest.raises(MailRefused):
        app.run_out(raise_errors=True)


def test_an_application_on_sqlite_is_drained_and_run_out_with_the_same_clock() -> None:
    with database() as url, bootstrap(Settings(database_url=url), jobs=registry(), clock=SimulatedClock()) as app:
        job = sign_up(app, "nobody")

        assert [drained.status for drained in drain(app)] == [Status.QUEUED]
        assert [ended.status for ended in run_out(app)] == [Status.DEAD_LETTER]
        assert_history(app, job.id, ["create", "claim", "fail", "retry", "claim", "fail", "bury"])


def test_running_out_needs_a_clock_that_can_be_advanced(tmp_path: Path) -> None:
    with (
        bootstrap(Settings(database_url="memory://"), jobs=registry()) as app,
        pytest.raises(InvalidInput, match="SimulatedClock"),
    ):
        run_out(app)


def test_a_failure_of_the_database_is_raised(tmp_path: Path) -> None:
    url = file_url(tmp_path / "no-such-folder" / "heimdex.db")
    with bootstrap(Settings(database_url=url), jobs=registry()) as app, pytest.raises(DatabaseUnavailable):
        drain(app)
