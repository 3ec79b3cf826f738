"""Which jobs a filter takes, and what may be asked of payloads."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heimdex.domain.errors import InvalidInput
from heimdex.domain.job_filter import LONGEST_SEARCH, JobFilter, PayloadMatch, value_at

START = datetime(2026, 1, 1, tzinfo=UTC)
MATCH = PayloadMatch(("customer", "id"), 42)
BOUNDED: dict[str, Any] = {
    "type": "mail.send",
    "created_from": START,
    "created_before": START + LONGEST_SEARCH,
    "payload": MATCH,
}


def test_payloads_are_searched_within_a_type_and_at_most_31_days() -> None:
    assert JobFilter(**BOUNDED).payload == MATCH
    assert timedelta(days=31) == LONGEST_SEARCH


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": None}, "^type: None is not accepted; name the type"),
        ({"created_from": None}, "^created_from: None is not accepted; give created_from and created_before"),
        ({"created_before": None}, "^created_from: None is not accepted; give created_from and created_before"),
        (
            {"created_before": START + LONGEST_SEARCH + timedelta(microseconds=1)},
            "^created_before: '2026-02-01 00:00:00.000001.*' is not accepted; give one at most 31 days after",
        ),
    ],
)
def test_a_search_of_payloads_without_bounds_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        JobFilter(**BOUNDED | change)


@pytest.mark.parametrize("name", ["created_from", "created_before"])
def test_a_time_of_a_filter_is_aware(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}: .* give an aware datetime"):
        JobFilter(**{name: datetime(2026, 1, 1)})  # type: ignore[arg-type]  # noqa: DTZ001 - what must be refused


@pytest.mark.parametrize("path", [(), ("",), ("a.b",), ("a", "0"), ("é",), ("a" * 65,), ("$",), ("a",) * 33])
def test_a_path_is_of_names_that_need_no_quotes(path: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"^payload path: .* give names with dots between"):
        PayloadMatch(path, 1)


@pytest.mark.parametrize("value", [{}, [], {"a": 1}, [1]])
def test_a_value_that_is_looked_for_is_a_plain_one(value: Any) -> None:  # noqa: ANN401 - any JSON
    with pytest.raises(InvalidInput, match=r"^payload value: .* give a string, a number, true, false or null"):
        PayloadMatch(("a",), value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a":{"b":"é"}}', '"é"'),
        ('{"a":{"b":1e+16}}', "1e+16"),
        ('{"a": {"b": 1.0}}', "1.0"),
        ('{"a":{"b":null}}', "null"),
        ('{"a":{"b":[1, 2]}}', "[1,2]"),
        ('{"a":{}}', None),
        ('{"a":[{"b":1}]}', None),
        ('{"a":null}', None),
        ("[]", None),
    ],
)
def test_the_value_at_a_path_is_its_canonical_text(text: str, found: str | None) -> None:
    assert value_at(text, ("a", "b")) == found


@pytest.mark.parametrize(
    "text", ["", "no JSON", '{"a":{"b":NaN}}', '{"a":{"b":1e999}}', '{"a":{"b":"\\ud800"}}', "[" * 100_000]
)
def test_what_was_stored_past_heimdex_and_cannot_be_read_has_no_value(text: str) -> None:
    assert value_at(text, ("a", "b")) is None
