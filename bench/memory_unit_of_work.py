"""What one small unit of work costs in memory, by the number of jobs that the store holds already.

.venv/bin/python bench/memory_unit_of_work.py [JOBS ...]
"""

import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import count
from statistics import median
from uuid import UUID, uuid4

from heimdex import NewJob, System, Tenant
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.outcomes import Succeed
from heimdex.domain.results import Ending

TENANT = Tenant(UUID(int=1), actor="bench")
WORKER = System(actor="bench", reason="a worker serves every organisation")
LEASE = timedelta(seconds=30)
ROUNDS = 500


def main(sizes: Sequence[int]) -> None:
    sys.stdout.write(f"{'jobs':>9} {'create':>9} {'keyed':>9} {'find':>9} {'claim':>9} {'finish':>9}   microseconds\n")
    for size in sizes:
        with bootstrap(Settings(database_url="memory://")) as app:
            fill(app, size)
            costs = [median(samples) * 1e6 for samples in measure(app)]
        sys.stdout.write(f"{size:>9,} " + " ".join(f"{cost:>9.1f}" for cost in costs) + "\n")


def fill(app: Application, size: int) -> None:
    with app.unit_of_work(TENANT) as uow:
        uow.jobs.create_many(NewJob("t", {"n": n}, idempotency_key=f"fill-{n}") for n in range(size))


def measure(app: Application) -> list[list[float]]:
    numbers = count()

    def create() -> None:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.create("t", {"n": 1})

    def create_keyed() -> None:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.create("t", {"n": 1}, idempotency_key=f"k-{next(numbers)}")

    with app.unit_of_work(TENANT) as uow:
        known = uow.jobs.create("t", {}).job.id

    def find() -> None:
        with app.unit_of_work(TENANT) as uow:
            uow.jobs.get(known)

    worker = uuid4()
    held = []

    def claim() -> None:
        with app.unit_of_work(WORKER) as uow:
            held.extend(uow.jobs.claim_due(worker=worker, types={"t"}, lease=LEASE, limit=1))

    def finish() -> None:
        with app.unit_of_work(WORKER) as uow:
            uow.jobs.finish([Ending(held.pop(), Succeed())])

    return [timed(act) for act in (create, create_keyed, find, claim, finish)]


def timed(act: Callable[[], None]) -> list[float]:
    samples = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        act()
        samples.append(time.perf_counter() - began)
    return samples


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [100, 1_000, 10_000, 100_000])
