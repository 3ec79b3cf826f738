"""Statistics of a run: medians, percentiles, and the bootstrap interval of a ratio. The standard library alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from random import Random
from statistics import median

RESAMPLES = 5_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    middle: float
    high: float


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile: the smallest sample that `percent` of all do not exceed."""
    if not samples or not 0 < percent <= 100:  # noqa: PLR2004 - per cent
        raise ValueError(f"no percentile {percent} of {len(samples)} samples")
    return sorted(samples)[ceil(percent / 100 * len(samples)) - 1]


def ratio(ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the ratio of the medians of two peers that ran in the same rounds, with its bootstrap interval.

    Rounds are drawn, not samples: what slowed a round slowed both. With one round the interval is that round's ratio.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13 (the percentile interval).
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds beside {len(theirs)}")
    chance = Random(seed)  # noqa: S311 - a resample, repeatable
    rounds = range(len(ours))
    drawn = []
    for _ in range(RESAMPLES):
        chosen = chance.choices(rounds, k=len(rounds))
        drawn.append(median(ours[one] for one in chosen) / median(theirs[one] for one in chosen))
    outside = (1 - CONFIDENCE) / 2 * 100
    return Interval(percentile(drawn, outside), median(ours) / median(theirs), percentile(drawn, 100 - outside))


def median_interval(values: Sequence[float], *, seed: int = 0) -> Interval:
    """Return the median of rounds, with its bootstrap interval."""
    chance = Random(seed)  # noqa: S311 - a resample, repeatable
    drawn = [median(chance.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    outside = (1 - CONFIDENCE) / 2 * 100
    return Interval(percentile(drawn, outside), median(values), percentile(drawn, 100 - outside))


def claimed(interval: Interval, *, more_is_better: bool) -> float:
    """Return the end of the interval that is worse for us: the only figure that we state."""
    return interval.low if more_is_better else interval.high


def order_of(names: Sequence[str], round_number: int) -> list[str]:
    """Return the order of a round: forth, back, then both begun one later, so that everybody begins once."""
    shift = round_number // 2 % len(names)
    turned = [*names[shift:], *names[:shift]]
    return turned if round_number % 2 == 0 else turned[::-1]
