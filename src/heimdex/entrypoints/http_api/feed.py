"""What happens to watched jobs, asked once for all who watch: the ledger is asked at one pace."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from uuid import UUID

from attrs import define, field
from starlette.concurrency import run_in_threadpool

from heimdex.bootstrap import Application
from heimdex.domain.errors import DatabaseError
from heimdex.domain.events import JobEvent
from heimdex.domain.scope import Tenant
from heimdex.domain.transitions import END_STATUSES, Status
from heimdex.service_layer.ports import MAX_FOLLOWED, MAX_LISTED

EVERY_SECONDS = 0.5

_log = logging.getLogger("heimdex.api")


@define(eq=False)
class Watch:
    """Somebody who watches one job. `seq` and `status` are those of the last event that was handed out."""

    org_id: UUID
    job_id: UUID
    seq: int = 0
    status: Status | None = None
    at_rest: bool = False
    _events: list[JobEvent] = field(factory=list)
    _changed: asyncio.Event = field(factory=asyncio.Event)

    @property
    def waits(self) -> bool:
        """Whether all that was handed out has been taken: who is slow is not given more."""
        return not self._events

    def hand(self, events: Iterable[JobEvent], *, complete: bool) -> None:
        """Hand out what happened. `complete` says that nothing more had happened then."""
        for event in events:
            if event.seq > self.seq:
                self._events.append(event)
                self.seq, self.status = event.seq, event.next_status
        self.at_rest = complete and self.status in END_STATUSES
        if self._events or self.at_rest:
            self._changed.set()

    async def take(self, seconds: float) -> list[JobEvent]:
        """Return what happened since the last call, after at most so many seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return []
        self._changed.clear()
        taken, self._events = self._events, []
        return taken


class Feed:
    """The watches of one process. For one event loop."""

    def __init__(self, application: Application, every: float = EVERY_SECONDS) -> None:
        self._application = application
        self._every = every
        self._watches: set[Watch] = set()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._watches)

    def join(self, watch: Watch) -> None:
        self._watches.add(watch)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def leave(self, watch: Watch) -> None:
        self._watches.discard(watch)

    async def _run(self) -> None:
        while self._watches:
            try:
                await self._look()
            except DatabaseError as error:
                _log.warning("the event feed could not ask the ledger: %s", error)
            await asyncio.sleep(self._every)

    async def _look(self) -> None:
        by_org: defaultdict[UUID, defaultdict[UUID, list[Watch]]] = defaultdict(lambda: defaultdict(list))
        for watch in self._watches:
            if watch.waits and not watch.at_rest:
                by_org[watch.org_id][watch.job_id].append(watch)
        for org_id, by_job in by_org.items():
            waiting = iter(by_job.items())
            while jobs := list(islice(waiting, MAX_FOLLOWED)):
                seen = {job_id: min(watch.seq for watch in watches) for job_id, watches in jobs}
                found = await run_in_threadpool(self.ask, org_id, seen)
                complete = sum(map(len, found.values())) < MAX_LISTED
                for job_id, watches in jobs:
                    for watch in watches:
                        watch.hand(found[job_id], complete=complete)

    def ask(self, org_id: UUID, seen: Mapping[UUID, int]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        scope = Tenant(org_id, actor="heimdex", source="event feed")
        with self._application.views(scope) as views:
            return views.events_after(seen)
