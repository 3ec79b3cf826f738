"""Many runs: what they reached, the first that failed, made smaller, and how to see it again."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from attrs import define, evolve, field

from heimdex.domain.errors import InvalidInput
from heimdex.testing.simulator.plan import Plan, ScenarioOf, plan_of
from heimdex.testing.simulator.simulation import Run, Simulation

_SHOWN_LINES = 60


@define(eq=False)
class Totals:
    """What many runs came to. `reached` counts the runs in which a condition was so, not how often it was."""

    runs: int = 0
    quiet: int = 0
    calls: int = 0
    jobs: int = 0
    fewest_calls: int | None = None
    fewest_jobs: int | None = None
    fewest_actors: int | None = None
    fewest_organisations: int | None = None
    seconds: float = 0.0
    by_fault: Counter[str] = field(factory=Counter)
    reached: Counter[str] = field(factory=Counter)

    def add(self, run: Run) -> None:
        calls = run.calls.total()
        self.fewest_calls = _fewer(self.fewest_calls, calls)
        self.fewest_jobs = _fewer(self.fewest_jobs, run.jobs)
        self.fewest_actors = _fewer(self.fewest_actors, run.actors)
        self.fewest_organisations = _fewer(self.fewest_organisations, run.organisations)
        self.runs += 1
        self.quiet += not run.faults
        self.calls += calls
        self.jobs += run.jobs
        self.seconds += run.seconds
        self.by_fault.update({str(fault): count for fault, count in run.faults.items()})
        self.reached.update(run.reached.keys())


def simulate(
    scenario: ScenarioOf, seeds: Iterable[int] = range(100), *, look: Callable[[Run], object] = lambda _: None
) -> Totals:
    """Run a scenario once for each seed. The first failure is made smaller, and raised with what shows it again.

    Args:
        look: called with each run.

    Raises:
        InvalidInput: there is no seed.
        AssertionError: a rule was broken; the text has the rule, the seed, the plan and the end of the trace.
    """
    totals = Totals()
    for seed in seeds:
        run = run_one(scenario, plan_of(seed))
        if run.violations:
            raise AssertionError(report(scenario, smaller(scenario, run)))
        totals.add(run)
        look(run)
    if not totals.runs:
        raise InvalidInput("seeds", seeds, "give at least one seed: without a run nothing is shown")
    return totals


def run_one(scenario: ScenarioOf, plan: Plan, *, traced: bool = False) -> Run:
    """Run a plan. The same plan twice gives the same trace, byte by byte."""
    with _silence(logging.getLogger("heimdex.worker")):
        return Simulation(scenario(plan.seed), plan, traced=traced).run()


def smaller(scenario: ScenarioOf, failed: Run) -> Run:
    """Return the failure with as little trouble as shows it: fewer workers, fewer kinds of faults, a shorter time."""
    smallest = failed
    for change in _changes(failed):
        run = run_one(scenario, change(smallest.plan))
        # Another failure would be another bug.
        if run.violations and run.violations[0].rule == failed.violations[0].rule:
            smallest = run
    return smallest


def report(scenario: ScenarioOf, failed: Run) -> str:
    """Return what a person needs to understand a failure, and to see it again."""
    again = run_one(scenario, failed.plan, traced=True)
    lines = [
        f"seed {failed.plan.seed}: {failed.violations[0]}",
        f"{failed.plan}",
        f"faults: {', '.join(sorted(failed.sites)) or 'none'}",
        f"the same again, made smaller in the same way: simulate(..., seeds=[{failed.plan.seed}])",
        f"the last lines of the trace (of {len(again.trace)}):",
    ]
    return "\n  ".join([*lines, *again.trace[-_SHOWN_LINES:]])


@contextmanager
def _silence(logger: logging.Logger) -> Iterator[None]:
    """Keep back what simulated workers have to say: in most runs they lose their database again and again."""
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _changes(failed: Run) -> Iterator[Callable[[Plan], Plan]]:
    for count in range(1, failed.plan.workers):
        yield lambda plan, count=count: evolve(plan, workers=min(plan.workers, count))  # type: ignore[misc]  # a default binds it
    for share in (0.25, 0.5, 0.75):
        trouble = failed.plan.trouble * share
        yield lambda plan, trouble=trouble: evolve(plan, trouble=min(plan.trouble, trouble))  # type: ignore[misc]  # as above
    for site in sorted(failed.sites):
        yield lambda plan, site=site: evolve(plan, without=plan.without.union([site]))  # type: ignore[misc]  # as above


def _fewer(before: int | None, now: int) -> int:
    return now if before is None else min(before, now)
