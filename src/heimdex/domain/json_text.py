"""The JSON subset that payloads, results and details must stay in, and its one canonical text.

Every store keeps this text unchanged, so that the same document is the same bytes everywhere.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from json import encoder
from operator import is_
from typing import Protocol, TypeAlias, TypeGuard, cast

from heimdex.domain.errors import InvalidPayload, shown

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_INTEGER = 2**53 - 1

_SHORT_KEY = 40


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_PLAIN = frozenset({bool, type(None)})
_WITHOUT_LIMITS = frozenset({str, float, *_PLAIN})
_SCALARS = _WITHOUT_LIMITS | {int}
_KEYS = frozenset({str})
# How JSON writes a NUL. After a backslash it may be something else, which is then looked at value by value.
_NUL = "\\u0000"
_DECODER = json.JSONDecoder(parse_constant=_refuse)


def canonical(value: object, field: str) -> str:
    """Check `value` against the subset and return its canonical text.

    Args:
        field: what the document is ("payload", "result", "detail"), for the error.

    Raises:
        InvalidPayload: names the path of the first offending value.
    """
    text = _text_if_plain(value)
    if text is None:
        _check(value, field, "$", MAX_DEPTH)
        text = _write(value)
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_BYTES:
        raise InvalidPayload(field, "$", f"{size:,} bytes of JSON; at most {MAX_BYTES:,} are accepted")
    return text


def trusted(value: "JsonValue | Mapping[str, JsonValue]") -> str:
    """Return the canonical text of a document that Heimdex itself built."""
    return _write(value)


def is_flat(value: object) -> TypeGuard[dict[str, object]]:
    """Return whether a document in the subset is an object of plain values, which nobody can change through it."""
    return type(value) is dict and _KEYS.issuperset(map(type, value)) and _SCALARS.issuperset(map(type, value.values()))


def is_same(flat: dict[str, object], other: object) -> bool:
    """Return whether `other` is a flat document of the very same values, so that it has the same text."""
    return type(other) is dict and list(flat) == list(other) and all(map(is_, flat.values(), other.values()))


def decode(text: str) -> JsonValue:
    """Return the document of a canonical text.

    Raises:
        ValueError: the text is not JSON (a row that was written past Heimdex).
    """
    try:
        return cast("JsonValue", _DECODER.decode(text))
    except RecursionError:
        raise ValueError("the document is nested too deep to be read") from None


def decode_object(text: str) -> dict[str, JsonValue]:
    """Return the document of a text that holds an object."""
    value = decode(text)
    if not isinstance(value, dict):
        raise TypeError("the document is not an object")
    return value


def canonical_object(text: str, field: str) -> str:
    """Return the canonical text of a JSON text that holds an object.

    Raises:
        InvalidPayload: it is no JSON, no object, or outside the subset.
    """
    try:
        value = decode_object(text)
    except (TypeError, ValueError) as error:
        raise InvalidPayload(field, "$", str(error)) from None
    return canonical(value, field)


def digest(text: str) -> str:
    """Return the SHA-256 of a canonical text, in hexadecimal."""
    return sha256(text.encode()).hexdigest()


def fingerprint(job_type: str, payload_json: str) -> str:
    """Return what two creates with one idempotency key must share: SHA-256 over type, NUL and payload."""
    return sha256(f"{job_type}\0{payload_json}".encode()).hexdigest()


def printable(text: str, limit: int) -> str:
    """Return `text` as every store accepts it: no NUL, no lone surrogates, at most `limit` characters."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()[:limit]


class _MakeEncoder(Protocol):
    def __call__(  # noqa: PLR0917 - the signature of the json module
        self,
        markers: dict[int, object] | None,
        default: Callable[[object], object],
        encoder: Callable[[str], str],
        indent: None,
        key_separator: str,
        item_separator: str,
        sort_keys: bool,  # noqa: FBT001 - as above
        skipkeys: bool,  # noqa: FBT001 - as above
        allow_nan: bool,  # noqa: FBT001 - as above
        /,
    ) -> Callable[[object, int], Iterable[str]]: ...


def _writer() -> Callable[[object], str]:
    # JSONEncoder.encode makes this object anew for each document, which takes longer than to write a small one.
    make = cast("_MakeEncoder | None", getattr(encoder, "c_make_encoder", None))
    if make is None:
        return _ENCODER.encode
    sort_keys, skipkeys, allow_nan = True, False, False
    write = make(None, _ENCODER.default, encoder.encode_basestring, None, ":", ",", sort_keys, skipkeys, allow_nan)
    return lambda value: "".join(write(value, 0))


_write = _writer()


def _text_if_plain(value: object) -> str | None:
    """Return the text of a document that is in the subset at first sight; None where `_check` has to look."""
    if not _is_plain(value, MAX_DEPTH):
        return None
    try:
        text = _write(value)
        if not text.isascii():
            text.encode()
    except ValueError:  # NaN, infinity, a lone surrogate
        return None
    return None if _NUL in text else text


def _is_plain(value: object, depth: int) -> bool:
    """Return whether these are JSON's own classes, at most `depth` deep, with integers in range."""
    # Classes are compared: a match asks isinstance for each of its cases, and lets subclasses pass.
    if type(value) is dict:
        if not _KEYS.issuperset(map(type, value)):
            return False
        items: Iterable[object] = value.values()
    elif type(value) is list:
        items = value
    else:
        return type(value) in _SCALARS and (type(value) is not int or -MAX_INTEGER <= value <= MAX_INTEGER)
    if depth == 0:
        return False
    for item in items:
        kind = type(item)
        if kind is int:
            if not -MAX_INTEGER <= cast("int", item) <= MAX_INTEGER:
                return False
        elif kind not in _WITHOUT_LIMITS and not _is_plain(item, depth - 1):
            return False
    return True


def _check(value: object, field: str, path: str, depth: int) -> None:
    kind = type(value)
    # The usual ones first, by their class: a match asks isinstance for each of its cases.
    if kind in _PLAIN:
        return
    if kind is str or isinstance(value, str):
        _check_text(cast("str", value), field, path)
    elif kind is int or isinstance(value, int | float):
        _check_number(cast("float", value), field, path)
    elif isinstance(value, dict):
        _check_depth(field, path, depth)
        for key, item in value.items():
            _check_key(key, field, path)
            _check(item, field, member(path, key), depth - 1)
    elif isinstance(value, list | tuple):
        _check_depth(field, path, depth)
        for index, item in enumerate(value):
            _check(item, field, f"{path}[{index}]", depth - 1)
    else:
        raise InvalidPayload(field, path, f"a {kind.__name__} is not JSON; convert it first")


def member(path: str, key: str) -> str:
    """Return the path of an object's member, as errors show it."""
    # A key is the caller's text too: a strange or long one is quoted and cut.
    return f"{path}.{key}" if key.isidentifier() and len(key) <= _SHORT_KEY else f"{path}[{shown(key)}]"


def _check_number(value: float, field: str, path: str) -> None:
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise InvalidPayload(field, path, "an integer beyond ±(2^53 - 1); send it as a string")
    if not math.isfinite(value):
        raise InvalidPayload(field, path, "NaN and infinity are not JSON; send null or a string")


def _check_key(key: object, field: str, path: str) -> None:
    if not isinstance(key, str):
        raise InvalidPayload(field, path, f"a key of type {type(key).__name__}; keys are strings")
    _check_text(key, field, path)


def _check_depth(field: str, path: str, depth: int) -> None:
    if depth == 0:
        raise InvalidPayload(field, path, f"nested more than {MAX_DEPTH} deep, or in a circle")


def _check_text(value: str, field: str, path: str) -> None:
    if "\0" in value:
        raise InvalidPayload(field, path, "a NUL character; PostgreSQL cannot store it")
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidPayload(field, path, "a lone surrogate; it has no UTF-8 form") from None
