"""Time in tests: it stands still until it is moved."""

from datetime import UTC, datetime, timedelta

from heimdex.domain.errors import InvalidInput
from heimdex.domain.rules import LATEST, check_time
from heimdex.service_layer.ports import Clock

START = datetime(2026, 1, 1, 12, tzinfo=UTC)

_NO_TIME = timedelta(0)


class SimulatedClock(Clock):
    """A wall clock and a monotonic one that move together, forwards only, and only when they are told to."""

    def __init__(self, at: datetime = START) -> None:
        self._start = self._now = check_time("at", at)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return (self._now - self._start).total_seconds()

    def advance(self, length: timedelta) -> None:
        """Let time pass.

        Raises:
            InvalidInput: no timedelta, or a negative one.
        """
        self._now += _checked(length, LATEST - self._now)

    def set(self, at: datetime) -> None:
        """Go on to a moment.

        Raises:
            InvalidInput: no aware datetime, or one that is past.
        """
        at = check_time("at", at)
        if at < self._now:
            raise InvalidInput("at", at, f"give a time that is not before the clock's, {self._now}")
        self._now = at


def _checked(length: object, longest: timedelta) -> timedelta:
    if not isinstance(length, timedelta) or not _NO_TIME <= length <= longest:
        raise InvalidInput("length", length, f"give a timedelta that is not negative and ends before {LATEST.year}")
    return length
