"""How a run goes through a case: who runs in which round, and what a failure costs."""

from pathlib import Path

import psycopg2
import pytest
from attrs import evolve

from bench.cases import Bench, Case
from bench.catalogue import Peer, catalogue
from bench.places import Places
from bench.processes import PeerFailed, Runner
from bench.results import Outcome
from bench.run import Effort, Run

RATES = {"heimdex": 500.0, "floor": 900.0, "swift": 400.0, "slow": 100.0, "kept in Redis": 800.0}


def _peers() -> list[Peer]:
    known = {peer.name: peer for peer in catalogue()}
    return [
        known["heimdex"],
        known["floor"],
        evolve(known["pgqueuer"], name="swift"),
        evolve(known["procrastinate"], name="slow"),
        evolve(known["celery"], name="kept in Redis"),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    stores = {peer.name: peer.store for peer in _peers()}
    effort = Effort(rounds=7, seconds=10, peer_seconds=2, pickups=5, most_jobs=3_000)
    return Run(Bench(Places("", None, tmp_path), Runner(tmp_path, 1), 5), effort, Outcome(machine={}, stores=stores))


def _case(breaks: dict[str, Exception] | None = None, *, at: int = 1) -> Case:
    """Return a case in which each peer has its rate, and some break at their run number `at`."""
    runs: dict[str, int] = {}

    def measure(_: Bench, peer: Peer, jobs: int) -> dict[str, float]:
        runs[peer.name] = runs.get(peer.name, 0) + 1
        assert jobs
        if breaks and peer.name in breaks and runs[peer.name] == at:
            raise breaks[peer.name]
        return {"rate": RATES[peer.name]}

    return Case(name="drain-1", title="a drain", measure=measure, first_jobs=1_000)


def test_who_cannot_be_the_best_peer_runs_in_every_third_round(run: Run) -> None:
    run.measure(_case(), _peers())

    rounds = {name: sorted(run.outcome.by_round("drain-1", name, "rate")) for name in RATES}

    assert rounds == {
        "heimdex": [0, 1, 2, 3, 4, 5, 6],
        "floor": [0, 1, 2, 3, 4, 5, 6],
        "swift": [0, 1, 2, 3, 4, 5, 6],
        "slow": [0, 3, 6],
        "kept in Redis": [0, 3, 6],
    }


def test_a_run_is_as_long_as_was_asked_for_and_no_longer_than_allowed(run: Run) -> None:
    run.measure(_case(), _peers())

    assert {name: run.outcome.jobs("drain-1", name) for name in RATES} == {
        "heimdex": 3_000,
        "floor": 3_000,
        "swift": 800,
        "slow": 200,
        "kept in Redis": 1_600,
    }


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("error", [PeerFailed("it\nended by itself"), psycopg2.OperationalError("")])
def test_a_peer_that_fails_is_left_out_and_the_others_go_on(run: Run, error: Exception, at: int) -> None:
    run.measure(_case({"swift": error}, at=at), _peers())

    assert run.outcome.peers("drain-1") == ["heimdex", "floor", "slow", "kept in Redis"]
    assert [(one.case, one.peer, one.why) for one in run.outcome.failures] == [("drain-1", "swift", str(error))]


def test_a_case_that_is_measured_again_takes_the_place_of_what_was_known(run: Run) -> None:
    run.measure(_case({"swift": PeerFailed("no")}), _peers())
    run.measure(_case(), _peers()[:3])

    assert run.outcome.peers("drain-1") == ["heimdex", "floor", "swift"]
    assert run.outcome.failures == []


@pytest.mark.parametrize("resumed", [False, True])
def test_a_case_sized_as_an_earlier_one_needs_no_trial(run: Run, *, resumed: bool) -> None:
    run.measure(_case(), _peers())
    later = evolve(_case({name: PeerFailed("a trial") for name in RATES}, at=8), name="drain-2", sized_as="drain-1")
    if resumed:
        run.rates.clear()

    run.measure(later, _peers())

    assert run.outcome.failures == []
    assert run.outcome.jobs("drain-2", "swift") == 800
