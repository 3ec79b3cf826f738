"""What became of a folder of files, found out without trusting the jobs that ingested it.

To be asked while nothing runs: a job that moves between two questions looks broken.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from hashlib import sha256
from uuid import UUID

from attrs import Factory, define, frozen

from heimdex.domain.asset import Asset
from heimdex.domain.errors import FileProblem
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import MAX_INTEGER
from heimdex.domain.transitions import END_STATUSES, Status
from heimdex.domain.verification import check
from heimdex.service_layer.drive import INGEST_FILE
from heimdex.service_layer.ports import Files, FoundFile, Views

_PAGE = 500
_EVERY = JobFilter()
# One file in twenty is read again; which ones depends on their uris alone.
_SAMPLED_OF = 20
_ALL_UP_TO = 100
_BEFORE_ALL, _AFTER_ALL = UUID(int=0), UUID(int=2**128 - 1)


@frozen
class Finding:
    """Something wrong: a file's uri or a job's id, and what."""

    subject: str
    problem: str


@define
class DriveCheck:
    """What the check found.

    `lost` are files without exactly one job that came to rest in a recorded end; `broken` are jobs whose history is not
    legal or does not lead to their row, or whose asset is missing. `changed` files are no longer as they were walked:
    their content cannot be compared. `duplicates` are assets with the content of another one.
    """

    files: int
    bytes: int
    assets: Counter[str] = Factory(Counter)
    duplicates: int = 0
    errors: Counter[str] = Factory(Counter)
    changed: int = 0
    read_again: int = 0
    jobs: Mapping[Status, int] = Factory(dict)
    lost: list[Finding] = Factory(list)
    broken: list[Finding] = Factory(list)

    @property
    def sound(self) -> bool:
        return not self.lost and not self.broken


@frozen
class _Page:
    """Jobs by descending id, with what belongs to them and the ids of all histories in their stretch of ids."""

    jobs: tuple[Job, ...]
    histories: Mapping[UUID, tuple[JobEvent, ...]]
    assets: Mapping[UUID, tuple[Asset, ...]]
    history_ids: frozenset[UUID]


def check_drive(
    views: Views, files: Files, walked: Collection[FoundFile], tell: Callable[[int], None] = lambda _: None
) -> DriveCheck:
    """Compare a walk that was made before the ingest with the ledger of one organisation.

    Reads the ledger page by page; of each walked file it remembers a few words.

    Args:
        walked: by another walk than the one that the jobs use.
        tell: called with the number of jobs looked at since it was called last.
    """
    report = DriveCheck(files=len(walked), bytes=sum(max(file.size, 0) for file in walked))
    report.jobs = views.statistics().by_status
    comparison = _Comparison(report, files, {file.uri: file for file in walked})
    for page in _pages(views):
        report.broken.extend(_broken(page))
        for job in page.jobs:
            comparison.add(job, page.assets[job.id])
        tell(len(page.jobs))
    comparison.end()
    return report


@define
class _Comparison:
    """The walked files, by uri, against the jobs that were made for them, job by job.

    A file that changed has a job for each time it was met. The one to compare with is the job of the file as walked.
    """

    report: DriveCheck
    files: Files
    walked: Mapping[str, FoundFile]
    jobs: Counter[str] = Factory(Counter)
    met_otherwise: set[str] = Factory(set)
    contents: set[str] = Factory(set)

    def add(self, job: Job, assets: Sequence[Asset]) -> None:
        identity = _file_of(job)
        file = None if identity is None else self.walked.get(identity[0])
        if file is None:
            return
        if identity == _identity(file):
            self._add_as_walked(file, job, assets)
        elif _unsettled(file, job, assets) is None:
            self.met_otherwise.add(file.uri)

    def end(self) -> None:
        for uri, file in self.walked.items():
            if self.jobs[uri] == 0 and self._was_met_otherwise(file):
                self.report.changed += 1
            elif self.jobs[uri] != 1:
                self.report.lost.append(Finding(uri, f"it has {self.jobs[uri]} jobs"))

    def _add_as_walked(self, file: FoundFile, job: Job, assets: Sequence[Asset]) -> None:
        self.jobs[file.uri] += 1
        for asset in assets:
            self.report.assets[asset.media_type] += 1
            self.report.duplicates += asset.sha256 in self.contents
            self.contents.add(asset.sha256)
        problem = _unsettled(file, job, assets)
        if problem is None and job.status is Status.SUCCEEDED:
            problem = self._difference(file, assets[0])
        elif problem is None:
            self.report.errors[str(job.last_error_code)] += 1
        if problem is not None:
            self.report.lost.append(Finding(file.uri, problem))

    def _difference(self, file: FoundFile, asset: Asset) -> str | None:
        if self._now(file) != file:
            self.report.changed += 1
            return None
        if asset.size == file.size and not _sampled(file.uri, len(self.walked)):
            return None
        self.report.read_again += 1
        size, digest = _content(self.files, file.uri)
        if (size, digest) == (asset.size, asset.sha256):
            return None
        if digest is None or self._now(file) != file:
            self.report.changed += 1
            return None
        if asset.size != size:
            return f"its asset has {asset.size} bytes instead of {size}"
        return "its asset has another SHA-256"

    def _was_met_otherwise(self, file: FoundFile) -> bool:
        """Return whether the file changed or went before the jobs' own walk could meet it as it was."""
        now = self._now(file)
        return now != file and (now.size < 0 or file.uri in self.met_otherwise)

    def _now(self, file: FoundFile) -> FoundFile:
        try:
            return self.files.stat(file.uri)
        except FileProblem:
            return FoundFile(file.uri, -1, -1)


def _unsettled(file: FoundFile, job: Job, assets: Sequence[Asset]) -> str | None:
    """Return what a file's job lacks of a recorded end: an asset or an error."""
    if job.status is Status.SUCCEEDED:
        if len(assets) != 1:
            return f"its job has {len(assets)} assets"
        return None if assets[0].uri == file.uri else "its job has the asset of another file"
    if job.status not in END_STATUSES:
        return f"its job is {job.status}"
    return None if job.last_error_code is not None else f"its job is {job.status} and has recorded no error"


def _sampled(uri: str, files: int) -> bool:
    number = int.from_bytes(sha256(uri.encode()).digest()[:4], "big")
    return files <= _ALL_UP_TO or number % _SAMPLED_OF == 0


def _content(files: Files, uri: str) -> tuple[int, str | None]:
    """Return size and SHA-256, which is None where the file cannot be read."""
    size, digest = 0, sha256()
    try:
        for block in files.read(uri):
            size += len(block)
            digest.update(block)
    except FileProblem:
        return size, None
    return size, digest.hexdigest()


def _pages(views: Views) -> Iterator[_Page]:
    """Yield all jobs, newest first, and with them every history, also of jobs whose row is gone."""
    above, after = _AFTER_ALL, None
    while True:
        page = views.page(_EVERY, after=after, limit=_PAGE)
        ids = [job.id for job in page.jobs]
        after = page.next_after
        # The stretch of ids from this page's last job up to the page before; below the last page's jobs, all others.
        lowest = _BEFORE_ALL if after is None else UUID(int=after.int - 1)
        history_ids = frozenset(_history_ids(views, lowest, above))
        yield _Page(page.jobs, views.histories(ids), views.assets(ids), history_ids)
        if after is None:
            return
        above = lowest


def _history_ids(views: Views, after: UUID, until: UUID) -> Iterator[UUID]:
    while ids := views.history_ids(after=after, limit=_PAGE + 1):
        yield from (job_id for job_id in ids if job_id <= until)
        after = ids[-1]
        if after >= until:
            return


def _broken(page: _Page) -> Iterator[Finding]:
    for job in page.jobs:
        yield from (Finding(str(job.id), f"{one.rule}: {one.text}") for one in check(job, page.histories[job.id]))
        if job.type == INGEST_FILE and job.status is Status.SUCCEEDED and len(page.assets[job.id]) != 1:
            yield Finding(str(job.id), f"it succeeded and has {len(page.assets[job.id])} assets")
    for job_id in sorted(page.history_ids.difference(job.id for job in page.jobs)):
        yield Finding(str(job_id), "it has a history and no row")


def _identity(file: FoundFile) -> tuple[str, object, object]:
    return file.uri, min(file.size, MAX_INTEGER), str(file.mtime_ns)


def _file_of(job: Job) -> tuple[str, object, object] | None:
    """Return the identity of the file that a job was made for; None for another job."""
    if job.type != INGEST_FILE:
        return None
    try:
        payload = job.payload
    except ValueError:
        # Written past Heimdex; the comparison with its history reports it.
        return None
    match payload:
        case {"uri": str(uri), "size": size, "mtime_ns": mtime_ns}:
            return uri, size, mtime_ns
    return None
