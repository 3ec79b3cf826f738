"""The death of a worker, and what comes after it."""

from datetime import timedelta
from typing import Any

import pytest

from heimdex import InvalidInput, JobContext, JobRegistry, Status, System
from heimdex.testing import SimulatedApplication, application, assert_history
from tests.testing.kit import create, registry, sign_up

LEASE = timedelta(seconds=30)


def counting() -> tuple[SimulatedApplication, list[int]]:
    """Return an application and the attempts in which its only job function was called."""
    calls: list[int] = []
    jobs = JobRegistry()

    @jobs.register("one")
    def one(payload: dict[str, Any], ctx: JobContext) -> None:
        calls.append(ctx.job.attempt)
        ctx.create("one.more")

    jobs.register("one.more")(lambda payload, ctx: None)
    return application(jobs), calls


def test_before_the_start_the_function_is_not_called() -> None:
    app, calls = counting()
    job = create(app, "one")

    left = app.crash("before_start")

    assert (left.id, left.status, left.attempt, left.crashes) == (job.id, Status.RUNNING, 1, 0)
    assert left.lease_until == app.clock.now() + LEASE
    assert calls == []
    assert_history(app, job.id, ["create", "claim"])


def test_before_the_finish_the_function_was_called_and_all_of_its_outcome_is_lost() -> None:
    app, calls = counting()
    job = create(app, "one")

    assert app.crash("before_finish").status is Status.RUNNING

    assert calls == [1]
    assert_history(app, job.id, ["create", "claim"])
    app.clock.advance(LEASE)
    assert [ended.type for ended in app.drain()] == ["one", "one.more"]
    assert calls == [1, 1]


def test_after_the_finish_the_outcome_is_kept() -> None:
    app, calls = counting()
    job = create(app, "one")

    assert app.crash("after_finish").status is Status.SUCCEEDED

    app.run_out()
    assert calls == [1]
    assert_history(app, job.id, ["create", "claim", "succeed"])


def test_the_job_waits_for_its_lease_and_is_then_given_back_and_run(app: SimulatedApplication) -> None:
    job = sign_up(app, "a@example.com")
    app.crash("before_finish")

    app.clock.advance(LEASE - timedelta(milliseconds=1))
    assert app.drain() == []

    app.clock.advance(timedelta(milliseconds=1))
    [ended] = app.drain()
    assert (ended.status, ended.crashes, ended.attempt) == (Status.SUCCEEDED, 1, 1)
    assert_history(app, job.id, ["create", "claim", "expire", "retry", "claim", "succeed"])


def test_three_crashes_bury_a_job(app: SimulatedApplication) -> None:
    sign_up(app, "a@example.com")
    for _ in range(3):
        app.crash("before_finish")
        app.clock.advance(LEASE)

    assert [job.status for job in app.drain()] == [Status.DEAD_LETTER]


def test_the_worker_dies_with_the_first_job_of_the_type_and_runs_what_is_due_before(app: SimulatedApplication) -> None:
    parent = create(app, "mail.all", {"to": ["a@example.com", "b@example.com"]})

    left = app.crash("before_finish", type="mail.welcome")

    assert (left.type, left.payload) == ("mail.welcome", {"to": "a@example.com", "language": "en"})
    assert app.job(parent.id).status is Status.SUCCEEDED


def test_a_dead_worker_stays_on_record_as_after_kill_9(app: SimulatedApplication) -> None:
    sign_up(app, "a@example.com")
    left = app.crash("before_start")

    with app.views(System(actor="test", reason="workers belong to no organisation")) as views:
        assert [worker.id for worker in views.workers()] == [left.claimed_by]


def test_without_a_due_job_no_worker_can_die(app: SimulatedApplication) -> None:
    create(app, "mail.poll", {"every": 60})
    app.drain()

    with pytest.raises(AssertionError, match=r"no job was due.*\(1\):\n  mail.poll .* 12:01:00") as raised:
        app.crash("before_start")
    assert len(str(raised.value).splitlines()) == 2
    with pytest.raises(AssertionError, match=r"no job of type mail\.welcome was due"):
        app.crash("before_start", type="mail.welcome")


def test_a_point_that_is_none_is_refused(app: SimulatedApplication) -> None:
    with pytest.raises(InvalidInput, match="give one of before_start, before_finish, after_finish"):
        app.crash("now")  # type: ignore[arg-type]  # what a caller without types may give


def test_a_worker_dies_with_a_job_whose_function_raises(app: SimulatedApplication) -> None:
    job = sign_up(app, "nobody")

    app.crash("after_finish")

    assert_history(app, job.id, ["create", "claim", "fail", "retry"])


def test_the_lease_is_that_of_the_settings() -> None:
    app = application(registry())
    sign_up(app, "a@example.com")

    left = app.crash("before_start")

    assert left.lease_until == app.clock.now() + timedelta(seconds=app.settings.lease_seconds)
