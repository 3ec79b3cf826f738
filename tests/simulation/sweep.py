"""`make sweep`: every fault at every call of a port, in every use case; `make sweep PAIRS=1`: all pairs, too.

`make sweep CASE=claim FAULTS="7:crash_after 9:40001"` shows one run, with its trace.
"""

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import Pool
from typing import TypeAlias

from attrs import define, frozen
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from heimdex.testing.simulator.chance import NO_CHANCE, NO_HASTE
from heimdex.testing.simulator.faults import Fault
from heimdex.testing.simulator.sweeping import Case, Faults, Swept, each_fault, run_case
from tests.simulation.client_cases import CLIENT_CASES
from tests.simulation.operator_cases import OPERATOR_CASES
from tests.simulation.worker_cases import WORKER_CASES

CASES: dict[str, Callable[[], Case]] = {**CLIENT_CASES, **OPERATOR_CASES, **WORKER_CASES}
IN_PAIRS = ("create", "cancel, queued", "cancel, running", "claim", "renew", "finish", "expire", "release")

Task: TypeAlias = tuple[str, Faults]
"""A case, and the faults that each run has beside its last one."""


@frozen
class Failure:
    case: str
    seed: int
    faults: Faults
    what: str

    @property
    def again(self) -> str:
        faults = " ".join(f"{number}:{fault}" for number, fault in self.faults.items())
        long = " ARGS=--long" if self.seed == NO_HASTE else ""
        return f'make sweep CASE="{self.case}" FAULTS="{faults}"{long}'


@define(eq=False)
class Counts:
    """How many runs a case has had, and what was wrong with some."""

    calls: int = 0
    alone: int = 0
    pairs: int = 0
    failed: int = 0


def runs_with_one_fault(case: str) -> Iterator[Swept]:
    yield run_case(CASES[case], {})
    yield from each_fault(CASES[case])


def runs_with_two(case: str, first: Faults) -> Iterator[Swept]:
    """Yield the runs of a case with one fault and every one that can come after it."""
    yield from run_case(CASES[case], first).with_one_more()


def failures_of(case: str, runs: Iterable[Swept]) -> tuple[int, list[Failure]]:
    """Return how many runs there were, and what was wrong."""
    count, failures = 0, []
    for swept in runs:
        count += 1
        failures += [Failure(case, swept.seed, swept.faults, what) for what in swept.failures[:1]]
    return count, failures


def _alone(case: str) -> tuple[str, int, list[Failure]]:
    logging.disable(logging.CRITICAL)
    return case, *failures_of(case, runs_with_one_fault(case))


def _in_pairs(task: Task) -> tuple[str, int, list[Failure]]:
    logging.disable(logging.CRITICAL)
    case, first = task
    return case, *failures_of(case, runs_with_two(case, first))


def sweep(cases: Sequence[str], *, pairs: bool, processes: int, console: Console) -> list[Failure]:
    counts = {case: Counts(calls=len(run_case(CASES[case], {}).calls)) for case in cases}
    failures: list[Failure] = []
    began = time.monotonic()
    with Pool(processes) as pool, Progress(console=Console(stderr=True), transient=True) as progress:
        for case, count, failed in progress.track(
            pool.imap_unordered(_alone, cases), total=len(cases), description="one fault"
        ):
            counts[case].alone += count
            counts[case].failed += len(failed)
            failures += failed
        if pairs:
            firsts: list[Task] = [
                (case, swept.faults)
                for case in cases
                if case in IN_PAIRS
                for swept in run_case(CASES[case], {}).with_one_more()
            ]
            for case, count, failed in progress.track(
                pool.imap_unordered(_in_pairs, firsts, 4), total=len(firsts), description="two faults"
            ):
                counts[case].pairs += count
                counts[case].failed += len(failed)
                failures += failed
    show(counts, time.monotonic() - began, console)
    return failures


def show(counts: dict[str, Counts], seconds: float, console: Console) -> None:
    runs = sum(count.alone + count.pairs for count in counts.values())
    failed = sum(count.failed for count in counts.values())
    table = Table(title=f"{runs:,} runs, {failed:,} violations, {seconds:,.0f} s")
    table.add_column("use case")
    for column in ("calls", "runs with one fault", "runs with two", "violations"):
        table.add_column(column, justify="right")
    for case, count in counts.items():
        table.add_row(
            case, str(count.calls), f"{count.alone:,}", f"{count.pairs:,}" if count.pairs else "", str(count.failed)
        )
    console.print(table)


def replay(case: str, faults: Faults, seed: int, console: Console) -> int:
    swept = run_case(CASES[case], faults, seed=seed, traced=True)
    for line in swept.run.trace:
        console.out(line, highlight=False)
    for number, call in enumerate(swept.calls, start=1):
        console.out(f"call {number}: {call}{f' !{faults[number]}' if number in faults else ''}", highlight=False)
    console.out(f"{case}: {'; '.join(swept.failures) or 'no violation'}", highlight=False)
    return 1 if swept.failures else 0


def faults_of(text: str) -> Faults:
    """Return faults from text like "7:crash_after 9:40001"."""
    parts = (part.partition(":") for part in text.split())
    return {int(number): Fault(fault) for number, _, fault in parts}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", action="store_true", help=f"two faults, too: {'; '.join(IN_PAIRS)}")
    parser.add_argument("--case", choices=CASES, help="this use case only")
    parser.add_argument("--faults", type=faults_of, help="show this one run of it instead")
    parser.add_argument("--long", action="store_true", help="what takes a while takes long in it")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    if asked.faults is not None and not asked.case:
        parser.error("--faults needs --case: the calls are counted in one use case")
    console = Console()
    logging.disable(logging.CRITICAL)
    if asked.case and asked.faults is not None:
        return replay(asked.case, asked.faults, NO_HASTE if asked.long else NO_CHANCE, console)
    cases = [asked.case] if asked.case else list(CASES)
    failures = sweep(cases, pairs=asked.pairs, processes=asked.processes, console=console)
    for failure in failures[:10]:
        console.out(f"{failure.what}\n  again: {failure.again}", highlight=False)
    if failures:
        replay(failures[0].case, failures[0].faults, failures[0].seed, console)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
