"""What people read of a run: tables, and the page that says what each peer records."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from bench.cases import CASES, Case, Metric
from bench.catalogue import Peer
from bench.figures import claimed
from bench.pictures import OVERVIEW, OVERVIEW_TITLE, SNAPSHOT_FILE, SNAPSHOT_TITLE, file_of, overview_bars
from bench.results import FLOOR, Outcome, best_peer, compared, ours_in

_HEADINGS = ("median", "least", "most", "rounds", "jobs", "ours by it, 95 %")


def write_markdown(outcome: Outcome, folder: Path) -> None:
    """Write `results.md`: the same as on the page, beside the JSON and the pictures."""
    (folder / "results.md").write_text("\n".join(["# Results", "", *sections(outcome, "")]) + "\n", encoding="utf-8")


def sections(outcome: Outcome, pictures: str) -> list[str]:
    """Return the lines of every case: its tables, figures and pictures. `pictures` is put before the files' names."""
    lines = [*(f"- {name}: {value}" for name, value in outcome.machine.items()), ""]
    lines += [f"![{OVERVIEW_TITLE}]({pictures}{OVERVIEW})", ""] if overview_bars(outcome) else []
    for case, metric in _found(outcome):
        lines += [f"### {case.title}", ""] if metric is case.metrics[0] else []
        lines += [*_markdown(outcome, case, metric), ""]
        lines += [f"- {sentence}" for sentence in figures(outcome, case, metric)] + [""]
        lines += [f"![{case.title}: {metric.unit}]({pictures}{file_of(case, metric)})", ""]
        if case.name == "held-snapshot" and metric is case.metrics[0]:
            lines += [f"![{SNAPSHOT_TITLE}]({pictures}{SNAPSHOT_FILE})", ""]
    if outcome.failures:
        lines += ["### What did not work", ""]
        lines += [
            f"- {one.case}, {one.peer}: {(one.why.strip().splitlines() or [''])[-1]}" for one in outcome.failures
        ] + [""]
    return lines[:-1]


def print_case(outcome: Outcome, case: Case, console: Console) -> None:
    """Print the tables of one case, as wide as the terminal."""
    for metric in case.metrics:
        rows = list(_rows(outcome, case, metric))
        title = f"{case.title}: {metric.unit}"
        table = Table("", *_HEADINGS, title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in table.columns[1:]:
            column.justify, column.no_wrap = "right", True
        for row in rows:
            table.add_row(*row)
        if rows:
            console.print(table)
            for sentence in figures(outcome, case, metric):
                console.print(sentence)


def figures(outcome: Outcome, case: Case, metric: Metric) -> list[str]:
    """Return the sentences that state a figure: the end of the interval that is worse for us."""
    ours = ours_in(outcome, case.name)
    said = []
    for peer, name in ((best_peer(outcome, case.name, metric), "the best peer"), (FLOOR, "the floor")):
        if ours is None or peer is None or peer not in outcome.peers(case.name):
            continue
        if interval := compared(outcome, case.name, metric.name, ours, peer):
            figure = claimed(interval, more_is_better=metric.more_is_better)
            who = name if peer == FLOOR else f"{peer}, {name}"
            said.append(f"{ours}: {figure:.2f} times {who} (median {interval.middle:.2f})")
    return said


def shown(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"  # noqa: PLR2004 - where a fraction says nothing


def page(peers: Iterable[Peer], outcome: Outcome | None) -> str:
    """Return the page of the documentation: what each peer records, how it is set, and the last results."""
    listed: Sequence[Peer] = [peer for peer in peers if "," not in peer.name]
    lines = [
        "# What the benchmark compares",
        "",
        "Made by `python -m bench.run --page docs/benchmarks.md` from `bench/peers/*/peer.toml` and `bench/results/`.",
        "How a figure is made: [bench/README.md](../bench/README.md).",
        "",
        "A job system that records less has less to write. Beside each rate stands what was recorded at it.",
        "",
        "| | jobs are in | records | does not record | keys in the cases with keys |",
        "|---|---|---|---|---|",
        *(f"| {peer.name} | {peer.store} | {peer.records} | {peer.lacks} | {peer.keys} |" for peer in listed),
        "",
        "## Settings",
        "",
        "A setting follows the page that it links; what was tried beside it stands under it. `--vary` tries others.",
        "A peer that is set badly is a bug of ours: please report it.",
        "",
    ]
    for peer in listed:
        wanted = ", ".join(f"`{one}`" for one in peer.requirements) or "this checkout"
        lines += [f"**{peer.name}** ({wanted})", ""]
        lines += [f"- {one.what} ({_linked(one.source)})" for one in peer.settings]
        lines += [f"- Tried: {peer.tried}"] if peer.tried else []
        lines += [""]
    lines += ["## Results", ""]
    if outcome is None:
        lines += ["None are kept yet: `make bench` makes them."]
    else:
        lines += ["Read each rate beside what was recorded at it, above.", ""]
        lines += sections(outcome, "../bench/results/")
    return "\n".join(lines).rstrip() + "\n"


def _found(outcome: Outcome) -> Iterator[tuple[Case, Metric]]:
    return ((case, metric) for case in CASES if outcome.peers(case.name) for metric in case.metrics)


def _markdown(outcome: Outcome, case: Case, metric: Metric) -> list[str]:
    lines = [f"| {metric.name} ({metric.unit}) | {' | '.join(_HEADINGS)} |", "|---|---:|---:|---:|---:|---:|---:|"]
    return lines + [f"| {' | '.join(row)} |" for row in _rows(outcome, case, metric)]


def _rows(outcome: Outcome, case: Case, metric: Metric) -> Iterator[tuple[str, ...]]:
    ours = ours_in(outcome, case.name)
    for peer in outcome.peers(case.name):
        values = outcome.values(case.name, peer, metric.name)
        jobs = f"{outcome.jobs(case.name, peer):,}"
        interval = None if ours in {None, peer} else compared(outcome, case.name, metric.name, str(ours), peer)
        by_it = "" if interval is None else f"{interval.middle:.2f} ({interval.low:.2f} to {interval.high:.2f})"
        yield peer, shown(median(values)), shown(min(values)), shown(max(values)), str(len(values)), jobs, by_it


def _linked(source: str) -> str:
    return f"[source]({source})" if source.startswith("https:") else f"`{source}`"
