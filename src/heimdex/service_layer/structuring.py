"""How a document becomes an instance of a payload's class, strictly: what fits only by luck does not fit.

As it comes, cattrs makes "5" of 5, a list of letters of a text, and an instance of all defaults of an empty list.
"""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import is_dataclass
from typing import TypeAlias, cast, get_args, get_origin
from uuid import UUID

import attrs
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.cols import list_structure_factory
from cattrs.gen import mapping_structure_factory
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_union_passthrough

from heimdex.domain.errors import InvalidInput
from heimdex.domain.json_text import member

Hook: TypeAlias = Callable[[object, type], object]

_SCALARS = (str, bool, int)
_OBJECTS = (dict, Mapping, MutableMapping)
_ARRAYS: Mapping[object, type] = {list: list, tuple: tuple, set: set, frozenset: frozenset, Sequence: tuple}


class Misfit(TypeError):
    """A value of the wrong kind. The text names kinds, never the value."""


def is_class_of_fields(kind: object) -> bool:
    origin = _origin(kind)
    return isinstance(origin, type) and (attrs.has(origin) or is_dataclass(origin))


def strict_converter() -> Converter:
    """Return a converter that structures decoded JSON; of exactly the types of JSON must each value be."""
    converter = make_converter(forbid_extra_keys=True)
    for kind in _SCALARS:
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook(float, _of((int, float), lambda value, kind: kind(value)))
    converter.register_structure_hook(UUID, _of((str,), lambda value, _: UUID(cast("str", value))))
    converter.register_unstructure_hook(UUID, str)
    # Again, now without bool, which would pass for int.
    configure_union_passthrough(str | int | float | None, converter)

    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) in _OBJECTS,
        lambda kind: _of((dict,), cast("Hook", mapping_structure_factory(kind, converter))),
    )
    converter.register_structure_hook_factory(
        lambda kind: _origin(kind) in _ARRAYS,
        lambda kind: _of((list,), _array(kind, converter)),
    )
    converter.register_structure_hook_factory(
        is_class_of_fields,
        lambda kind: _of((dict,), cast("Hook", converter.gen_structure_attrs_fromdict(kind))),
    )
    return converter


def first_problem(error: Exception, path: str = "$", kind: object = None) -> tuple[str, str]:
    """Return where a document does not fit, and why. More may be wrong; one is enough to go on with."""
    match error:
        case ClassValidationError() | IterableValidationError():
            located, others = error.group_exceptions()
            if not located:
                return first_problem(others[0], path, error.cl)
            inner, note = located[0]
            return first_problem(inner, _step(path, note), note.type)
        case ForbiddenExtraKeysError():
            return member(path, min(error.extra_fields)), "unknown field"
        case KeyError():
            return path, "required field missing"
        case Misfit():
            return path, str(error)
        case InvalidInput():
            return path, f"{error.field}: {error.remedy}"
        case _:
            # Its text may hold the value.
            return path, f"does not fit {_name(kind)} ({type(error).__name__})"


def _of(accepted: tuple[type, ...], fill: Hook) -> Hook:
    def structure(value: object, kind: type) -> object:
        # Not isinstance: True is an int.
        if type(value) not in accepted:
            raise Misfit(f"expected {_name(kind)}, found {type(value).__name__}")
        return fill(value, kind)

    return structure


def _exactly(accepted: type) -> Hook:
    """As `_of` with one class, for most values without a call more. `kind` may be a subclass, such as an enum."""

    def structure(value: object, kind: type) -> object:
        if type(value) is not accepted:
            raise Misfit(f"expected {_name(kind)}, found {type(value).__name__}")
        return value if kind is accepted else kind(value)

    return structure


def _array(kind: type, converter: Converter) -> Hook:
    origin = _origin(kind)
    if origin is tuple and get_args(kind) and get_args(kind)[-1] is not Ellipsis:
        return cast("Hook", converter.gen_structure_hetero_tuple(kind))
    fill, make = list_structure_factory(kind, converter), _ARRAYS[origin]
    return lambda value, kind: make(fill(value, kind))


def _origin(kind: object) -> object:
    return cast("object", get_origin(kind)) or kind


def _step(path: str, note: AttributeValidationNote | IterableValidationNote) -> str:
    if isinstance(note, AttributeValidationNote):
        return f"{path}.{note.name}"
    return f"{path}[{note.index}]" if isinstance(note.index, int) else member(path, note.index)


def _name(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind)
