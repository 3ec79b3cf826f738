"""Every fault at every call of a port, in every use case; and some pairs of faults that have shown something."""

import logging
from collections.abc import Iterator

import pytest

from heimdex.testing.simulator.chance import NO_CHANCE, NO_HASTE
from heimdex.testing.simulator.faults import Fault
from heimdex.testing.simulator.sweeping import run_case
from tests.simulation.sweep import CASES, IN_PAIRS, Failure, faults_of, runs_with_one_fault, runs_with_two


@pytest.fixture(autouse=True)
def no_log() -> Iterator[None]:
    """Thousands of runs say thousands of times that something fails."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("case", CASES)
def test_no_fault_alone_breaks_a_rule(case: str) -> None:
    runs = list(runs_with_one_fault(case))

    assert [Failure(case, run.seed, run.faults, run.failures[0]).again for run in runs if run.failures] == []
    assert len(runs) > len(Fault)


@pytest.mark.parametrize("first", [fault for fault in Fault if fault is not Fault.DELAY])
def test_no_pair_of_faults_breaks_a_rule_when_a_job_is_created(first: Fault) -> None:
    failures = [run.failures for run in runs_with_two("create", {3: first}) if run.failures]

    assert failures == []


def test_every_case_in_pairs_is_a_case() -> None:
    assert set(IN_PAIRS) <= set(CASES)


@pytest.mark.parametrize("seed", [NO_CHANCE, NO_HASTE])
def test_a_case_without_chance_gives_the_same_trace_twice(seed: int) -> None:
    first, second = (run_case(CASES["finish"], {7: Fault.PAUSE}, seed=seed, traced=True) for _ in range(2))

    assert first.run.trace == second.run.trace
    assert any("!pause_beyond_lease" in line for line in first.run.trace)


def test_a_fault_that_does_not_happen_is_a_failure() -> None:
    [failure] = run_case(CASES["create"], {999: Fault.DELAY}).failures

    assert failure.startswith("not_reached")


def test_a_failure_says_how_to_see_it_again() -> None:
    failure = Failure("claim", NO_CHANCE, {7: Fault.CRASH_AFTER, 9: Fault.SERIALIZATION}, "stuck")

    assert failure.again == 'make sweep CASE="claim" FAULTS="7:crash_after 9:40001"'
    assert faults_of("7:crash_after 9:40001") == failure.faults
