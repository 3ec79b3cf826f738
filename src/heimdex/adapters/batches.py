"""Creating very many jobs: in batches, each in a unit of work of its own, two of them side by side.

While one batch waits for the database, the other is made ready: to check and write down a batch takes about as long as
to store it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from uuid import UUID

from heimdex.adapters.nesting import enter
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import HeimdexError
from heimdex.domain.new_job import NewJob, with_id
from heimdex.domain.results import Created, CreatedBatch
from heimdex.domain.scope import Scope
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.ports import Ids

_WRITERS = 2


class BatchedCreation:
    """Creates through a bus, which tries each batch again after a transient failure.

    Args:
        side_by_side: whether two units of work can write at the same time; if not, all happens in the caller's thread.
    """

    def __init__(self, bus: MessageBus, *, ids: Ids, side_by_side: bool) -> None:
        self._bus = bus
        self._ids = ids
        self._side_by_side = side_by_side

    def create(
        self, scope: Scope, new_jobs: Iterable[NewJob], *, size: int, org_id: UUID | None = None
    ) -> Iterator[CreatedBatch]:
        # Whoever has a unit of work open would wait for it in the other threads.
        enter()()
        batches = self._batches(new_jobs, size)
        if self._side_by_side:
            return self._create_side_by_side(scope, batches, org_id)
        return (self._create(scope, first, batch, org_id) for first, batch in batches)

    def _create_side_by_side(
        self, scope: Scope, batches: Iterator[tuple[int, list[NewJob]]], org_id: UUID | None
    ) -> Iterator[CreatedBatch]:
        failure: Exception | None = None
        under_way: deque[Future[CreatedBatch]] = deque()
        pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="heimdex-batch")
        try:
            while True:
                # One more than can be written, so that no writer waits for whoever takes the answers.
                while failure is None and len(under_way) <= _WRITERS:
                    try:
                        first, batch = next(batches)
                    except StopIteration:
                        break
                    except Exception as error:  # noqa: BLE001 - of the caller's iterable; raised below
                        failure = error
                        break
                    under_way.append(pool.submit(self._create, scope, first, batch, org_id))
                if not under_way:
                    break
                try:
                    created = under_way.popleft().result()
                except Exception as error:  # noqa: BLE001 - raised below, once it is known what the others did
                    failure = failure or error
                    under_way = deque(one for one in under_way if not one.cancel())
                    continue
                yield created
        finally:
            pool.shutdown(cancel_futures=True)
        if failure is not None:
            raise failure

    def _create(self, scope: Scope, first: int, batch: list[NewJob], org_id: UUID | None) -> CreatedBatch:
        try:
            created: Sequence[Created] = self._bus.handle(CreateJobs(scope=scope, new_jobs=batch, org_id=org_id))
        except HeimdexError as error:
            error.add_note(f"in the batch of jobs {first:,} to {first + len(batch) - 1:,}, counted from 0")
            raise
        return CreatedBatch(first, created)

    def _batches(self, new_jobs: Iterable[NewJob], size: int) -> Iterator[tuple[int, list[NewJob]]]:
        # The ids at once: one request less in memory than if the bus drew them.
        waiting, first = map(self._with_id, new_jobs), 0
        while batch := list(islice(waiting, size)):
            yield first, batch
            first += len(batch)

    def _with_id(self, new: NewJob) -> NewJob:
        return with_id(new, self._ids()) if new.id is None else new
