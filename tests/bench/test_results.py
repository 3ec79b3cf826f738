"""What a run found, kept and read again; the rounds that are compared; what is drawn."""

from pathlib import Path

from bench.cases import CASES, SNAPSHOT_ROUNDS, Case
from bench.figures import median_interval
from bench.pictures import pictures
from bench.report import figures, sections
from bench.results import Failure, Measured, Outcome, compared, read_json, write_json

STORES = {"heimdex": "postgres", "floor": "postgres", "swift": "postgres", "slow": "postgres", "other": "redis"}
RATES = {"heimdex": 300.0, "floor": 400.0, "swift": 200.0, "slow": 100.0, "other": 900.0}


def _case(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def _outcome(*names: str) -> Outcome:
    outcome = Outcome(machine={"processors": "2"}, stores=dict(STORES))
    for name in names:
        for peer, rate in RATES.items():
            for number in range(0, 4, 3 if peer == "slow" else 1):
                outcome.measured.extend(
                    Measured(case=name, peer=peer, round=number, metric=metric.name, value=rate * (1 + number), jobs=10)
                    for metric in _case(name).metrics
                )
    return outcome


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    outcome = _outcome("drain-1")
    outcome.failures.append(Failure(case="install", peer="oban", why="no Python"))
    outcome.samples["pickup, heimdex"] = [1.5, 2.0]
    outcome.seconds["drain-1"] = 12.0

    write_json(outcome, tmp_path / "new")

    assert read_json(tmp_path / "new") == outcome
    assert read_json(tmp_path) is None


def test_only_rounds_in_which_both_ran_are_compared() -> None:
    outcome = _outcome("drain-1")

    interval = compared(outcome, "drain-1", "rate", "heimdex", "slow")

    assert interval is not None
    assert (interval.low, interval.middle, interval.high) == (3.0, 3.0, 3.0)
    assert outcome.values("drain-1", "slow", "rate") == [100.0, 400.0]


def test_a_figure_is_against_the_best_peer_of_our_own_store_and_the_floor() -> None:
    case = _case("drain-1")

    assert figures(_outcome("drain-1"), case, case.metrics[0]) == [
        "heimdex: 1.50 times swift, the best peer (median 1.50)",
        "heimdex: 0.75 times the floor (median 0.75)",
    ]


def test_a_case_is_forgotten_alone_and_a_peer_of_it_too() -> None:
    outcome = _outcome("drain-1", "drain-2")

    outcome.forget("drain-1", "swift")
    outcome.forget("drain-2")

    assert outcome.peers("drain-1") == ["heimdex", "floor", "slow", "other"]
    assert outcome.peers("drain-2") == []


def test_every_metric_has_a_picture_and_every_picture_its_place_on_the_page() -> None:
    outcome = _outcome("drain-1", "held-snapshot")
    outcome.samples.update({f"held-snapshot, {peer}": [1.0] * 2 * SNAPSHOT_ROUNDS for peer in RATES})

    drawn = {picture.file: picture for picture in pictures(outcome)}

    page = "\n".join(sections(outcome, "there/"))
    assert all(f"(there/{file})" in page for file in drawn)
    assert [bar.name for bar in drawn["drain-1-rate.svg"].bars] == [
        "heimdex",
        "floor",
        "swift",
        "slow",
        "other (redis)",
    ]
    assert {len(line.values) for line in drawn["held-snapshot-rounds.svg"].lines} == {SNAPSHOT_ROUNDS}
    assert [bar.value for bar in drawn["overview.svg"].bars] == [1.5, 1.5]


def test_a_median_has_an_interval_of_its_own_rounds() -> None:
    interval = median_interval([1.0, 2.0, 3.0])

    assert (interval.low, interval.middle, interval.high) == (1.0, 2.0, 3.0)
