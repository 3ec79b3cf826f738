"""Jobs that kill their process, in simulated time: only they pay for it."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from heimdex.bootstrap import Application
from heimdex.domain.commands import CreateJobs
from heimdex.domain.job import MAX_CRASHES
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import Tenant
from heimdex.domain.transitions import Status
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.pace import WorkerSettings
from heimdex.testing.simulator.machine import end_process, take
from heimdex.testing.simulator.plan import LEASE, Plan, Scenario
from heimdex.testing.simulator.simulation import Simulation

JOBS = 1_000
BATCH = 100
TENANT = Tenant(UUID(int=1), actor="user@example.com")


def jobs_with_poison() -> JobRegistry:
    jobs = JobRegistry()

    @jobs.register("poison.test")
    def act(payload: dict[str, Any], ctx: JobContext) -> None:
        take(timedelta(milliseconds=20))
        if payload["poison"]:
            end_process()

    return jobs


def create_all(app: Application) -> None:
    # Each hundredth kills, at another place of its hundred each time.
    payloads = [{"n": n, "poison": n % 100 == n // 100 * 7} for n in range(JOBS)]
    new = [NewJob("poison.test", payload, idempotency_key=f"job {payload['n']}") for payload in payloads]
    app.handle(CreateJobs(scope=TENANT, new_jobs=new))


def test_poison_is_buried_after_three_crashes_and_costs_nobody_else_an_attempt() -> None:
    scenario = Scenario(jobs=jobs_with_poison(), clients={"caller": create_all}, faults=False)
    settings = WorkerSettings(batch=BATCH, lease=LEASE, renew=LEASE / 3, sweep=timedelta(seconds=2))
    simulation = Simulation(scenario, Plan(seed=1, workers=3, slots=4, trouble=0.0, settings=settings))

    run = simulation.run()

    assert run.violations == ()
    jobs = simulation.ledger.store.rows.jobs.values()
    poison = [job for job in jobs if job.payload_json.endswith('"poison":true}')]
    others = [job for job in jobs if job not in poison]
    starts = simulation.observer.starts
    assert (len(poison), len(others)) == (JOBS // 100, JOBS - JOBS // 100)
    assert {(job.status, job.crashes) for job in poison} == {(Status.DEAD_LETTER, MAX_CRASHES)}
    # One of its crashes may have been that of another one beside which it waited.
    assert {starts[job.id] for job in poison} <= {MAX_CRASHES - 1, MAX_CRASHES}
    assert {(job.status, job.attempt) for job in others} == {(Status.SUCCEEDED, 1)}
    assert max(job.crashes for job in others) < MAX_CRASHES
