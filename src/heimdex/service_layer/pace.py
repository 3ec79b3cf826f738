"""When a worker does what, and how far ahead it claims."""

import math
from datetime import timedelta

from attrs import define, field, frozen

SECONDS_AHEAD = 0.5
"""A claim takes what is expected to run within so many seconds.

It is enough that no thread waits for the database, and little enough that jobs do not wait here while another worker
is idle.
"""

# How much the last run counts for the average.
_WEIGHT = 0.2


@frozen(kw_only=True)
class WorkerSettings:
    """How a worker works.

    Args:
        batch: at most so many jobs are held at a time, unless there are more slots.
        queues: None is every queue.
    """

    batch: int = 100
    lease: timedelta = timedelta(seconds=30)
    renew: timedelta = timedelta(seconds=10)
    sweep: timedelta = timedelta(seconds=5)
    poll: timedelta = timedelta(seconds=1)
    grace: timedelta = timedelta(seconds=20)
    queues: frozenset[str] | None = None


@define(eq=False)
class Timer:
    """Something that is due every so many seconds. It stays due until it is restarted, so that what failed is tried."""

    every: float
    due_at: float

    def is_due(self, now: float) -> bool:
        return now >= self.due_at

    def restart(self, now: float) -> None:
        self.due_at = now + self.every

    def postpone(self, moment: float) -> None:
        self.due_at = max(self.due_at, moment)


@define(eq=False)
class Pace:
    """How many jobs a worker holds.

    Args:
        slots: so many run at a time.
        most: the upper bound.
        claims: so many claims may be on their way at a time; they share the room.
    """

    slots: int
    most: int
    claims: int = 1
    _average: float = field(default=SECONDS_AHEAD, init=False)

    def observe(self, seconds: float) -> None:
        """Take in how long a run took."""
        self._average += _WEIGHT * (seconds - self._average)

    def room(self, held: int, busy: int) -> int:
        """Return how many jobs to claim now, for the slots that will be free soon; `busy` ones will not.

        While each of these slots has a job, none until half of those held have ended.

        Args:
            held: so many are held beside those in busy slots, or asked for.
        """
        slots = self.slots - busy
        soon = slots * SECONDS_AHEAD / max(self._average, 1e-6)
        target = int(min(max(slots, soon), self.most - busy))
        if held >= slots and held > target // 2:
            return 0
        return min(target - held, max(slots, math.ceil(target / self.claims)))
