"""Which failures are tried again, how often, and how long the waits are."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdex.domain.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseUnavailable,
    HeimdexError,
    JobNotFound,
    TransientDatabaseError,
)
from heimdex.service_layer.retry import RetryPolicy, RetryTransient, once
from tests.service_layer.worker_harness import ORG

seconds = st.floats(0, 600).map(lambda value: timedelta(seconds=value))


def failing(*errors: Exception) -> Callable[[], str]:
    """Return what raises each of the errors once, and then answers."""
    left = list(errors)

    def act() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return act


def retry(waits: list[timedelta], *, tries: int = 3) -> RetryTransient:
    return RetryTransient(RetryPolicy(tries=tries), sleep=waits.append, random=lambda: 0.0)


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_transient_failure_is_tried_again(failures: int) -> None:
    waits: list[timedelta] = []

    assert retry(waits)(failing(*[TransientDatabaseError("deadlock")] * failures)) == "done"
    assert waits == [timedelta(seconds=1), timedelta(seconds=2)][:failures]


def test_the_last_error_is_raised_as_it_is() -> None:
    errors = [TransientDatabaseError(f"deadlock {n}") for n in range(3)] + [ConnectionLost("gone")]
    waits: list[timedelta] = []

    with pytest.raises(TransientDatabaseError) as caught:
        retry(waits)(failing(*errors))
    assert caught.value is errors[2]
    assert len(waits) == 2


@pytest.mark.parametrize(
    "error", [CommitOutcomeUnknown("cut"), DatabaseUnavailable("full"), JobNotFound(ORG), ValueError()], ids=repr
)
def test_nothing_else_is_tried_again(error: Exception) -> None:
    waits: list[timedelta] = []

    with pytest.raises(type(error)):
        retry(waits)(failing(error))
    assert waits == []


def test_a_policy_of_one_try_never_waits() -> None:
    waits: list[timedelta] = []

    with pytest.raises(HeimdexError):
        retry(waits, tries=1)(failing(TransientDatabaseError("deadlock")))
    assert waits == []


def test_once_is_once() -> None:
    assert once(failing()) == "done"
    with pytest.raises(TransientDatabaseError):
        once(failing(TransientDatabaseError("deadlock")))


@settings(max_examples=20)
@given(st.integers(1, 19), st.floats(0, 1, exclude_max=True), seconds, seconds)
def test_every_wait_is_within_its_bounds(tries_made: int, random: float, one: timedelta, other: timedelta) -> None:
    policy = RetryPolicy(shortest=min(one, other), longest=max(one, other))

    assert policy.shortest <= policy.wait(tries_made, random) <= policy.longest


def test_the_waits_double_and_leave_something_to_chance() -> None:
    policy = RetryPolicy()

    assert [policy.wait(n, 0.0).total_seconds() for n in (1, 2, 3, 4)] == [1, 2, 4, 5]
    assert [policy.wait(n, 0.5).total_seconds() for n in (1, 2, 3, 4)] == [1.5, 3, 6, 7.5]
