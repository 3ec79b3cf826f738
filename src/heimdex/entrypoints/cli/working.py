"""What `heimdex worker` does."""

import gc
import logging
from collections.abc import Collection
from itertools import product
from uuid import UUID

from attrs import frozen

from heimdex.bootstrap import discover_jobs
from heimdex.domain.errors import InvalidSetting
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.rules import check_text
from heimdex.domain.scope import System
from heimdex.entrypoints.cli.draining import UNFINISHED, Draining, quick, unfinished
from heimdex.entrypoints.cli.opening import check_kept, opened, settings_of
from heimdex.entrypoints.cli.options import Asked, Misuse
from heimdex.entrypoints.worker_process import run_worker
from heimdex.service_layer.ports import Views


@frozen
class Worked:
    """A worker's life: who it was, what it ran, and the signal that ended it, if one did."""

    worker: UUID
    name: str
    types: tuple[str, ...]
    queues: tuple[str, ...] | None
    signal: str | None
    exit_code: int


def work(
    asked: Asked, *, queues: Collection[str] | None, concurrency: int | None, name: str | None, drain: bool
) -> Worked:
    """Run a worker until it is stopped or, with `drain`, until nothing is left for it."""
    settings = settings_of(asked)
    check_kept(asked, settings, "name a database that is kept: nobody else can put jobs into this memory")
    jobs = discover_jobs(settings)
    if not jobs.types and settings.jobs is None:
        raise Misuse("no job functions are known: set HEIMDEX_JOBS to a JobRegistry, as module:attribute.")
    if not jobs.types:
        raise InvalidSetting(
            "HEIMDEX_JOBS", settings.jobs, "no job functions are known; name a JobRegistry as module:attribute"
        )
    queues = None if queues is None else tuple(check_text("--queue", queue) for queue in queues)
    with opened(asked, quick(settings) if drain else settings, jobs) as heimdex:
        heimdex.schema.check()
        worker = heimdex.worker(name=name, concurrency=concurrency, queues=queues)
        types = tuple(sorted(jobs.types))
        log = logging.getLogger("heimdex.worker")
        log.setLevel(logging.INFO)
        log.info("worker %s runs %s", worker.name, ", ".join(types))
        # What is loaded by now stays: else it is looked through for garbage whenever some hundreds of jobs are at hand,
        # which takes as long as a third of all that a worker does.
        gc.freeze()
        if drain:
            scope = System(actor=worker.name, reason="is anything left for this worker", source=f"worker {worker.id}")
            ended_by = Draining(heimdex, worker, scope, lambda views: not _anything_left(views, types, queues)).run()
        else:
            ended_by = run_worker(worker)
        log.info("worker %s stopped", worker.name)
    signal = None if ended_by is None else ended_by.name
    return Worked(worker.id, worker.name, types, queues, signal, worker.exit_code)


def _anything_left(views: Views, types: Collection[str], queues: Collection[str] | None) -> bool:
    statistics = views.statistics()
    waiting = [type for type in types if unfinished(statistics, type)]
    if queues is None:
        return bool(waiting)
    # The statistics do not say in which queue.
    wanted = (JobFilter(type=t, queue=q, status=status) for t, q, status in product(waiting, queues, UNFINISHED))
    return any(views.page(which, limit=1).jobs for which in wanted)
