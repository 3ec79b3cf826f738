"""Ids of rows: UUIDs that sort by the time at which they were drawn."""

import secrets
import time
from collections.abc import Callable
from threading import Lock
from uuid import UUID

_COUNTER_BITS = 12
_RANDOM_BITS = 62


def _wall_milliseconds() -> int:
    return time.time_ns() // 1_000_000


class UuidSeven:
    """Draws UUIDv7s; each sorts after the ones drawn before it in this process, even when the clock steps back.

    Source: RFC 9562, 5.7 and 6.2 (method 1: a counter in rand_a, which begins anew with each millisecond).
    """

    def __init__(
        self,
        milliseconds: Callable[[], int] = _wall_milliseconds,
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        self._milliseconds = milliseconds
        self._random_bits = random_bits
        self._lock = Lock()
        # Time and counter as one number, so that a full counter carries into the next millisecond.
        self._last = 0

    def __call__(self) -> UUID:
        with self._lock:
            self._last = max(self._milliseconds() << _COUNTER_BITS, self._last + 1)
            moment, counter = self._last >> _COUNTER_BITS, self._last & ((1 << _COUNTER_BITS) - 1)
        return UUID(int=moment << 80 | 7 << 76 | counter << 64 | 2 << 62 | self._random_bits(_RANDOM_BITS))
