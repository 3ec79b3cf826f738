"""The JSON subset and its one text."""

import json
import math
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, IntEnum
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdex.domain import json_text
from heimdex.domain.errors import InvalidPayload
from heimdex.domain.json_text import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_INTEGER,
    JsonValue,
    canonical,
    decode,
    decode_object,
    digest,
    fingerprint,
    is_flat,
    is_same,
    printable,
    trusted,
)


class Colour(str, Enum):  # noqa: UP042 - a StrEnum would not show that str() of a member may be its name
    RED = "red"


class Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (1, "1"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e16, "1e+16"),
        (MAX_INTEGER, "9007199254740991"),
        (-MAX_INTEGER, "-9007199254740991"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        ("", '""'),
        ("é\U0001f600", '"é\U0001f600"'),
        ("\x01\n\x7f", '"\\u0001\\n\x7f"'),
        ((1, (2,)), "[1,[2]]"),
        ({"b": 1, "a": [], "é": {}, "B": 0}, '{"B":0,"a":[],"b":1,"é":{}}'),
        (OrderedDict([("b", 1), ("a", 2)]), '{"a":2,"b":1}'),
        ({Colour.RED: Colour.RED, "one": Number.ONE}, '{"one":1,"red":"red"}'),
    ],
)
def test_a_document_has_one_text(value: object, text: str) -> None:
    assert canonical(value, "payload") == text


def nested(depth: int, make: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - any document
    value = make(1)
    for _ in range(depth - 1):
        value = make(value)
    return value


def circle() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "path", "problem"),
    [
        (math.nan, "$", "NaN and infinity are not JSON; send null or a string"),
        ([0, math.inf], "$[1]", "NaN and infinity"),
        ({"a": -math.inf}, "$.a", "NaN and infinity"),
        (2**53, "$", "an integer beyond ±(2^53 - 1); send it as a string"),
        ({"videos": [0, {"size": -(2**53)}]}, "$.videos[1].size", "an integer beyond"),
        (10**5_000, "$", "an integer beyond"),
        ("\ud800", "$", "a lone surrogate; it has no UTF-8 form"),
        (["\udfff\u00e9"], "$[0]", "a lone surrogate"),
        ("a\0b", "$", "a NUL character; PostgreSQL cannot store it"),
        ({"a": {"b\0": 1}}, "$.a", "a NUL character"),
        ({"a": {"\ud800": 1}}, "$.a", "a lone surrogate"),
        ({"a": {1: 2}}, "$.a", "a key of type int; keys are strings"),
        ({None: 2}, "$", "a key of type NoneType"),
        ({(1,): 2}, "$", "a key of type tuple"),
        ({True: 2}, "$", "a key of type bool"),
        ({"a": b"bytes"}, "$.a", "a bytes is not JSON; convert it first"),
        ([{1, 2}], "$[0]", "a set is not JSON"),
        (Decimal(1), "$", "a Decimal is not JSON"),
        (datetime(2026, 1, 1, tzinfo=UTC), "$", "a datetime is not JSON"),
        (1j, "$", "a complex is not JSON"),
        (object(), "$", "a object is not JSON"),
        ({"two words": {"a\nb": [math.nan]}}, "$['two words']['a\\nb'][0]", "NaN"),
        ({"k" * 40: math.nan}, f"$.{'k' * 40}", "NaN"),
        ({"k" * 41: math.nan}, f"$['{'k' * 41}']", "NaN"),
        ({"k" * 999: math.nan}, f"$['{'k' * 79}… (1001 characters)]", "NaN"),
        (circle(), "$" + "[0]" * MAX_DEPTH, "nested more than 32 deep, or in a circle"),
    ],
    ids=count(1),
)
def test_what_is_outside_the_subset_is_refused_by_its_path(value: object, path: str, problem: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        canonical(value, "payload")
    assert (refused.value.field, refused.value.path) == ("payload", path)
    assert refused.value.problem.startswith(problem)
    assert str(refused.value) == f"payload: at {path}: {refused.value.problem}"


def test_documents_are_nested_32_deep_and_no_deeper() -> None:
    lists, objects = (lambda value: [value]), (lambda value: {"a": value})
    assert canonical(nested(32, lists), "payload") == "[" * 32 + "1" + "]" * 32
    assert canonical(nested(32, objects), "payload").count("{") == 32

    with pytest.raises(InvalidPayload, match="nested more than 32 deep") as refused:
        canonical(nested(33, lists), "payload")
    assert refused.value.path == "$" + "[0]" * 32
    with pytest.raises(InvalidPayload, match="nested more than 32 deep") as refused:
        canonical(nested(33, objects), "payload")
    assert refused.value.path == "$" + ".a" * 32


def test_the_size_limit_counts_bytes_of_utf_8() -> None:
    fits = "é" * ((MAX_BYTES - 2) // 2)
    assert len(canonical(fits, "result").encode()) == MAX_BYTES

    with pytest.raises(InvalidPayload, match="result: at \\$: 262,146 bytes of JSON; at most 262,144 are accepted"):
        canonical(fits + "é", "result")


def test_an_error_never_repeats_the_value() -> None:
    for value in ("canary\0", "canary\ud800", ["canary", math.nan], {"a": "canary" * MAX_BYTES}):
        with pytest.raises(InvalidPayload) as refused:
            canonical(value, "payload")
        assert "canary" not in str(refused.value)


DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["", "a", "b", "é", "\n", "\U0001f600"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=40)
@given(DOCUMENTS)
def test_a_text_comes_back_byte_for_byte(document: JsonValue) -> None:
    text = canonical(document, "payload")
    again = decode(text)
    assert again == document
    assert canonical(again, "payload") == trusted(again) == text
    assert json.loads(text.encode()) == document


IMPERFECT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**54), 2**54)
    | st.floats()
    | st.text(st.characters() | st.sampled_from("\0\\u\ud800é"))
    | st.sampled_from([Colour.RED, Number.ONE, Decimal(1), "\\u0000"]),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
)


def outcome_of(act: Callable[[], str]) -> str:
    try:
        return act()
    except InvalidPayload as error:
        return repr(error)


@given(IMPERFECT)
def test_what_is_in_the_subset_at_first_sight_is_what_is_found_value_by_value(value: object) -> None:
    def value_by_value() -> str:
        json_text._check(value, "payload", "$", MAX_DEPTH)
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    assert outcome_of(lambda: canonical(value, "payload")) == outcome_of(value_by_value)


@given(DOCUMENTS)
def test_without_the_encoder_in_c_a_text_is_the_same(document: JsonValue) -> None:
    assert trusted(document) == json_text._ENCODER.encode(document)


@pytest.mark.parametrize(
    ("value", "other", "same"),
    [
        ({"a": 1, "b": 2.5}, None, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 0.0}, {"a": -0.0}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({}, [], False),
    ],
)
def test_a_flat_document_is_the_same_as_one_of_the_very_same_values(
    value: dict[str, object], other: object, *, same: bool
) -> None:
    assert is_same(value, dict(value) if other is None else other) is same


@pytest.mark.parametrize(
    ("document", "flat"),
    [({}, True), ({"a": "x", "b": None}, True), ({"a": []}, False), ({"a": Number.ONE}, False), ([], False)],
)
def test_a_flat_document_holds_nothing_that_can_change(document: object, *, flat: bool) -> None:
    assert is_flat(document) is flat


def test_not_even_a_trusted_document_is_written_as_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        trusted([math.nan])


def test_what_is_no_json_is_a_value_error_however_deep() -> None:
    for text in ("", "{]", "NaN", "[1e5,-Infinity]", "[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(ValueError, match=r"Expecting|not JSON|too deep"):
            decode(text)


def test_only_an_object_is_read_as_one() -> None:
    assert decode_object('{"a":null}') == {"a": None}
    with pytest.raises(TypeError, match="not an object"):
        decode_object("[]")


def test_a_digest_is_of_the_bytes() -> None:
    assert digest("é") == sha256(b"\xc3\xa9").hexdigest()


def test_a_fingerprint_is_of_type_nul_and_payload() -> None:
    assert fingerprint("t", "{}") == sha256(b"t\0{}").hexdigest()
    assert fingerprint("t1", "{}") != fingerprint("t", "1{}")


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("two\nlines", "two\nlines"),
        ("a\0b", "a�b"),
        ("a\ud800b", "a?b"),
        ("x" * 11, "x" * 10),
        ("\U0001f600" * 11, "\U0001f600" * 10),
        ("", ""),
    ],
)
def test_a_text_for_people_is_made_storable_and_cut(text: str, stored: str) -> None:
    assert printable(text, 10) == stored
