"""How long a failed job waits."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heimdex.domain.backoff import Backoff, Exponential, Fixed, NoRetry, delay
from heimdex.domain.errors import InvalidInput
from heimdex.domain.rules import MAX_ATTEMPTS, MAX_LENGTH

SECOND = timedelta(seconds=1)
ALMOST_ONE = 1 - 2**-53


def test_no_policy_waits_not_at_all() -> None:
    assert delay(NoRetry(), 1, 0.9) == timedelta(0)
    assert (NoRetry().policy, NoRetry().base, NoRetry().cap, NoRetry().factor, NoRetry().jitter) == (
        "none",
        timedelta(0),
        timedelta(0),
        1.0,
        0.0,
    )


@pytest.mark.parametrize("attempt", [1, 2, MAX_ATTEMPTS])
def test_a_fixed_policy_waits_always_the_same(attempt: int) -> None:
    assert delay(Fixed(base=7 * SECOND), attempt, 0) == 7 * SECOND


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 5), (2, 10), (3, 20), (4, 40), (10, 2_560), (11, 3_600), (12, 3_600), (1_000, 3_600)]
)
def test_the_default_policy_doubles_five_seconds_up_to_an_hour(attempt: int, seconds: int) -> None:
    assert delay(Exponential(), attempt, 0) == seconds * SECOND


def test_jitter_is_added_even_to_the_cap() -> None:
    policy = Exponential(base=SECOND, factor=10, cap=5 * SECOND, jitter=0.5)
    assert delay(policy, 1, 0.5) == 1.25 * SECOND
    assert delay(policy, 9, 0.5) == 6.25 * SECOND
    assert delay(Fixed(base=SECOND, jitter=0), 1, ALMOST_ONE) == SECOND


def test_a_cap_below_the_base_wins() -> None:
    assert delay(Exponential(base=9 * SECOND, cap=SECOND), 1, 0) == SECOND


@pytest.mark.parametrize("factor", [2, 100])
def test_what_no_number_can_hold_is_the_cap(factor: float) -> None:
    assert delay(Exponential(base=MAX_LENGTH, factor=factor, cap=MAX_LENGTH), MAX_ATTEMPTS, 0) == MAX_LENGTH


def test_a_base_of_nothing_never_waits() -> None:
    assert delay(Exponential(base=timedelta(0)), MAX_ATTEMPTS, ALMOST_ONE) == timedelta(0)


LENGTHS = st.integers(0, 365 * 86_400_000).map(lambda milliseconds: timedelta(milliseconds=milliseconds))
JITTERS = st.floats(0, 1)
POLICIES: st.SearchStrategy[Backoff] = st.one_of(
    st.just(NoRetry()),
    st.builds(Fixed, base=LENGTHS, jitter=JITTERS),
    st.builds(Exponential, base=LENGTHS, factor=st.floats(1, 100), cap=LENGTHS, jitter=JITTERS),
)


@settings(max_examples=40)
@given(POLICIES, st.integers(1, MAX_ATTEMPTS), st.floats(0, ALMOST_ONE))
def test_a_wait_is_never_earlier_than_asked_never_longer_than_cap_and_jitter_and_never_shrinks(
    policy: Backoff, attempt: int, random: float
) -> None:
    asked = delay(policy, attempt, 0)
    assert min(policy.base, policy.cap) <= asked <= policy.cap
    assert asked <= delay(policy, attempt, random) <= asked * (1 + policy.jitter)
    assert asked <= delay(policy, attempt + 1, 0)


def test_lengths_are_whole_milliseconds_from_the_start() -> None:
    policy = Exponential(base=timedelta(microseconds=1), cap=timedelta(microseconds=1_001))
    assert (policy.base, policy.cap) == (timedelta(milliseconds=1), timedelta(milliseconds=2))
    assert Fixed(base=timedelta(microseconds=1)).cap == timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base", -SECOND),
        ("base", 5),
        ("base", MAX_LENGTH + SECOND),
        ("cap", "1h"),
        ("cap", -SECOND),
        ("factor", 0.9),
        ("factor", 101),
        ("factor", "two"),
        ("factor", None),
        ("factor", True),
        ("jitter", -0.1),
        ("jitter", 1.1),
        ("jitter", float("nan")),
        ("jitter", "much"),
    ],
)
def test_a_policy_outside_the_rules_names_the_number(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=rf"^backoff\.{field}: "):
        Exponential(**{field: value})  # type: ignore[arg-type]  # what is not typed is what is tested
    if field in {"base", "jitter"}:
        with pytest.raises(InvalidInput, match=rf"^backoff\.{field}: "):
            Fixed(**{"base": SECOND, field: value})  # type: ignore[arg-type]  # as above
