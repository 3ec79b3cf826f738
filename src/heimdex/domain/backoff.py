"""How long a failed job waits before its next attempt."""

from datetime import timedelta
from typing import TypeAlias

from attrs import field, frozen

from heimdex.domain.rules import check_length, check_number

NO_WAIT = timedelta(0)


def _base(value: timedelta) -> timedelta:
    return check_length("backoff.base", value)


def _factor(value: float) -> float:
    return check_number("backoff.factor", value, 1, 100)


def _cap(value: timedelta) -> timedelta:
    return check_length("backoff.cap", value)


def _jitter(value: float) -> float:
    return check_number("backoff.jitter", value, 0, 1)


@frozen
class NoRetry:
    """The first failure is the last."""

    policy = "none"
    base: timedelta = field(default=NO_WAIT, init=False)
    factor: float = field(default=1.0, init=False)
    cap: timedelta = field(default=NO_WAIT, init=False)
    jitter: float = field(default=0.0, init=False)


@frozen(kw_only=True)
class Fixed:
    """Always `base`, lengthened by up to `jitter` (a fraction of it)."""

    policy = "fixed"
    base: timedelta = field(converter=_base)
    factor: float = field(default=1.0, init=False)
    jitter: float = field(default=0.5, converter=_jitter)

    @property
    def cap(self) -> timedelta:
        return self.base


@frozen(kw_only=True)
class Exponential:
    """`base`, then `factor` times more after each attempt up to `cap`, lengthened by up to `jitter` (a fraction).

    The jitter is added after the cap, so that jobs which have reached the cap do not come back in one moment.
    """

    policy = "exp"
    base: timedelta = field(default=timedelta(seconds=5), converter=_base)
    factor: float = field(default=2.0, converter=_factor)
    cap: timedelta = field(default=timedelta(hours=1), converter=_cap)
    jitter: float = field(default=0.5, converter=_jitter)


Backoff: TypeAlias = NoRetry | Fixed | Exponential


def delay(backoff: Backoff, attempt: int, random: float) -> timedelta:
    """Return the wait after the `attempt`-th failure.

    Args:
        random: from [0, 1); 0 gives the shortest wait, which is never earlier than the policy asks.
    """
    if not backoff.base:
        return NO_WAIT
    steps = max(attempt - 1, 0)
    try:
        wait = min(backoff.base * backoff.factor**steps, backoff.cap)
    except OverflowError:
        wait = backoff.cap
    return wait * (1 + backoff.jitter * random)
