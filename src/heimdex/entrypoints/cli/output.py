"""How answers look: tables for people, one JSON document for programs, progress on stderr."""

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

import attrs
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from heimdex.domain.json_text import JsonValue, decode
from heimdex.domain.rules import to_milliseconds, to_text
from heimdex.entrypoints.cli.reporting import plain

_DOCUMENT = "_json"
# Where nobody looks, a row stays a line.
_UNBROKEN = 10_000


def stdout() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _UNBROKEN
    return console


def document(thing: attrs.AttrsInstance) -> dict[str, object]:
    """Return an attrs object as JSON has it: times as text, lengths in milliseconds, documents decoded."""
    answer: dict[str, object] = {}
    for field in attrs.fields(type(thing)):
        value = getattr(thing, field.name)
        if isinstance(value, timedelta):
            answer[f"{field.name}_ms"] = to_milliseconds(value)
        elif field.name.endswith(_DOCUMENT):
            answer[field.name.removesuffix(_DOCUMENT)] = None if value is None else readable(value)
        else:
            answer[field.name] = value
    return answer


def readable(text: str) -> JsonValue:
    """Return a stored document; where it is not JSON (it was written past Heimdex), the text itself."""
    try:
        return decode(text)
    except ValueError:
        return text


def print_json(answer: object) -> None:
    # Escaped beyond ASCII, so that any terminal and any pipe takes it.
    sys.stdout.write(json.dumps(answer, indent=2, default=_as_json) + "\n")


def print_line(text: str) -> None:
    sys.stdout.write(f"{plain(text)}\n")


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    whole: Collection[str] = (),
    right: Collection[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Print rows as wide as the terminal.

    Args:
        whole: columns that are never broken; the others fold.
        right: columns of numbers.
        spare: columns that are left out, the last first, where the terminal is too narrow for all.
    """
    console = stdout()
    unbroken = console.options.update(max_width=_UNBROKEN)
    left_out: list[str] = []
    table = _table(headings, rows, left_out, whole, right)
    for heading in reversed(spare):
        if Measurement.get(console, unbroken, table).maximum <= console.width:
            break
        left_out.append(heading)
        table = _table(headings, rows, left_out, whole, right)
    console.print(table)


def print_pairs(pairs: Mapping[str, object]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(Text(plain(name)), Text(_cell(value)))
    stdout().print(table)


def progress() -> Progress:
    """Return progress bars on stderr, silent where it is no terminal."""
    console = Console(stderr=True, highlight=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


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
            return plain(json.dumps(value, ensure_ascii=False, default=_as_json))
        case None:
            return ""
    # A line break stays inside its cell: a traceback is there to be read.
    return "\n".join(map(plain, str(value).split("\n")))


def _as_json(value: object) -> object:
    match value:
        case datetime():
            return to_text(value)
        case UUID():
            return str(value)
        case Enum():
            return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form here")
