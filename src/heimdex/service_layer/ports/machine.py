"""The machine that this runs on: time, chance, ids, where a worker waits and runs code, who renews its leases."""

from collections.abc import Callable, Collection, Coroutine
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias
from uuid import UUID

from heimdex.domain.job import Hold

Ids: TypeAlias = Callable[[], UUID]
"""Draws a new UUIDv7; later ones of one process sort after earlier ones."""

Random: TypeAlias = Callable[[], float]
"""Draws from [0, 1)."""

Sleep: TypeAlias = Callable[[timedelta], None]


class Clock(Protocol):
    def now(self) -> datetime:
        """Return the wall clock's time, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never runs backwards."""


class Wakeups(Protocol):
    """Tells waiting workers that there may be work. A hint: one that is lost costs a poll interval."""

    def wake(self, queues: Collection[str]) -> None: ...

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener`, from any thread, at each wake-up; returns what ends the subscription."""


class Inbox(Protocol):
    """Where a worker waits. The one thing that other threads, and signal handlers, may touch."""

    def put(self, message: Callable[[], None]) -> None:
        """Leave a call that the worker's loop makes when it comes round."""

    def get(self, timeout: timedelta) -> Callable[[], None] | None:
        """Return the next call, or None after `timeout`; zero does not wait."""


class Runner(Protocol):
    """Runs code somewhere else, `slots` pieces at a time, in the order given."""

    @property
    def slots(self) -> int: ...

    def submit(self, *pieces: Callable[[], None]) -> None:
        """Run each piece of work, which never raises, when a slot is free; return at once."""

    def submit_async(self, work: Callable[[], Coroutine[object, object, None]]) -> Callable[[], None]:
        """Run `work` beside others on one event loop when a slot is free; return at once.

        Returns:
            What interrupts it. Work that has not begun never will; work that has is cancelled where it awaits, and its
            slot comes back when it ends.
        """

    def close(self) -> None:
        """Take no more work. What runs is not waited for, and does not keep the process alive."""


class Renewer(Protocol):
    """Prolongs leases from outside this process, where code that keeps the interpreter to itself cannot stall it.

    It may fail in silence: whoever uses it looks at `renewed_at`, and renews by itself what this one does not. Only the
    worker's loop calls it. Times are those of `Clock.monotonic`.
    """

    def add(self, hold: Hold, *, until: float) -> None:
        """Renew a lease from now on, and no longer at `until`, whatever becomes of this process."""

    def remove(self, hold: Hold) -> None:
        """Renew a lease no longer. One renewal more may be under way."""

    def renewed_at(self, hold: Hold) -> float | None:
        """Return when the last renewal that succeeded was asked for; None: there was none, or it is not held here."""

    def close(self) -> None: ...


class NoRenewer(Renewer):
    """Leaves all renewals to the worker's loop."""

    def add(self, hold: Hold, *, until: float) -> None:
        pass

    def remove(self, hold: Hold) -> None:
        pass

    def renewed_at(self, hold: Hold) -> float | None:  # noqa: ARG002 - the signature of the port
        return None

    def close(self) -> None:
        pass
