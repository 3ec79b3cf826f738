"""How much one organisation may ask of one process, so that it cannot keep the others from being served."""

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from attrs import define

from heimdex.domain.errors import LimitReached

_MOST_REMEMBERED = 10_000
_COUNTED_FOR = 5.0


@define
class _Bucket:
    tokens: float
    filled_at: float


class RequestRate:
    """A token bucket for each organisation: as many requests at once as it may make in a second. For one thread.

    Args:
        per_second: requests of one organisation.
        now: a clock in seconds that only moves forward.
    """

    def __init__(self, per_second: int, now: Callable[[], float]) -> None:
        self._per_second = per_second
        self._now = now
        self._buckets: dict[UUID, _Bucket] = {}

    def take(self, org_id: UUID) -> None:
        """Count a request.

        Raises:
            LimitReached: it is one too many.
        """
        now = self._now()
        bucket = self._buckets.get(org_id)
        if bucket is None:
            if len(self._buckets) >= _MOST_REMEMBERED:
                self._forget_idle(now)
            bucket = self._buckets[org_id] = _Bucket(self._per_second, now)
        filled = bucket.tokens + (now - bucket.filled_at) * self._per_second
        bucket.tokens, bucket.filled_at = min(self._per_second, filled), now
        if bucket.tokens < 1:
            raise LimitReached(f"{self._per_second} requests a second", (1 - bucket.tokens) / self._per_second)
        bucket.tokens -= 1

    def _forget_idle(self, now: float) -> None:
        """Forget whoever has asked nothing for a second: a new bucket is as full as theirs."""
        self._buckets = {org_id: bucket for org_id, bucket in self._buckets.items() if now - bucket.filled_at < 1}


class CountQueued(Protocol):
    def __call__(self) -> int: ...


@define
class _Counted:
    jobs: int
    counted_at: float


class QueuedQuota:
    """How many jobs of an organisation may wait. The count is some seconds old, and knows what came through here since.

    Several processes, or jobs that are created past the API, may so exceed it by what they create in that time.
    """

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._counts: dict[UUID, _Counted] = {}

    def take(self, org_id: UUID, jobs: int, count: CountQueued) -> None:
        """Count jobs that are about to be created.

        Raises:
            LimitReached: they are too many.
        """
        now = self._now()
        known = self._counts.get(org_id)
        if known is None or now - known.counted_at >= _COUNTED_FOR:
            if len(self._counts) >= _MOST_REMEMBERED:
                self._counts.clear()
            known = self._counts[org_id] = _Counted(count(), now)
        if known.jobs + jobs > self._most:
            raise LimitReached(f"{self._most} queued jobs", _COUNTED_FOR)
        known.jobs += jobs
