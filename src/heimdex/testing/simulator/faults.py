"""What goes wrong in a simulation, where, and how often."""

from enum import StrEnum
from random import Random

from attrs import define, field, frozen

from heimdex.domain.errors import (
    ConnectionLost,
    DatabaseError,
    DatabaseUnavailable,
    SerializationConflict,
    TransientDatabaseError,
)
from heimdex.testing.simulator.chance import chance


class Fault(StrEnum):
    """What can happen at a call of a port."""

    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    LOST_BEFORE = "connection_lost_before"
    LOST_AFTER = "connection_lost_after"
    LOST_LATE = "connection_lost_committed_late"
    DELAY = "delay"
    PAUSE = "pause_beyond_lease"
    SERIALIZATION = "40001"
    DEADLOCK = "40P01"
    CONNECTIONS = "53300"
    DISK_FULL = "53100"
    READ_ONLY = "25006"


CRASHES = frozenset({Fault.CRASH_BEFORE, Fault.CRASH_AFTER})
OF_COMMIT = frozenset({Fault.LOST_LATE})
"""What can only happen to a COMMIT: its connection is lost, and the server commits when it has been looked for."""

OF_SOME_LENGTH = frozenset({Fault.LOST_LATE, Fault.DELAY, Fault.PAUSE})
"""What may take a shorter or a longer while."""

_ERRORS: dict[Fault, DatabaseError] = {
    Fault.LOST_BEFORE: ConnectionLost("simulated: the connection was lost"),
    Fault.LOST_AFTER: ConnectionLost("simulated: the connection was lost"),
    Fault.SERIALIZATION: SerializationConflict("simulated: could not serialize access"),
    Fault.DEADLOCK: TransientDatabaseError("simulated: deadlock detected"),
    Fault.CONNECTIONS: DatabaseUnavailable("simulated: too many clients already"),
    Fault.DISK_FULL: DatabaseUnavailable("simulated: no space left on device"),
    Fault.READ_ONLY: DatabaseUnavailable("simulated: a read-only transaction"),
}
REFUSALS = frozenset(_ERRORS) - {Fault.LOST_AFTER}
"""What a database answers instead of doing what it is asked to."""


def error_of(fault: Fault) -> DatabaseError:
    error = _ERRORS[fault]
    return type(error)(error.detail)


@frozen
class Site:
    """A place where one kind of fault may happen: a port call by name, or "" for what happens at any moment."""

    call: str
    fault: str

    def __str__(self) -> str:
        return f"{self.call}:{self.fault}" if self.call else self.fault


@define(eq=False)
class _Drawing:
    site: Site
    probability: float
    draws: Random


@define(eq=False, kw_only=True)
class FaultPlan:
    """Which faults happen in a run: each site is active in a quarter of all runs, and then happens now and then.

    Args:
        without: sites that are never active, for finding out which of them matter.
    """

    seed: int
    share: float = 0.25
    without: frozenset[str] = frozenset()
    _by_call: dict[str, list[_Drawing]] = field(factory=dict, init=False)

    def drawn(self, call: str) -> Fault | None:
        """Return what happens at a call."""
        active = self._by_call.get(call)
        if active is None:
            active = self._by_call[call] = [found for fault in Fault if (found := self._active(call, fault))]
        for drawing in active:
            if drawing.draws.random() < drawing.probability:
                return Fault(drawing.site.fault)
        return None

    def is_active(self, site: Site) -> bool:
        draws = chance(self.seed, "active", str(site))
        return draws.random() < self.share and not {str(site), site.fault} & self.without

    def _active(self, call: str, fault: Fault) -> _Drawing | None:
        site = Site(call, fault)
        if (fault in OF_COMMIT and not call.startswith("commit")) or not self.is_active(site):
            return None
        draws = chance(self.seed, "happens", str(site))
        most = 0.02 if fault in CRASHES or fault is Fault.PAUSE else 0.06
        return _Drawing(site, draws.uniform(most / 4, most), draws)
