"""What the contract suite needs of a store: units of work, views, and a clock that stands still until it is moved."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from heimdex.adapters.job_verbs import Tools
from heimdex.adapters.wakeups import LocalWakeups
from heimdex.domain.new_job import specify
from heimdex.domain.scope import Scope
from heimdex.service_layer.ports import UnitOfWork, Views

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class HandClock:
    """A clock that is set by hand."""

    def __init__(self, at: datetime = START) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def monotonic(self) -> float:
        return self._at.timestamp()

    def set(self, at: datetime) -> None:
        self._at = at


class SequentialIds:
    """Ids 1, 2, 3 in the form of UUIDv7, so that every store draws the same ones."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> UUID:
        self._last += 1
        return UUID(int=(7 << 76) | (2 << 62) | (self._last << 80))

    def restart(self) -> None:
        self._last = 0


class StoreHarness(ABC):
    """One store under test. Every store gets the same from outside: the same time, ids and draws."""

    # Whether two units of work can be open at once.
    many_writers = True

    def __init__(self) -> None:
        self.clock = HandClock()
        self.wakeups = LocalWakeups()
        self._ids = SequentialIds()
        # Every draw is the same: a store may draw more often than it needs, and another one less often.
        self.tools = Tools(specify=specify, ids=self._ids, random=lambda: 0.25, wake=lambda _: None)

    def start_anew(self) -> None:
        """Empty the store and begin with time and ids as they were at first."""
        self.set_time(START)
        self._ids.restart()
        self._empty()

    @abstractmethod
    def _empty(self) -> None: ...

    @abstractmethod
    def unit_of_work(self, scope: Scope) -> UnitOfWork: ...

    def unit_of_one_write(self, scope: Scope) -> UnitOfWork:
        return self.unit_of_work(scope)

    @abstractmethod
    def views(self, scope: Scope) -> AbstractContextManager[Views]: ...

    @abstractmethod
    def set_time(self, at: datetime) -> None:
        """Set the clock of the application and of the database."""

    def advance(self, length: timedelta) -> None:
        self.set_time(self.clock.now() + length)

    @abstractmethod
    def close(self) -> None:
        """Release what the store holds."""
