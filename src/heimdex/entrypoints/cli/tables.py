"""How answers look to people: tables on stdout, progress on stderr."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from heimdex.entrypoints.cli.output import as_json
from heimdex.entrypoints.cli.reporting import plain

# Where nobody looks, a row stays a line.
_UNBROKEN = 10_000


def stdout() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBROKEN
    return console


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    whole: Collection[str] = (),
    right: Collection[str] = (),
    spare: Sequence[str] = (),
    copied: str | None = None,
) -> None:
    """Print rows as wide as the terminal; nothing is cut.

    Args:
        whole: columns that are not broken, unless even they alone are too wide; the others fold.
        right: columns of numbers.
        spare: columns that are left out, the last first, where the terminal is too narrow for all.
        copied: the column that has to stay whole before any other: where it would not, the others are left out.
    """
    console = stdout()
    left_out: list[str] = []
    for heading in reversed(spare):
        if _width(console, _table(headings, rows, left_out, whole, right)) <= console.width:
            break
        left_out.append(heading)
    for heading in reversed(headings if copied else ()):
        if _narrowest(console, headings, rows, left_out, whole) <= console.width:
            break
        if heading != copied and heading not in left_out:
            left_out.append(heading)
    fits = _narrowest(console, headings, rows, left_out, whole) <= console.width
    console.print(_table(headings, rows, left_out, whole if fits else (), right))


def print_pairs(pairs: Mapping[str, object]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(Text(plain(name)), Text(_cell(value)))
    stdout().print(table)


def progress() -> Progress:
    """Return progress bars on stderr, silent where it is no terminal."""
    return _bars(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


@contextmanager
def working(on: str) -> Iterator[None]:
    """Show on stderr that something goes on, and for how long; silent where it is no terminal."""
    with _bars(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as bars:
        bars.add_task(on, total=None)
        yield


def _bars(*columns: ProgressColumn) -> Progress:
    console = Console(stderr=True, highlight=False)
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=_UNBROKEN), table).maximum


def _narrowest(
    console: Console,
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    left_out: Collection[str],
    whole: Collection[str],
) -> int:
    """Return the width of a table whose columns that fold are as narrow as their headings."""
    cells = ([cell if heading in whole else "" for heading, cell in zip(headings, row, strict=True)] for row in rows)
    return _width(console, _table(headings, cells, left_out, whole, ()))


def _table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    left_out: Collection[str],
    whole: Collection[str],
    right: Collection[str],
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    shown = [place for place, heading in enumerate(headings) if heading not in left_out]
    for heading in (headings[place] for place in shown):
        side: JustifyMethod = "right" if heading in right else "left"
        table.add_column(heading, no_wrap=heading in whole, overflow="fold", justify=side)
    for row in rows:
        table.add_row(*(Text(_cell(row[place])) for place in shown))
    return table


def _cell(value: object) -> str:
    match value:
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%SZ")
        case bool() | list() | dict():
            return plain(json.dumps(value, ensure_ascii=False, default=as_json))
        case None:
            return ""
    # A line break stays inside its cell: a traceback is there to be read.
    return "\n".join(map(plain, str(value).split("\n")))
