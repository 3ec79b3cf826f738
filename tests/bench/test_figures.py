"""Statistics of the benchmark."""

import pytest

from bench.figures import Interval, claimed, order_of, percentile, ratio


def test_a_percentile_is_a_sample() -> None:
    samples = [float(number) for number in range(100, 0, -1)]

    assert [percentile(samples, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([3.0, 1.0, 2.0], 50) == 2


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_there_is_no_percentile_of_nothing_or_beyond_all(samples: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile(samples, percent)


def test_a_steady_ratio_has_no_spread_though_the_machine_has() -> None:
    theirs = [100.0, 50.0, 200.0, 120.0, 80.0, 60.0, 90.0]
    ours = [2 * value for value in theirs]

    assert ratio(ours, theirs) == Interval(2, 2, 2)


def test_an_interval_holds_the_middle_and_widens_with_the_spread() -> None:
    theirs = [100.0] * 7
    narrow = ratio([198.0, 199.0, 200.0, 200.0, 200.0, 201.0, 202.0], theirs)
    wide = ratio([150.0, 170.0, 190.0, 200.0, 210.0, 230.0, 250.0], theirs)

    assert narrow.low <= narrow.middle == 2 <= narrow.high
    assert wide.low < narrow.low
    assert wide.high > narrow.high


def test_an_interval_is_the_same_each_time() -> None:
    assert ratio([1.0, 2.0, 4.0], [2.0, 3.0, 2.0]) == ratio([1.0, 2.0, 4.0], [2.0, 3.0, 2.0])


def test_one_round_has_its_ratio_alone() -> None:
    assert ratio([3.0], [2.0]) == Interval(1.5, 1.5, 1.5)


def test_rounds_are_compared_with_their_own() -> None:
    with pytest.raises(ValueError, match="2 rounds beside 1"):
        ratio([1.0, 2.0], [1.0])


def test_the_figure_is_the_end_that_is_worse_for_us() -> None:
    interval = Interval(0.9, 1.0, 1.2)

    assert claimed(interval, more_is_better=True) == 0.9
    assert claimed(interval, more_is_better=False) == 1.2


def test_everybody_runs_in_every_round_and_nobody_always_behind_the_same() -> None:
    names = ["a", "b", "c", "d"]
    orders = [order_of(names, number) for number in range(8)]

    assert all(sorted(order) == names for order in orders)
    before = {order[order.index("b") - 1] for order in orders if order.index("b")}
    assert before == {"a", "c"}
    assert {order[0] for order in orders} == set(names)
