"""The simulated clock."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from heimdex import InvalidInput
from heimdex.testing import SimulatedClock

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_it_stands_still() -> None:
    clock = SimulatedClock(NOON)

    assert [clock.now(), clock.now()] == [NOON, NOON]
    assert clock.monotonic() == clock.monotonic() == 0


def test_both_of_its_times_advance_together() -> None:
    clock = SimulatedClock(NOON)

    clock.advance(timedelta(minutes=5, microseconds=1))

    assert clock.now() == NOON + timedelta(minutes=5, microseconds=1)
    assert clock.monotonic() == 300.000001


def test_it_goes_on_to_a_moment_of_any_time_zone() -> None:
    clock = SimulatedClock(NOON)

    clock.set(datetime.fromisoformat("2026-03-01T15:00+02:00"))

    assert clock.now() == NOON + timedelta(hours=1)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() == 3600


@pytest.mark.parametrize("length", [timedelta(seconds=-1), 5, None, timedelta.max])
def test_a_length_that_is_negative_too_long_or_none_is_refused(length: Any) -> None:  # noqa: ANN401 - also wrong types
    clock = SimulatedClock(NOON)

    with pytest.raises(InvalidInput, match=r"length: .* give a timedelta that is not negative"):
        clock.advance(length)

    assert clock.now() == NOON


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(InvalidInput, match="give an aware datetime"):
        SimulatedClock(datetime(2026, 3, 1))  # noqa: DTZ001 - that it is naive is the point
    with pytest.raises(InvalidInput, match="give an aware datetime"):
        SimulatedClock(NOON).set(datetime(2026, 3, 2))  # noqa: DTZ001 - as above


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(InvalidInput, match="not before the clock's, 2026-03-01 12:00"):
        SimulatedClock(NOON).set(NOON - timedelta(seconds=1))
