"""How what Heimdex answers looks as JSON: the same from the command line and from the HTTP API."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar, cast, get_args
from uuid import UUID

import attrs
from cattrs import Converter

from heimdex.domain.json_text import JsonValue, decode, trusted
from heimdex.domain.rules import from_milliseconds, from_text, to_milliseconds, to_text

Thing = TypeVar("Thing", bound=attrs.AttrsInstance)

_DOCUMENT = "_json"
_converter = Converter()
_converter.register_structure_hook(datetime, lambda value, _: from_text(value))
_converter.register_structure_hook(UUID, lambda value, _: UUID(value))


def document(thing: attrs.AttrsInstance) -> dict[str, object]:
    """Return an attrs object as JSON has it: times as text, lengths in milliseconds, documents decoded.

    Its values are still to be written by `as_json`.
    """
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


def restored(kind: type[Thing], answer: Mapping[str, object]) -> Thing:
    """Return the object that a document was made of: the way back of `document`.

    Raises:
        Exception: it is no document of such an object, in whatever way.
    """
    values: dict[str, object] = {}
    for field in attrs.fields(attrs.resolve_types(kind)):
        if field.type is timedelta:
            values[field.name] = from_milliseconds(cast("int", answer[f"{field.name}_ms"]))
        elif field.name.endswith(_DOCUMENT):
            value = cast("JsonValue", answer[field.name.removesuffix(_DOCUMENT)])
            values[field.name] = None if value is None and type(None) in get_args(field.type) else trusted(value)
        else:
            values[field.name] = _converter.structure(answer[field.name], cast("type", field.type))
    return kind(**values)


def readable(text: str) -> JsonValue:
    """Return a stored document; where it is not JSON (it was written past Heimdex), the text itself."""
    try:
        return decode(text)
    except ValueError:
        return text


def text_of(answer: object, *, indent: int | None = None) -> str:
    """Return the JSON text of an answer, in ASCII, so that any terminal and any pipe takes it."""
    return json.dumps(answer, indent=indent, default=as_json)


def as_json(value: object) -> object:
    match value:
        case datetime():
            return to_text(value)
        case UUID():
            return str(value)
        case Enum():
            return value.value
    raise TypeError(f"{type(value).__name__} has no JSON form here")
