"""What is drawn of a run. The drawing itself is `plots/draw.py`, with Matplotlib, in an environment of its own."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from attrs import asdict, frozen

from bench.cases import CASES, SNAPSHOT_ROUNDS, Case, Metric
from bench.catalogue import ENVIRONMENTS, ROOT, make_environment
from bench.figures import claimed, median_interval
from bench.results import FLOOR, OURS, Outcome, best_peer, compared, ours_in

OVERVIEW = "overview.svg"
OVERVIEW_TITLE = "Heimdex by the best peer whose jobs are where ours are (more is better)"
SNAPSHOT_FILE = "held-snapshot-rounds.svg"
SNAPSHOT_TITLE = "Drain under one held snapshot, round by round (median of the runs)"
_SCRIPT = ROOT / "bench" / "plots" / "draw.py"
_REQUIREMENTS = ("matplotlib==3.*",)
_SECONDS = 120


@frozen(kw_only=True)
class Bar:
    """A median with its 95 % interval. `kind` is ours, floor or peer."""

    name: str
    value: float
    low: float
    high: float
    kind: str


@frozen(kw_only=True)
class Line:
    name: str
    values: Sequence[float]
    kind: str


@frozen(kw_only=True)
class Picture:
    """One file. `at_one`: the bars are ratios, and a line stands where both are equal."""

    file: str
    title: str
    axis: str
    bars: Sequence[Bar] = ()
    lines: Sequence[Line] = ()
    at_one: bool = False


def file_of(case: Case, metric: Metric) -> str:
    return f"{case.name}-{metric.name}.svg"


def pictures(outcome: Outcome) -> list[Picture]:
    """Return an overview, a picture for each metric of each case, and one of the rounds under a held snapshot."""
    cases = [case for case in CASES if outcome.peers(case.name)]
    found = [_bars(outcome, case, metric) for case in cases for metric in case.metrics]
    if any(case.name == "held-snapshot" for case in cases):
        found.append(_snapshot_rounds(outcome))
    if overview := overview_bars(outcome):
        axis = "times the best peer; the line is the 95 % interval"
        found.append(Picture(file=OVERVIEW, title=OVERVIEW_TITLE, axis=axis, bars=overview, at_one=True))
    return found


def overview_bars(outcome: Outcome) -> list[Bar]:
    """Return ours by the best peer's, for the first metric of each case in which there is such a peer."""
    return [bar for case in CASES if (bar := _by_best_peer(outcome, case)) is not None]


def draw(outcome: Outcome, folder: Path) -> None:
    """Write the pictures as SVG.

    Raises:
        CannotInstall: Matplotlib is not to be had here.
    """
    python = make_environment(ENVIRONMENTS / "plots", _REQUIREMENTS)
    said = json.dumps([asdict(picture) for picture in pictures(outcome)])
    command = [str(python), str(_SCRIPT), str(folder)]
    subprocess.run(command, input=said, text=True, check=True, timeout=_SECONDS)  # noqa: S603 - our script


def _bars(outcome: Outcome, case: Case, metric: Metric) -> Picture:
    bars = []
    for peer in outcome.peers(case.name):
        values = outcome.values(case.name, peer, metric.name)
        interval = median_interval(values)
        # Where Redis is compared with PostgreSQL, the picture says so.
        name = f"{peer} ({outcome.stores[peer]})" if outcome.stores[peer] == "redis" else peer
        bars.append(Bar(name=name, value=interval.middle, low=interval.low, high=interval.high, kind=_kind(peer)))
    better = "more is better" if metric.more_is_better else "less is better"
    return Picture(file=file_of(case, metric), title=case.title, axis=f"{metric.unit} ({better})", bars=bars)


def _snapshot_rounds(outcome: Outcome) -> Picture:
    lines = []
    for peer in outcome.peers("held-snapshot"):
        rates = outcome.samples[f"held-snapshot, {peer}"]
        runs = [rates[start : start + SNAPSHOT_ROUNDS] for start in range(0, len(rates), SNAPSHOT_ROUNDS)]
        lines.append(Line(name=peer, values=[median(run) for run in zip(*runs, strict=True)], kind=_kind(peer)))
    return Picture(file=SNAPSHOT_FILE, title=SNAPSHOT_TITLE, axis="jobs a second", lines=lines)


def _by_best_peer(outcome: Outcome, case: Case) -> Bar | None:
    metric = case.metrics[0]
    ours, best = ours_in(outcome, case.name), best_peer(outcome, case.name, metric)
    found = None if ours is None or best is None else compared(outcome, case.name, metric.name, ours, best)
    if found is None:
        return None
    name = f"{case.name}: {metric.name}\n(best: {best})"
    if metric.more_is_better:
        return Bar(name=name, value=found.middle, low=found.low, high=found.high, kind="ours")
    worst = claimed(found, more_is_better=False)
    return Bar(name=name, value=1 / found.middle, low=1 / worst, high=1 / found.low, kind="ours")


def _kind(peer: str) -> str:
    return {OURS: "ours", FLOOR: "floor"}.get(peer.partition(",")[0], "peer")
