"""How answers look to programs: one JSON document. Loads no rich, which workers would keep."""

import json
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from datetime import datetime, timedelta
from enum import Enum
from uuid import UUID

import attrs

from heimdex.domain.json_text import JsonValue, decode
from heimdex.domain.rules import to_milliseconds, to_text
from heimdex.entrypoints.cli.options import Asked
from heimdex.entrypoints.cli.reporting import plain

_DOCUMENT = "_json"


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
    sys.stdout.write(json.dumps(answer, indent=2, default=as_json) + "\n")


def kept_apart(asked: Asked) -> AbstractContextManager[object]:
    """Send what job functions print to stderr where stdout has to be one JSON document."""
    return redirect_stdout(sys.stderr) if asked.json else nullcontext()


def print_line(text: str) -> None:
    sys.stdout.write(f"{plain(text)}\n")


def as_json(value: object) -> object:
    match value:
        case datetime():
            return to_text(value)
        case UUID():
            return str(value)
        case Enum():
            return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form here")
