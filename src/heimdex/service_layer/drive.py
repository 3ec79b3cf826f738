"""The files of a folder as jobs: one that walks it, and one for each file found."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from urllib.parse import quote, unquote_to_bytes

from attrs import field, frozen

from heimdex.domain.asset import MAX_URI
from heimdex.domain.backoff import Exponential
from heimdex.domain.errors import FileProblem, InvalidInput
from heimdex.domain.json_text import MAX_INTEGER, JsonValue
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail
from heimdex.domain.rules import check_text, check_whole
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.job_registry import JobRegistry
from heimdex.service_layer.ports import Files, FoundFile, MediaTypes

INGEST = "drive.ingest"
INGEST_FILE = "drive.ingest_file"

_MAX_FILES = 1_000_000_000
# Longer than what an asset may have: a file too deep to be recorded is to fail alone, not the walk with it.
_MAX_WALKED_URI = 65_536
# How often the walk says how far it is, and how often the reading of one file does, in blocks.
_FILES_A_REPORT = 1_000
_BLOCKS_A_REPORT = 64
_READING = timedelta(hours=1)
_WALKING = timedelta(hours=6)
# Another try may help against nothing but this.
_PASSING = "unreadable"


def _uri(value: str) -> str:
    return check_text("uri", value, _MAX_WALKED_URI)


def _limit(value: int | None) -> int | None:
    return None if value is None else check_whole("limit", value, 1, _MAX_FILES)


def _folder_name(value: str) -> str:
    if "/" in check_text("exclude", value):
        raise InvalidInput("exclude", value, "give names of folders, without slashes")
    return value


def _folder_names(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(_folder_name, values))


@frozen
class Ingest:
    """A folder to walk, or a single file.

    Args:
        limit: at most so many files; None is all.
        exclude: names of folders to leave out, wherever they are below the top.
    """

    uri: str = field(converter=_uri)
    limit: int | None = field(default=None, converter=_limit)
    exclude: tuple[str, ...] = field(default=(), converter=_folder_names)


@frozen
class IngestFile:
    """A file as the walk met it. `mtime_ns` is text: nanoseconds since 1970 are beyond the integers of JSON."""

    uri: str = field(converter=_uri)
    size: int
    mtime_ns: str


def drive_jobs(files: Files, media_types: MediaTypes) -> JobRegistry:
    """Return a registry with the jobs of this module."""
    jobs = JobRegistry()

    @jobs.register(INGEST, max_attempts=5, backoff=Exponential(base=timedelta(seconds=5)), timeout=_WALKING)
    def ingest(payload: Ingest, ctx: JobContext) -> Fail | dict[str, JsonValue]:
        try:
            counts = ctx.create_many(_jobs_of(files, payload, ctx))
        except FileProblem as problem:
            return _failed(problem)
        return {
            "files": counts.created + counts.replayed,
            "created": counts.created,
            "replayed": counts.replayed,
            # Their files have not changed, so only a retry by hand reads them again.
            "failed_before": counts.failed_before,
        }

    @jobs.register(INGEST_FILE, max_attempts=5, backoff=Exponential(base=timedelta(seconds=5)), timeout=_READING)
    def ingest_file(payload: IngestFile, ctx: JobContext) -> Fail | dict[str, JsonValue]:
        try:
            _check_recordable(payload)
            return _record(files, media_types, payload, ctx)
        except FileProblem as problem:
            return _failed(problem)

    return jobs


def chosen(files: Files, payload: Ingest) -> Iterator[FoundFile]:
    """Yield the files that an ingest takes, in the order of the walk."""
    excluded = {quote(name) for name in payload.exclude}
    # Counted once decoded: who wrote the uri may have encoded more or less of it than the walk does.
    above = unquote_to_bytes(payload.uri).rstrip(b"/").count(b"/") + 1
    found = files.walk(payload.uri)
    taken = (file for file in found if excluded.isdisjoint(file.uri.split("/")[above:-1]))
    return islice(taken, payload.limit)


def file_job(file: FoundFile) -> NewJob:
    """Return the job of one file: the same key while uri, size and time of change stay the same."""
    payload = IngestFile(file.uri, min(file.size, MAX_INTEGER), str(file.mtime_ns))
    key = sha256(f"{file.uri}\0{file.size}\0{file.mtime_ns}".encode()).hexdigest()
    return NewJob(INGEST_FILE, payload, idempotency_key=key)


def _jobs_of(files: Files, payload: Ingest, ctx: JobContext) -> Iterator[NewJob]:
    count = 0
    for count, file in enumerate(chosen(files, payload), start=1):
        yield file_job(file)
        if count % _FILES_A_REPORT == 0:
            # How many there will be is known only where there is a limit.
            percent = 0 if payload.limit is None else count * 100 // payload.limit
            ctx.progress(percent, stage=f"walking: {count} files so far")
    ctx.progress(100, stage=f"walked: {count} files")


def _check_recordable(payload: IngestFile) -> None:
    if len(payload.uri) > MAX_URI:
        raise FileProblem(payload.uri, "uri_too_long", f"its uri is longer than {MAX_URI} characters")
    if payload.size >= MAX_INTEGER:
        raise FileProblem(payload.uri, "too_large", f"it has {MAX_INTEGER} bytes or more")


def _record(files: Files, media_types: MediaTypes, payload: IngestFile, ctx: JobContext) -> dict[str, JsonValue]:
    ctx.progress(0, stage="reading")
    head, size, digest = b"", 0, sha256()
    for number, block in enumerate(files.read(payload.uri), start=1):
        head = head or block
        size += len(block)
        digest.update(block)
        if number % _BLOCKS_A_REPORT == 0:
            ctx.progress(min(99, size * 100 // max(payload.size, 1)), stage="reading")
    ctx.progress(100, stage="read")
    media_type = media_types.media_type(payload.uri, head)
    metadata = _dimensions(media_types, media_type, head) | _changes(files, payload, size)
    ctx.assets.add(payload.uri, media_type=media_type, size=size, sha256=digest.hexdigest(), metadata=metadata)
    return {"media_type": media_type, "size": size, "sha256": digest.hexdigest()}


def _dimensions(media_types: MediaTypes, media_type: str, head: bytes) -> dict[str, JsonValue]:
    dimensions = media_types.dimensions(head) if media_type.startswith("image/") else None
    return {} if dimensions is None else {"width": dimensions[0], "height": dimensions[1]}


def _changes(files: Files, payload: IngestFile, size: int) -> dict[str, JsonValue]:
    """Return that the file is not what the walk met, and its time of change now (None: it has gone); else nothing."""
    try:
        now = files.stat(payload.uri)
    except FileProblem:
        return {"changed": True, "mtime_ns": None}
    same = (size, now.size, str(now.mtime_ns)) == (payload.size, payload.size, payload.mtime_ns)
    return {} if same else {"changed": True, "mtime_ns": str(now.mtime_ns)}


def _failed(problem: FileProblem) -> Fail:
    return Fail(problem.code, str(problem), permanent=problem.code != _PASSING)
