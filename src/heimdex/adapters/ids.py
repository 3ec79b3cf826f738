"""Ids of rows: UUIDs that sort by the time at which they were drawn."""

import os
import time
from collections.abc import Callable
from struct import iter_unpack
from threading import Lock
from uuid import UUID, SafeUUID
from weakref import WeakMethod

_COUNTER_BITS = 12
_COUNTER = (1 << _COUNTER_BITS) - 1
_VERSION_AND_VARIANT = 7 << 76 | 2 << 62
_RANDOM_BITS = 62
_set = object.__setattr__
_UNKNOWN = SafeUUID.unknown
_WORD_BITS, _WORD_BYTES, _WORDS_AT_ONCE = 64, 8, 256


def _wall_milliseconds() -> int:
    return time.time_ns() // 1_000_000


class RandomBits:
    """Random bits from the system, which is asked for many at a time: a question costs more than an id.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._rest: list[int] = []
        # A forked child must not go on with what its parent has drawn.
        forget = WeakMethod(self._rest_is_of_the_parent)
        os.register_at_fork(after_in_child=lambda: (act := forget()) and act())

    def __call__(self, bits: int) -> int:
        if not self._rest:
            drawn = os.urandom(_WORDS_AT_ONCE * _WORD_BYTES)
            self._rest = [word for (word,) in iter_unpack("Q", drawn)]
        return self._rest.pop() >> (_WORD_BITS - bits)

    def _rest_is_of_the_parent(self) -> None:
        self._rest = []


class UuidSeven:
    """Draws UUIDv7s; each sorts after the ones drawn before it in this process, even when the clock steps back.

    Source: RFC 9562, 5.7 and 6.2 (method 1: a counter in rand_a, which begins anew with each millisecond).
    """

    def __init__(
        self,
        milliseconds: Callable[[], int] = _wall_milliseconds,
        random_bits: Callable[[int], int] | None = None,
    ) -> None:
        self._milliseconds = milliseconds
        self._random_bits = random_bits or RandomBits()
        self._lock = Lock()
        # Time and counter as one number, so that a full counter carries into the next millisecond.
        self._last = 0

    def __call__(self) -> UUID:
        with self._lock:
            last = self._last = max(self._milliseconds() << _COUNTER_BITS, self._last + 1)
            chance = self._random_bits(_RANDOM_BITS)
        return _uuid(last >> _COUNTER_BITS << 80 | (last & _COUNTER) << 64 | _VERSION_AND_VARIANT | chance)


def _uuid(number: int) -> UUID:
    # Past __init__, which looks for which of its six arguments it was given.
    made = UUID.__new__(UUID)
    _set(made, "int", number)
    _set(made, "is_safe", _UNKNOWN)
    return made
