"""What a job function gets beside its payload."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import TypeAlias
from uuid import UUID

from attrs import frozen

from heimdex.domain.asset import NewAsset
from heimdex.domain.constraints import ASSET_URI
from heimdex.domain.errors import InvalidInput, UniqueViolation
from heimdex.domain.job import Job, copied
from heimdex.domain.json_text import JsonValue, canonical
from heimdex.domain.new_job import DEFAULT_QUEUE, JobLimits, NewJob
from heimdex.domain.outcomes import Progress
from heimdex.domain.results import Created, Note
from heimdex.domain.transitions import Status
from heimdex.service_layer.run import Run

CreateChildren: TypeAlias = Callable[[Sequence[NewJob]], Sequence[Created]]
CheckJob: TypeAlias = Callable[[NewJob], NewJob]

MAX_CHILDREN = 1_000
"""How many jobs `create` keeps for one run; `create_many` has no limit."""

MAX_ASSETS = 1_000
"""How many assets one run may add."""

MAX_NOTES = 1_000
"""How many notes of one run may wait to be written."""

_BATCH = 1_000
_FAILED = frozenset({Status.FAILED, Status.DEAD_LETTER})


@frozen
class CreatedCounts:
    """How many jobs were made, and how many had been made before; of these, how many rest without success."""

    created: int
    replayed: int
    failed_before: int = 0


class AssetBuffer:
    """The assets of one run. They are recorded if and only if its success is accepted."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def add(
        self, uri: str, *, media_type: str, size: int, sha256: str, metadata: dict[str, JsonValue] | None = None
    ) -> None:
        """Record an asset with the finish of this job, at most 1,000 a run. `size` in bytes, `sha256` in hexadecimal.

        Raises:
            LeaseLost: this run no longer holds the job.
            InvalidInput: it is one too many; let child jobs add the others.
            UniqueViolation: this run has added an asset with this uri.
        """
        self._run.check_held()
        asset = NewAsset.of(uri, media_type=media_type, size=size, sha256=sha256, metadata=metadata)
        if asset.uri in self._run.assets:
            raise UniqueViolation(ASSET_URI)
        if len(self._run.assets) == MAX_ASSETS:
            raise InvalidInput(
                "assets", MAX_ASSETS + 1, f"add at most {MAX_ASSETS:,}, and let child jobs add the others"
            )
        self._run.assets[asset.uri] = asset


class JobContext:
    """Every call raises LeaseLost once this run no longer holds the job: after a timeout, or when the lease is gone.

    The calls are the same for plain and for async functions. None waits, except `create_many`.
    """

    def __init__(self, run: Run, create_children: CreateChildren, check_job: CheckJob) -> None:
        self._run = run
        self._create_children = create_children
        self._check_job = check_job
        self.assets = AssetBuffer(run)

    @cached_property
    def logger(self) -> "logging.LoggerAdapter[logging.Logger]":
        """Writes to `heimdex.job.TYPE`; each record carries the ids of the job and of its organisation."""
        job = self._run.job
        return logging.LoggerAdapter(
            logging.getLogger(f"heimdex.job.{job.type}"),
            {"job_id": str(job.id), "org_id": str(job.org_id), "attempt": job.attempt},
        )

    @property
    def job(self) -> Job:
        """The job as it was claimed, a copy."""
        return copied(self._run.job)

    @property
    def org_id(self) -> UUID:
        return self._run.job.org_id

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked to cancel the job; known here within about two seconds."""
        return self._run.cancel_requested

    def check(self) -> None:
        """Do nothing while this run holds the job and is wanted; for long loops.

        Raises:
            LeaseLost: it no longer holds it.
            CancelRequested: somebody asked to cancel the job. Let it out, and the job ends as canceled.
        """
        self._run.check_wanted()

    def progress(self, percent: int, *, stage: str | None = None) -> None:
        """Say how far the run is. May be called often: at most one event a second is written, the last one always."""
        self._run.check_held()
        self._run.progress = Progress(stage, percent)

    def log(self, detail: Mapping[str, JsonValue]) -> None:
        """Add a note to the job's history, within about a second.

        Raises:
            InvalidPayload: it is outside the JSON subset.
            InvalidInput: 1,000 notes of this run wait to be written already.
        """
        self._run.check_held()
        if len(self._run.notes) >= MAX_NOTES:
            raise InvalidInput("notes", len(self._run.notes) + 1, "log less often, or put several into one note")
        self._run.notes.append(Note(canonical(dict(detail), "detail")))

    def create(
        self,
        type: str,
        payload: object = None,
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        scheduled_at: datetime | None = None,
        idempotency_key: str | None = None,
        requested_by: str | None = None,
        limits: JobLimits | None = None,
    ) -> None:
        """Create a child job with the finish of this one, at most 1,000 a run. `requested_by` is the parent's if None.

        Raises:
            InvalidInput: it is one too many; use `create_many`.
            InvalidPayload, UnknownJobType: it could not be created.
        """
        self._run.check_held()
        if len(self._run.children) == MAX_CHILDREN:
            raise InvalidInput("children", MAX_CHILDREN + 1, f"create at most {MAX_CHILDREN:,}, or use create_many")
        new = NewJob(
            type,
            {} if payload is None else payload,
            queue=queue,
            priority=priority,
            scheduled_at=scheduled_at,
            idempotency_key=idempotency_key,
            requested_by=requested_by,
            limits=limits,
        )
        self._run.children.append(self._check_job(new))

    def create_many(self, new_jobs: Iterable[NewJob]) -> CreatedCounts:
        """Create child jobs at once, 1,000 in each transaction, each of which checks that this run holds the job.

        A run that is repeated after a crash creates them again, so each needs an idempotency key. It waits for the
        database, so an async function calls it in a thread: `await asyncio.to_thread(ctx.create_many, new_jobs)`.

        Raises:
            InvalidInput: one has no idempotency key. Those of the batches before are there.
        """
        created = replayed = failed = 0
        waiting = iter(new_jobs)
        while batch := list(islice(waiting, _BATCH)):
            self._run.check_held()
            for new in batch:
                if new.idempotency_key is None:
                    raise InvalidInput("idempotency_key", None, "give each child of create_many one, or use create")
            answers = self._create_children(batch)
            before = [answer.job for answer in answers if answer.replayed]
            created, replayed = created + len(answers) - len(before), replayed + len(before)
            failed += sum(job.status in _FAILED for job in before)
        return CreatedCounts(created, replayed, failed)
