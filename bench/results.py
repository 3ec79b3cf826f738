"""What a run found: one value for each metric, peer and round. Kept as JSON, to which a later run can add."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from attrs import asdict, evolve, field, frozen

from bench.cases import Metric
from bench.figures import Interval, ratio

OURS = "heimdex"
FLOOR = "floor"
FILE = "results.json"


@frozen(kw_only=True)
class Measured:
    """One metric of one peer in one round."""

    case: str
    peer: str
    round: int
    metric: str
    value: float
    jobs: int


@frozen(kw_only=True)
class Failure:
    case: str
    peer: str
    why: str


@frozen(kw_only=True)
class Outcome:
    """All that a run found. `stores` says for each peer where its jobs were, `seconds` how long each case took."""

    machine: Mapping[str, str]
    stores: dict[str, str]
    measured: list[Measured] = field(factory=list)
    failures: list[Failure] = field(factory=list)
    samples: dict[str, list[float]] = field(factory=dict)
    seconds: dict[str, float] = field(factory=dict)

    def by_round(self, case: str, peer: str, metric: str) -> dict[int, float]:
        return {
            one.round: one.value for one in self.measured if (one.case, one.peer, one.metric) == (case, peer, metric)
        }

    def values(self, case: str, peer: str, metric: str) -> list[float]:
        """Return one value for each round, in their order."""
        found = self.by_round(case, peer, metric)
        return [found[number] for number in sorted(found)]

    def jobs(self, case: str, peer: str) -> int:
        return next(one.jobs for one in self.measured if (one.case, one.peer) == (case, peer))

    def peers(self, case: str) -> list[str]:
        """Return who took part, in the order of their first run."""
        return list(dict.fromkeys(one.peer for one in self.measured if one.case == case))

    def forget(self, case: str, peer: str | None = None) -> None:
        """Leave out what was found of a case; with `peer`, of that one alone."""
        self.measured[:] = [one for one in self.measured if one.case != case or (peer is not None and one.peer != peer)]
        if peer is None:
            self.failures[:] = [one for one in self.failures if one.case != case]


def ours_in(outcome: Outcome, case: str) -> str | None:
    """Return the name under which we took part in a case."""
    return next((peer for peer in outcome.peers(case) if peer.partition(",")[0] == OURS), None)


def best_peer(outcome: Outcome, case: str, metric: Metric) -> str | None:
    """Return the peer with the best median whose jobs are where ours are; the floor is none."""
    ours = ours_in(outcome, case)
    rivals = [
        peer
        for peer in outcome.peers(case)
        if ours is not None
        and peer.partition(",")[0] not in {OURS, FLOOR}
        and outcome.stores[peer] == outcome.stores[ours]
    ]
    if not rivals:
        return None
    pick = max if metric.more_is_better else min
    return pick(rivals, key=lambda peer: median(outcome.values(case, peer, metric.name)))


def compared(outcome: Outcome, case: str, metric: str, ours: str, peer: str) -> Interval | None:
    """Return ours by theirs, of the rounds in which both ran; None where there is none, or theirs is zero."""
    mine, theirs = outcome.by_round(case, ours, metric), outcome.by_round(case, peer, metric)
    both = sorted(mine.keys() & theirs.keys())
    if not both or not all(theirs[number] for number in both):
        return None
    return ratio([mine[number] for number in both], [theirs[number] for number in both])


def write_json(outcome: Outcome, folder: Path) -> None:
    """Write `results.json`: one line for each value, so that a change of it can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        f'"machine": {json.dumps(outcome.machine)}',
        f'"stores": {json.dumps(outcome.stores)}',
        f'"seconds": {json.dumps({case: round(seconds, 1) for case, seconds in outcome.seconds.items()})}',
        '"failures": [\n' + ",\n".join(json.dumps(asdict(one)) for one in outcome.failures) + "\n]",
        '"measured": [\n' + ",\n".join(json.dumps(_short(one)) for one in outcome.measured) + "\n]",
        '"samples": {\n'
        + ",\n".join(
            f"{json.dumps(name)}: {json.dumps([_digits(value) for value in values])}"
            for name, values in outcome.samples.items()
        )
        + "\n}",
    ]
    (folder / FILE).write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def read_json(folder: Path) -> Outcome | None:
    """Return what an earlier run left in a folder; None where there is nothing."""
    if not (folder / FILE).exists():
        return None
    said = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return Outcome(
        machine=said["machine"],
        stores=said["stores"],
        measured=[Measured(**one) for one in said["measured"]],
        failures=[Failure(**one) for one in said["failures"]],
        samples=said["samples"],
        seconds=said["seconds"],
    )


def _short(one: Measured) -> dict[str, object]:
    return asdict(evolve(one, value=_digits(one.value)))


def _digits(value: float) -> float:
    return float(f"{value:.6g}")
