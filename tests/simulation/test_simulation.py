"""The simulator itself: runs that repeat, faults that happen, failures that are found and made smaller."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from heimdex.bootstrap import Application
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import InvalidInput
from heimdex.domain.new_job import NewJob
from heimdex.domain.scope import Tenant
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.testing.simulator.plan import Scenario, plan_of
from heimdex.testing.simulator.running import run_one, simulate
from tests.simulation.traffic import scenario_of

ROOT = Path(__file__).parents[2]


def test_some_seeds_show_no_violation() -> None:
    totals = simulate(scenario_of, range(40))

    assert totals.runs == 40
    assert (totals.fewest_actors or 0) >= 4
    assert (totals.fewest_calls or 0) >= 200
    assert (totals.fewest_jobs or 0) >= 10
    assert totals.fewest_organisations == 3
    assert totals.quiet == 0


def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    program = (
        "from tests.simulation.simulate import *\n"
        "print(*run_one(scenario_of, plan_of(7), traced=True).trace, sep='\\n')"
    )
    traces = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(["src", "."])},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]

    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > 200


def test_another_seed_is_another_run() -> None:
    first, second = (run_one(scenario_of, plan_of(seed), traced=True) for seed in (1, 2))

    assert first.trace != second.trace


def test_a_simulation_without_a_seed_shows_nothing_and_says_so() -> None:
    with pytest.raises(InvalidInput, match="give at least one seed"):
        simulate(scenario_of, range(0))


def test_an_async_function_that_awaits_what_is_not_simulated_is_told_of() -> None:
    jobs = JobRegistry()

    @jobs.register("t")
    async def waits(payload: dict[str, object], ctx: JobContext) -> None:
        await asyncio.sleep(0.1)

    def create(app: Application) -> None:
        app.handle(CreateJobs(scope=Tenant(UUID(int=1), actor="a"), new_jobs=[NewJob("t", idempotency_key="k")]))

    def scenario(_: int) -> Scenario:
        return Scenario(jobs=jobs, clients={"caller": create}, faults=False)

    with pytest.raises(AssertionError, match="not_simulated: the function of t: no running event loop"):
        simulate(scenario, range(1))
