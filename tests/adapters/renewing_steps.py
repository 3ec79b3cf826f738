"""Steps of tests of the process that renews leases."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from time import monotonic, sleep
from uuid import UUID

from heimdex.adapters.renewing import ProcessRenewer
from heimdex.bootstrap import Application
from heimdex.domain.job import Hold, Job
from heimdex.domain.scope import System

ORG = UUID(int=1)
WORKER = UUID(int=101)
SYSTEM = System(actor="worker", reason="a worker serves every organisation")
LEASE = timedelta(seconds=60)
EVERY = timedelta(milliseconds=200)
FOR_EVER = 1e12
PATIENCE = 30.0


@contextmanager
def renewing(app: Application, *, lease: timedelta = LEASE, most: int = 10) -> Iterator[ProcessRenewer]:
    renewer = app.store.renewer(lease=lease, every=EVERY, most=most)
    assert isinstance(renewer, ProcessRenewer)
    with closing(renewer):
        yield renewer


def running(app: Application, *, lease: timedelta = timedelta(seconds=30)) -> Job:
    with app.unit_of_work(SYSTEM) as uow:
        job = uow.jobs.create("t", org_id=ORG).job
        return uow.jobs.claim(job.id, worker=WORKER, lease=lease)


def stored(app: Application, job: Job) -> Job:
    with app.unit_of_work(SYSTEM) as uow:
        return uow.jobs.get(job.id)


def lease_of(app: Application, job: Job) -> datetime:
    lease_until = stored(app, job).lease_until
    assert lease_until is not None
    return lease_until


def wait_until(holds: Callable[[], object]) -> None:
    deadline = monotonic() + PATIENCE
    while not holds():
        assert monotonic() < deadline, "waited in vain"
        sleep(0.02)


def wait_for_renewal(renewer: ProcessRenewer, hold: Hold) -> float:
    """Wait for the next renewal of a hold; return when it was asked for."""
    before = renewer.renewed_at(hold)
    wait_until(lambda: renewer.renewed_at(hold) not in {None, before})
    renewed_at = renewer.renewed_at(hold)
    assert renewed_at is not None
    return renewed_at


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
