"""Working until nothing is left to do."""

import logging
from collections.abc import Callable, Collection
from signal import Signals

from attrs import define, frozen

from heimdex.bootstrap import Application
from heimdex.config import Settings
from heimdex.domain.errors import DatabaseError
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import END_STATUSES, Status
from heimdex.entrypoints.worker_process import run_worker
from heimdex.service_layer.ports import Statistics, Views
from heimdex.service_layer.worker import Worker

UNFINISHED = tuple(status for status in Status if status not in END_STATUSES)

_LOOK_SECONDS = 0.2
# A look that takes long comes round less often, so that it never takes much of the time.
_PART_OF_THE_TIME = 10


@frozen
class Draining:
    """What to work on until nothing is left. `is_done` is asked a few times a second, with views of `scope`."""

    application: Application
    worker: Worker
    scope: Scope
    is_done: Callable[[Views], bool]

    def run(self) -> Signals | None:
        """Work; return the signal that came before all was done, or None."""
        return run_worker(self.worker, _Look(self))


@define
class _Look:
    draining: Draining
    due_at: float = 0.0
    done: bool = False

    def __call__(self) -> None:
        now = self.draining.application.clock.monotonic
        began = now()
        if self.done or began < self.due_at:
            return
        try:
            with self.draining.application.views(self.draining.scope) as views:
                self.done = self.draining.is_done(views)
        except DatabaseError as error:
            logging.getLogger("heimdex.worker").warning("the database failed, looking again: %s", error)
        if self.done:
            self.draining.worker.stop()
        ended = now()
        self.due_at = ended + max(_LOOK_SECONDS, _PART_OF_THE_TIME * (ended - began))


def quick(settings: Settings) -> Settings:
    """Return settings for a worker that is watched: it comes round as often as somebody looks."""
    return settings.changed(poll_seconds=min(settings.poll_seconds, _LOOK_SECONDS))


def unfinished(statistics: Statistics, *types: str) -> int:
    """Return how many jobs of these types are queued, due or not, or running."""
    return _count(statistics, types, UNFINISHED)


def ended(statistics: Statistics, *types: str) -> int:
    """Return how many jobs of these types have ended, with success or without."""
    return _count(statistics, types, END_STATUSES)


def _count(statistics: Statistics, types: Collection[str], statuses: Collection[Status]) -> int:
    return sum(statistics.by_type.get(type, {}).get(status, 0) for type in types for status in statuses)
