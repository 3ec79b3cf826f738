"""A file system and media types that are neither, and a ledger into which a worker ingests them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from urllib.parse import quote, unquote
from uuid import UUID

from attrs import define, field

from heimdex.domain.asset import Asset
from heimdex.domain.errors import FileProblem
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import JsonValue
from heimdex.domain.operations import Erasure, QueueCounts
from heimdex.domain.transitions import Status
from heimdex.domain.waiting import Blocker
from heimdex.domain.worker import WorkerRecord
from heimdex.service_layer.drive import INGEST, INGEST_FILE, drive_jobs
from heimdex.service_layer.ports import MAX_LISTED, Files, FoundFile, MediaTypes, Page, Recorded, Statistics, Views
from tests.service_layer.worker_harness import TENANT, HandLedger, HandWorker

TOP = "file:///srv/data"
MONDAY, TUESDAY = 1_700_000_000_000_000_001, 1_700_000_000_000_000_002

PICTURE = b"PICTURE"


@define
class FakeFile:
    """A file. `size` is what it says about itself; one with a `problem` can be looked at if `visible`, and not read."""

    content: bytes
    mtime_ns: int
    size: int
    problem: str | None = None
    visible: bool = True


@define
class FakeFiles(Files):
    """Files in the order in which they were put. What is written into `hidden` is left out by the walk."""

    files: dict[str, FakeFile] = field(factory=dict)
    hidden: set[str] = field(factory=set)
    block: int = 1_000
    # Called with the uri of a file that was opened, before its content is given out.
    while_reading: Callable[[str], object] = field(default=lambda _: None)

    def put(self, name: str, content: bytes = b"", *, mtime_ns: int = MONDAY, size: int | None = None) -> str:
        uri = f"{TOP}/{name}"
        self.files[uri] = FakeFile(content, mtime_ns, len(content) if size is None else size)
        return uri

    def put_unreadable(self, name: str, problem: str) -> str:
        """Put what the walk cannot look at either, such as a dangling link."""
        uri = f"{TOP}/{name}"
        self.files[uri] = FakeFile(b"", -1, -1, problem, visible=False)
        return uri

    def walk(self, uri: str) -> Iterator[FoundFile]:
        top = quote(unquote(uri), safe="/:").rstrip("/")
        inside = [name for name in self.files if name == top or name.startswith(f"{top}/")]
        if not inside:
            raise FileProblem(uri, "not_found", "there is no such file")
        return (self._found(name) for name in inside if name not in self.hidden)

    def read(self, uri: str) -> Iterator[bytes]:
        file = self._file(uri)
        if file.problem is not None:
            raise FileProblem(uri, file.problem, "it cannot be read")
        content = file.content
        self.while_reading(uri)
        for start in range(0, len(content), self.block):
            yield content[start : start + self.block]

    def stat(self, uri: str) -> FoundFile:
        self._file(uri)
        return self._found(uri)

    def _found(self, uri: str) -> FoundFile:
        return FoundFile(uri, self.files[uri].size, self.files[uri].mtime_ns)

    def _file(self, uri: str) -> FakeFile:
        file = self.files.get(uri)
        if file is None:
            raise FileProblem(uri, "not_found", "there is no such file")
        if not file.visible:
            raise FileProblem(uri, str(file.problem), "it cannot be read")
        return file


class FakeMediaTypes(MediaTypes):
    """Knows pictures, which say their sides in one digit each, and plain bytes."""

    def media_type(self, uri: str, head: bytes) -> str:
        return "image/fake" if head.startswith(PICTURE) else f"bytes/{len(head)}"

    def dimensions(self, head: bytes) -> tuple[int, int] | None:
        sides = head.removeprefix(PICTURE)
        return (int(sides[:1]), int(sides[1:2])) if sides else None


@define
class Drive:
    """A folder, the ledger that it is ingested into, and a worker."""

    files: FakeFiles = field(factory=FakeFiles)
    ledger: HandLedger = field(init=False)
    worker: HandWorker = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger = HandLedger(drive_jobs(self.files, FakeMediaTypes()))
        self.worker = HandWorker(self.ledger)

    def ingest(self, uri: str = TOP, **fields: JsonValue) -> Job:
        """Run an ingest and all that follows from it; return its job."""
        job_id = self.ledger.create(INGEST, {"uri": uri, **fields})
        self.worker.settle()
        return self.ledger.job(job_id)

    def jobs(self) -> list[Job]:
        """Return the jobs of files, oldest first."""
        with self.ledger.store.unit_of_work(TENANT) as uow:
            found = [each.job for each in uow.jobs.list_with_events(type=INGEST_FILE)]
        return found[::-1]

    def ingested(self) -> list[str]:
        """Return the names below the top of the files that have a job."""
        return [_uri(job).removeprefix(f"{TOP}/") for job in self.jobs()]

    def asset(self) -> Asset:
        """Return the asset of the only file job."""
        [job] = self.jobs()
        [asset] = self.ledger.assets(job.id)
        return asset


def _uri(job: Job) -> str:
    assert isinstance(job.payload, dict)
    return str(job.payload["uri"])


@define
class LossyViews(Views):
    """What a ledger tells, and from which a test can lose and spoil something."""

    jobs: dict[UUID, Job]
    events: dict[UUID, tuple[JobEvent, ...]]
    recorded: dict[UUID, tuple[Asset, ...]]

    @classmethod
    def of(cls, views: Views) -> "LossyViews":
        jobs = {job.id: job for job in views.page(JobFilter(), limit=900).jobs}
        return cls(jobs, dict(views.histories(jobs)), dict(views.assets(jobs)))

    def statistics(self) -> Statistics:
        counts = Counter(job.status for job in self.jobs.values())
        return Statistics(by_status={status: counts[status] for status in Status})

    def page(self, which: JobFilter, *, after: UUID | None = None, limit: int = 100) -> Page:
        ids = sorted((job_id for job_id in self.jobs if after is None or job_id < after), reverse=True)
        jobs = tuple(self.jobs[job_id] for job_id in ids[:limit])
        return Page(jobs, jobs[-1].id if len(ids) > limit else None)

    def count(self, which: JobFilter, statuses: Collection[Status] = tuple(Status)) -> int:
        return sum(which.accepts(job) and job.status in statuses for job in self.jobs.values())

    def queues(self) -> tuple[QueueCounts, ...]:
        return ()

    def explain_waiting(self, job_id: UUID) -> tuple[Blocker, ...]:
        return ()

    def erasures(self) -> tuple[Erasure, ...]:
        return ()

    def find(self, job_id: UUID) -> Job | None:
        return self.jobs.get(job_id)

    def history(self, job_id: UUID) -> tuple[JobEvent, ...]:
        return self.events.get(job_id, ())

    def histories(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[JobEvent, ...]]:
        return {job_id: self.history(job_id) for job_id in job_ids}

    def events_after(self, seen: Mapping[UUID, int], *, limit: int = MAX_LISTED) -> Mapping[UUID, tuple[JobEvent, ...]]:
        return {job_id: tuple(e for e in self.history(job_id) if e.seq > seq)[:limit] for job_id, seq in seen.items()}

    def history_ids(self, *, after: UUID | None = None, limit: int = MAX_LISTED) -> list[UUID]:
        return sorted(job_id for job_id in self.events if after is None or job_id > after)[:limit]

    def assets(self, job_ids: Collection[UUID]) -> Mapping[UUID, tuple[Asset, ...]]:
        return {job_id: self.recorded.get(job_id, ()) for job_id in job_ids}

    def ledger(self, *, after: UUID | None = None) -> Iterator[Recorded]:
        for job_id in self.history_ids(after=after):
            yield Recorded(job_id, self.find(job_id), self.history(job_id))

    def refusals(self, job_id: UUID) -> int:
        return 0

    def workers(self) -> tuple[WorkerRecord, ...]:
        return ()
