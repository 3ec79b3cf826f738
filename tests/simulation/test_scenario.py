"""What a scenario says of its run, and what is said of user code that fails in one."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from heimdex.bootstrap import Application
from heimdex.domain.backoff import Fixed
from heimdex.domain.scope import Tenant
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.testing.simulator.plan import Client, Scenario, plan_of
from heimdex.testing.simulator.running import run_one

TENANT = Tenant(UUID(int=1), actor="user@example.com")
SEED = 3


def create_one(app: Application) -> None:
    with app.unit_of_work(TENANT) as uow:
        uow.jobs.create("slow.test", {}, idempotency_key="one")


def with_waits(wait: timedelta, **limits: Any) -> Scenario:  # noqa: ANN401 - of several types
    jobs = JobRegistry()

    @jobs.register("slow.test", max_attempts=9, backoff=Fixed(base=wait))
    def act(_: dict[str, Any], ctx: JobContext) -> None:
        if ctx.job.attempt == 1:
            raise ValueError("not yet")

    return Scenario(jobs=jobs, clients={"caller": create_one}, faults=False, **limits)


def violations_of(scenario: Scenario) -> list[tuple[str, str]]:
    return [(violation.rule, violation.what) for violation in run_one(lambda _: scenario, plan_of(SEED)).violations]


def test_a_wait_of_some_minutes_fits_into_every_run() -> None:
    assert violations_of(with_waits(timedelta(minutes=3))) == []


def test_a_run_of_too_many_calls_is_ended_and_says_how_many_it_may_make() -> None:
    [(rule, what)] = violations_of(with_waits(timedelta(minutes=3), calls=500))

    assert rule == "busy_loop"
    assert what.startswith("500 calls of the ledger (Scenario.calls) in ")


def test_a_wait_longer_than_the_healing_is_stuck_and_a_longer_healing_lets_it_end() -> None:
    wait = timedelta(minutes=20)

    [(rule, _)] = violations_of(with_waits(wait, calls=60_000))
    assert rule == "stuck"
    assert violations_of(with_waits(wait, calls=60_000, healing=2 * wait)) == []


def failing(client: Client) -> Scenario:
    return Scenario(jobs=JobRegistry(), clients={"caller": client}, faults=False)


def test_an_error_that_nobody_handled_says_where_it_was_raised() -> None:
    def stumble(_: Application) -> None:
        raise ZeroDivisionError("too small")

    [(rule, what)] = violations_of(failing(stumble))

    assert rule == "unhandled_error"
    assert what.endswith("ZeroDivisionError: too small")
    assert ", in stumble\n" in what


def test_an_assertion_without_a_text_says_where_it_failed() -> None:
    def expect_silently(_: Application) -> None:
        raise AssertionError

    def expect_in_words(_: Application) -> None:
        raise AssertionError("two are one")

    line = expect_silently.__code__.co_firstlineno + 1
    assert violations_of(failing(expect_silently)) == [("caller", f"an assert in {__file__}:{line}")]
    assert violations_of(failing(expect_in_words)) == [("caller", "two are one")]
