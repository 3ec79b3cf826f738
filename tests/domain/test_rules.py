"""The rules for single values, and what their errors say."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum, IntEnum
from itertools import count
from uuid import UUID

import pytest

from heimdex.domain.errors import InvalidInput
from heimdex.domain.rules import (
    EARLIEST,
    LATEST,
    MAX_LENGTH,
    check_length,
    check_number,
    check_optional_text,
    check_text,
    check_time,
    check_uuid,
    check_whole,
    from_milliseconds,
    from_text,
    to_milliseconds,
    to_text,
)
from tests.domain.life import JOB

MICROSECOND = timedelta(microseconds=1)
PARIS = timezone(timedelta(hours=1))
TEXT = "give a string"
SIZE = "give 1 to 5 characters"
PRINTABLE = "give printable characters only (no control characters, no lone surrogates)"
WHOLE = "give a whole number from -1 to 3"
NUMBER = "give a number from 0 to 1.5"
AWARE = "give an aware datetime, such as datetime.now(UTC)"
YEARS = "give a time from 1970 to 9000"
LENGTH = "give a timedelta from 0:00:00 to 365 days"
ID = "give a UUID, such as 018f3c6e-0000-7000-8000-000000000001"


class Colour(str, Enum):  # noqa: UP042 - a StrEnum would not show that str() of a member may be its name
    RED = "red"


class Level(IntEnum):
    LOW = 1


def text(value: object) -> str:
    return check_text("name", value, 5)


def whole(value: object) -> int:
    return check_whole("name", value, -1, 3)


def number(value: object) -> float:
    return check_number("name", value, 0, 1.5)


def time(value: object) -> datetime:
    return check_time("name", value)


def length(value: object) -> timedelta:
    return check_length("name", value)


def uuid(value: object) -> UUID:
    return check_uuid("name", value)


@pytest.mark.parametrize(
    ("check", "value", "stored"),
    [
        (text, "a", "a"),
        (text, "a é\U0001f600", "a é\U0001f600"),
        (text, "12345", "12345"),
        (whole, -1, -1),
        (whole, 3, 3),
        (number, 0, 0.0),
        (number, 1.5, 1.5),
        (time, EARLIEST, EARLIEST),
        (time, LATEST, LATEST),
        (time, datetime(2026, 1, 1, 1, tzinfo=PARIS), datetime(2026, 1, 1, tzinfo=UTC)),
        (length, timedelta(0), timedelta(0)),
        (length, MICROSECOND, timedelta(milliseconds=1)),
        (length, timedelta(milliseconds=1), timedelta(milliseconds=1)),
        (length, timedelta(seconds=1) + MICROSECOND, timedelta(milliseconds=1_001)),
        (length, MAX_LENGTH, MAX_LENGTH),
        (uuid, JOB, JOB),
        (uuid, str(JOB), JOB),
        (uuid, JOB.hex.upper(), JOB),
    ],
    ids=count(1),
)
def test_a_value_within_the_rules_is_returned_as_it_will_be_stored(
    check: Callable[[object], object], value: object, stored: object
) -> None:
    checked = check(value)
    assert checked == stored
    assert type(checked) is type(stored)


@pytest.mark.parametrize(
    ("check", "value", "remedy"),
    [
        (text, None, TEXT),
        (text, b"bytes", TEXT),
        (text, "", SIZE),
        (text, "123456", SIZE),
        (text, "a\nb", PRINTABLE),
        (text, "a\0b", PRINTABLE),
        (text, "a\x1bb", PRINTABLE),
        (text, "a\ud800b", PRINTABLE),
        (whole, -2, WHOLE),
        (whole, 4, WHOLE),
        (whole, True, WHOLE),
        (whole, 1.0, WHOLE),
        (whole, "1", WHOLE),
        (whole, None, WHOLE),
        (number, -0.1, NUMBER),
        (number, 1.6, NUMBER),
        (number, float("nan"), NUMBER),
        (number, float("inf"), NUMBER),
        (number, 10**400, NUMBER),
        (number, True, NUMBER),
        (number, "1", NUMBER),
        (number, None, NUMBER),
        (time, None, AWARE),
        (time, "2026-01-01T00:00:00Z", AWARE),
        (time, datetime(2026, 1, 1), AWARE),  # noqa: DTZ001 - a naive one is refused
        (time, EARLIEST - MICROSECOND, YEARS),
        (time, LATEST + MICROSECOND, YEARS),
        (length, None, LENGTH),
        (length, 5, LENGTH),
        (length, -MICROSECOND, LENGTH),
        (length, MAX_LENGTH + MICROSECOND, LENGTH),
        (uuid, None, ID),
        (uuid, 7, ID),
        (uuid, "018f3c6e", ID),
        (uuid, JOB.bytes, ID),
    ],
    ids=count(1),
)
def test_a_value_outside_the_rules_is_named_with_its_field_and_what_is_accepted(
    check: Callable[[object], object], value: object, remedy: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        check(value)
    assert (refused.value.field, refused.value.value, refused.value.remedy) == ("name", value, remedy)
    assert str(refused.value).startswith("name: ")
    assert str(refused.value).endswith(f" is not accepted; {remedy}")


def test_a_member_of_an_enum_is_stored_as_its_value() -> None:
    assert type(text(Colour.RED)) is str
    assert text(Colour.RED) == "red"
    assert type(whole(Level.LOW)) is int


def test_an_optional_text_may_be_missing_but_not_empty() -> None:
    assert check_optional_text("name", None) is None
    assert check_optional_text("name", "a", 1) == "a"
    with pytest.raises(InvalidInput):
        check_optional_text("name", "")


def test_the_shortest_length_is_accepted_and_what_is_shorter_is_not() -> None:
    second = timedelta(seconds=1)
    assert check_length("lease", second, shortest=second) == second
    with pytest.raises(InvalidInput, match=r"lease: .* give a timedelta from 0:00:01 to 365 days"):
        check_length("lease", second - MICROSECOND, shortest=second)


def test_a_long_value_is_cut_in_the_error() -> None:
    with pytest.raises(InvalidInput) as refused:
        text("x" * 100_000)
    assert str(refused.value) == f"name: '{'x' * 79}… (100002 characters) is not accepted; give 1 to 5 characters"


def test_a_number_too_long_to_be_written_out_is_named_by_its_type() -> None:
    with pytest.raises(InvalidInput) as refused:
        whole(10**5_000)
    assert str(refused.value) == f"name: a value of type int is not accepted; {WHOLE}"


@pytest.mark.parametrize("milliseconds", [0, 1, 999, 86_400_001, to_milliseconds(MAX_LENGTH)])
def test_milliseconds_come_back(milliseconds: int) -> None:
    assert to_milliseconds(from_milliseconds(milliseconds)) == milliseconds


def test_a_part_of_a_millisecond_counts_as_a_whole_one() -> None:
    assert to_milliseconds(timedelta(milliseconds=7) + MICROSECOND) == 8


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
        (datetime(2026, 1, 2, 0, 30, tzinfo=PARIS), "2026-01-01T23:30:00.000000Z"),
        (EARLIEST, "1970-01-01T00:00:00.000000Z"),
        (LATEST, "9000-01-01T00:00:00.000000Z"),
    ],
)
def test_a_time_is_text_in_utc_to_the_microsecond_and_comes_back(value: datetime, stored: str) -> None:
    assert to_text(value) == stored
    assert from_text(stored) == value
    assert from_text(stored).utcoffset() == timedelta(0)


def test_a_zero_has_no_sign() -> None:
    assert str(number(-0.0)) == "0.0"
