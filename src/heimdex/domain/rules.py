"""What single values from outside must satisfy. Each check returns the value as it will be stored."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from uuid import UUID

from heimdex.domain.errors import InvalidInput

MAX_NAME = 255
MAX_KEY = 255
MAX_REASON = 1_000
MAX_STAGE = 64
MIN_PRIORITY, MAX_PRIORITY = -32_768, 32_767
MAX_ATTEMPTS = 1_000
MAX_LENGTH = timedelta(days=365)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)

_MILLISECOND = timedelta(milliseconds=1)


def check_text(field: str, value: object, limit: int = MAX_NAME) -> str:
    # The usual case first: every job comes here three times.
    if type(value) is str and 0 < len(value) <= limit and value.isprintable():
        return value
    if not isinstance(value, str):
        raise InvalidInput(field, value, "give a string")
    if not value or len(value) > limit:
        raise InvalidInput(field, value, f"give 1 to {limit} characters")
    if not value.isprintable():
        raise InvalidInput(field, value, "give printable characters only (no control characters, no lone surrogates)")
    # The text itself: of a member of an enum, str() might return the name.
    return str.__str__(value)


def check_optional_text(field: str, value: object, limit: int = MAX_NAME) -> str | None:
    return None if value is None else check_text(field, value, limit)


def check_whole(field: str, value: object, low: int, high: int) -> int:
    if type(value) is int and low <= value <= high:
        return value
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidInput(field, value, f"give a whole number from {low} to {high}")
    return int(value)


def check_number(field: str, value: object, low: float, high: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidInput(field, value, f"give a number from {low:g} to {high:g}")
    # A zero has no sign: not every store keeps one.
    return float(value) + 0.0


def check_time(field: str, value: object) -> datetime:
    """Return an aware time in UTC."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise InvalidInput(field, value, "give an aware datetime, such as datetime.now(UTC)")
    if not EARLIEST <= value <= LATEST:
        raise InvalidInput(field, value, f"give a time from {EARLIEST.year} to {LATEST.year}")
    return value.astimezone(UTC)


def check_length(field: str, value: object, *, shortest: timedelta = timedelta(0)) -> timedelta:
    """Return a length in whole milliseconds, rounded up, since that is what the stores keep."""
    if not isinstance(value, timedelta) or not shortest <= value <= MAX_LENGTH:
        raise InvalidInput(field, value, f"give a timedelta from {shortest} to {MAX_LENGTH.days} days")
    return -(-value // _MILLISECOND) * _MILLISECOND


def check_uuid(field: str, value: object) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(str(value))
    except ValueError:
        raise InvalidInput(field, value, "give a UUID, such as 018f3c6e-0000-7000-8000-000000000001") from None


def to_milliseconds(length: timedelta) -> int:
    return -(-length // _MILLISECOND)


@lru_cache(1_024)
def from_milliseconds(milliseconds: int) -> timedelta:
    return timedelta(milliseconds=milliseconds)


@lru_cache(1_024)
def to_text(time: datetime) -> str:
    """Return a UTC time as ISO 8601 with microseconds and Z, the form that events carry."""
    return f"{time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def from_text(text: str) -> datetime:
    return datetime.fromisoformat(text)
