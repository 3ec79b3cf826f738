"""`make simulate SEEDS=20000`: runs the traffic of this folder under faults, and says what came of it.

`make simulate SEED=17` shows one run, with its trace.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pool

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from heimdex.testing.simulator.plan import plan_of
from heimdex.testing.simulator.running import Totals, report, run_one, smaller
from heimdex.testing.simulator.simulation import Run
from tests.simulation.traffic import scenario_of

SOMETIMES = (
    "a commit of unknown outcome was none",
    "a commit of unknown outcome was one",
    "a commit came after it had been looked for",
    "a create was replayed",
    "a function ran on after its lease was lost",
    "a job was buried for its crashes",
    "a job was given back",
    "a job was retried by hand",
    "a lease expired",
    "a lease was renewed from beside its worker",
    "a lock was waited for",
    "a running job was canceled",
    "a stale write was refused",
    "a success beat a cancel",
    "a suspect was started",
    "a worker was asked to stop",
    "attempts were used up",
)
"""What must have been so in some run, or the runs have not looked where it matters."""

_CHUNK = 4
_MOST_QUIET = 0.01


def simulated(seed: int) -> Run:
    return run_one(scenario_of, plan_of(seed))


def all_runs(seeds: Sequence[int], processes: int) -> Iterator[Run]:
    if processes == 1:
        yield from map(simulated, seeds)
        return
    with Pool(processes) as pool:
        yield from pool.imap(simulated, seeds, _CHUNK)


def show(totals: Totals, seconds: float, console: Console) -> None:
    table = Table("what", "how much", title=f"{totals.runs:,} runs, 0 violations")
    table.add_row("simulated hours", f"{totals.seconds / 3600:,.1f}")
    table.add_row("seconds here", f"{seconds:,.0f}")
    table.add_row("runs a second", f"{totals.runs / seconds:,.1f}")
    table.add_row("calls of ports", f"{totals.calls:,} (fewest in a run {totals.fewest_calls})")
    table.add_row("jobs", f"{totals.jobs:,} (fewest in a run {totals.fewest_jobs})")
    table.add_row("fewest actors, organisations in a run", f"{totals.fewest_actors}, {totals.fewest_organisations}")
    table.add_row("runs without a fault", f"{totals.quiet} ({totals.quiet / totals.runs:.2%})")
    for fault, count in totals.by_fault.most_common():
        table.add_row(f"fault: {fault}", f"{count:,}")
    for condition in SOMETIMES:
        table.add_row(f"reached: {condition}", f"{totals.reached[condition]:,} runs")
    console.print(table)


def shortcomings(totals: Totals) -> list[str]:
    """Return what keeps these runs from saying much: a run that is too small, too quiet, or has not been everywhere."""
    floors = (
        ("actors", totals.fewest_actors, 4),
        ("calls of ports", totals.fewest_calls, 200),
        ("jobs", totals.fewest_jobs, 10),
        ("organisations", totals.fewest_organisations, 3),
    )
    small = [f"a run had {got} {what}, fewer than {floor}" for what, got, floor in floors if (got or 0) < floor]
    quiet = totals.quiet > 0 and totals.quiet >= _MOST_QUIET * totals.runs
    loud = [f"{totals.quiet} of {totals.runs} runs had no fault"] if quiet else []
    return small + loud + [f"never reached: {condition}" for condition in SOMETIMES if not totals.reached[condition]]


def replay(seed: int, console: Console) -> int:
    """Show one run; one that fails is shown as small as it can be made."""
    run = run_one(scenario_of, plan_of(seed), traced=True)
    if run.violations:
        console.out(report(scenario_of, smaller(scenario_of, run)), highlight=False)
    else:
        for line in run.trace:
            console.out(line, highlight=False)
    console.out(
        f"seed {seed}: {len(run.violations)} violations, {run.calls.total()} calls, {len(run.sites)} fault sites"
    )
    return 1 if run.violations else 0


def _at_least_one(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("give at least one")
    return int(text)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=_at_least_one, default=500, help="how many runs; 500 if not given")
    parser.add_argument("--first", type=int, default=0, help="the seed of the first one")
    parser.add_argument("--seed", type=int, help="show this one run instead")
    parser.add_argument(
        "--as-found", action="store_true", help="name the first failure at once, without making it smaller"
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    console = Console()
    if asked.seed is not None:
        return replay(asked.seed, console)
    seeds = range(asked.first, asked.first + asked.seeds)
    totals, began = Totals(), time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("simulating", total=len(seeds))
        for run in all_runs(seeds, asked.processes):
            if run.violations:
                progress.stop()
                if asked.as_found:
                    console.out(f"seed {run.plan.seed}: {run.violations[0]}", highlight=False)
                    return 1
                console.out(report(scenario_of, smaller(scenario_of, run)), highlight=False)
                console.out(f"again: make simulate SEED={run.plan.seed}")
                return 1
            totals.add(run)
            progress.advance(bar)
    show(totals, time.monotonic() - began, console)
    missing = shortcomings(totals)
    for shortcoming in missing:
        console.out(shortcoming, highlight=False)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
