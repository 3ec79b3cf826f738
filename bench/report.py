"""What a run leaves behind: a table, JSON, a plot of each metric, and the page that says what each peer records."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import median

from attrs import asdict, field, frozen

from bench.cases import CASES, Case, Metric
from bench.catalogue import Peer
from bench.figures import Interval, claimed, ratio

OURS = "heimdex"
FLOOR = "floor"
_FONT = 'font-family="sans-serif"'
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 720, 24, 130, 110, 44


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
class Outcome:
    """All that a run found. `failures` are (case, peer, why); `stores` says for each peer where its jobs were."""

    machine: Mapping[str, str]
    stores: Mapping[str, str]
    measured: list[Measured] = field(factory=list)
    failures: list[tuple[str, str, str]] = field(factory=list)
    samples: dict[str, list[float]] = field(factory=dict)

    def values(self, case: str, peer: str, metric: str) -> list[float]:
        """Return one value for each round, in their order."""
        found = [one for one in self.measured if (one.case, one.peer, one.metric) == (case, peer, metric)]
        return [one.value for one in sorted(found, key=lambda one: one.round)]

    def peers(self, case: str) -> list[str]:
        """Return who took part, in the order of their first run."""
        return list(dict.fromkeys(one.peer for one in self.measured if one.case == case))


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


def write(outcome: Outcome, folder: Path) -> None:
    """Write results.json, results.md and a plot of each metric."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
    lines = ["# Results", "", *(f"- {name}: {value}" for name, value in outcome.machine.items()), ""]
    for case in CASES:
        if not outcome.peers(case.name):
            continue
        lines += [f"## {case.title}", ""]
        for metric in case.metrics:
            lines += [*table(outcome, case, metric), ""]
            plot = folder / f"{case.name}-{metric.name}.svg"
            plot.write_text(svg(outcome, case, metric), encoding="utf-8")
            lines += [f"![{escape(case.title)}: {metric.name}]({plot.name})", ""]
    if outcome.failures:
        lines += ["## What did not work", ""]
        lines += [f"- {case}, {peer}: {why.strip().splitlines()[-1]}" for case, peer, why in outcome.failures]
    (folder / "results.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def table(outcome: Outcome, case: Case, metric: Metric) -> list[str]:
    """Return the lines of one metric's table, and the one sentence that states the figure."""
    ours, best = ours_in(outcome, case.name), best_peer(outcome, case.name, metric)
    lines = [
        f"| {metric.name} ({metric.unit}) | median | least | most | rounds | jobs | ours by it, 95 % |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for peer in outcome.peers(case.name):
        values = outcome.values(case.name, peer, metric.name)
        jobs = next(one.jobs for one in outcome.measured if (one.case, one.peer) == (case.name, peer))
        lines.append(
            f"| {peer} | {shown(median(values))} | {shown(min(values))} | {shown(max(values))} | {len(values)}"
            f" | {jobs:,} | {_compared(outcome, case.name, metric, ours, peer)} |"
        )
    if ours is not None and best is not None:
        interval = _interval(outcome, case.name, metric, ours, best)
        if interval is not None:
            figure = claimed(interval, more_is_better=metric.more_is_better)
            lines += ["", f"Figure: {figure:.2f} times {best}, the best peer (median {interval.middle:.2f})."]
    return lines


def shown(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"  # noqa: PLR2004 - where a fraction says nothing


def svg(outcome: Outcome, case: Case, metric: Metric) -> str:
    """Return a plot: a bar to each peer's median, with a line from its least to its most."""
    rows = [(peer, outcome.values(case.name, peer, metric.name)) for peer in outcome.peers(case.name)]
    most = max((max(values) for _, values in rows), default=0) or 1
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    height = _TOP + _ROW * len(rows) + 10
    better = "more" if metric.more_is_better else "less"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-size="12" {_FONT}>',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="18" font-size="14">{escape(case.title)}</text>',
        f'<text x="10" y="34" fill="#555">{escape(metric.name)}: {escape(metric.unit)}; {better} is better</text>',
    ]
    for number, (peer, values) in enumerate(rows):
        top, middle = _TOP + number * _ROW, median(values) * scale
        colour = "#1f6f8b" if peer.startswith(OURS) else "#999" if peer == FLOOR else "#d0a24c"
        line, end = top + _ROW / 2, _LEFT + max(values) * scale
        parts += [
            f'<text x="{_LEFT - 8}" y="{top + 16}" text-anchor="end">{escape(peer)}</text>',
            f'<rect x="{_LEFT}" y="{top + 4}" width="{middle:.1f}" height="{_ROW - 8}" fill="{colour}"/>',
            f'<line x1="{_LEFT + min(values) * scale:.1f}" x2="{end:.1f}" y1="{line}" y2="{line}" stroke="black"/>',
            f'<text x="{end + 6:.1f}" y="{top + 16}">{shown(median(values))}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def page(peers: Iterable[Peer]) -> str:
    """Return the page of the documentation: what each peer records, what it does not, and how it is set."""
    listed: Sequence[Peer] = [peer for peer in peers if "," not in peer.name]
    lines = [
        "# What the benchmark compares",
        "",
        "Made by `python -m bench.run --page docs/benchmarks.md` from `bench/peers/*/peer.toml`. How a figure is made:",
        "[bench/README.md](../bench/README.md).",
        "",
        "A job system that records less has less to write. Beside each rate stands what was recorded at it.",
        "",
        "| | jobs are in | records | does not record | keys in the cases with keys |",
        "|---|---|---|---|---|",
        *(f"| {peer.name} | {peer.store} | {peer.records} | {peer.lacks} | {peer.keys} |" for peer in listed),
        "",
        "## Settings",
        "",
        "Settings with a link follow that page; the others are ours and not tuned yet, so no figure is published here.",
        "A peer that is set badly is a bug of ours: please report it.",
        "",
    ]
    for peer in listed:
        wanted = ", ".join(f"`{one}`" for one in peer.requirements) or "this checkout"
        lines += [f"**{peer.name}** ({wanted})", ""]
        lines += [f"- {one.what} ({_linked(one.source)})" for one in peer.settings] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _linked(source: str) -> str:
    return f"[source]({source})" if source.startswith("https:") else f"`{source}`"


def _compared(outcome: Outcome, case: str, metric: Metric, ours: str | None, peer: str) -> str:
    interval = None if ours is None or ours == peer else _interval(outcome, case, metric, ours, peer)
    return "" if interval is None else f"{interval.middle:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _interval(outcome: Outcome, case: str, metric: Metric, ours: str, peer: str) -> Interval | None:
    mine, theirs = outcome.values(case, ours, metric.name), outcome.values(case, peer, metric.name)
    return ratio(mine, theirs) if len(mine) == len(theirs) and all(theirs) else None
