"""The drive jobs on a fake file system and a ledger in memory: what becomes of a folder, and of each file in it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest

from heimdex.domain.asset import MAX_URI
from heimdex.domain.errors import InvalidInput, InvalidPayload, LeaseLost
from heimdex.domain.json_text import MAX_INTEGER, JsonValue, canonical
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Fail, Succeed
from heimdex.domain.results import Created
from heimdex.domain.transitions import Status
from heimdex.service_layer.drive import INGEST, INGEST_FILE, file_job
from heimdex.service_layer.job_context import JobContext
from heimdex.service_layer.ports import FoundFile
from heimdex.service_layer.run import Run
from heimdex.service_layer.running import run_function
from tests.service_layer.drive_fakes import MONDAY, PICTURE, TOP, TUESDAY, Drive
from tests.service_layer.worker_harness import TENANT, HandLedger


@pytest.fixture
def drive() -> Drive:
    return Drive()


def test_each_file_becomes_a_job_and_each_job_an_asset(drive: Drive) -> None:
    drive.files.put("a", b"12345")
    drive.files.put("b/c", b"")

    ingest = drive.ingest()

    assert ingest.status is Status.SUCCEEDED
    assert ingest.result == {"files": 2, "created": 2, "replayed": 0, "failed_before": 0}
    assert [job.parent_id for job in drive.jobs()] == [ingest.id, ingest.id]
    assert [job.status for job in drive.jobs()] == [Status.SUCCEEDED, Status.SUCCEEDED]
    assets = [asset for job in drive.jobs() for asset in drive.ledger.assets(job.id)]
    assert [(asset.uri, asset.size, asset.media_type, asset.sha256, asset.metadata) for asset in assets] == [
        (f"{TOP}/a", 5, "bytes/5", sha256(b"12345").hexdigest(), {}),
        (f"{TOP}/b/c", 0, "bytes/0", sha256(b"").hexdigest(), {}),
    ]


def test_the_result_of_a_file_job_is_what_it_recorded(drive: Drive) -> None:
    drive.files.put("a", b"12345")
    drive.ingest()

    [job] = drive.jobs()

    assert job.result == {"media_type": "bytes/5", "size": 5, "sha256": sha256(b"12345").hexdigest()}


def test_a_single_file_is_ingested(drive: Drive) -> None:
    drive.files.put("b/a", b"1")
    drive.files.put("b/c", b"1")

    drive.ingest(f"{TOP}/b/a", exclude=["b", "a", "data"])

    assert drive.ingested() == ["b/a"]


def test_a_folder_without_files_makes_no_jobs_and_succeeds(drive: Drive) -> None:
    drive.files.hidden.add(drive.files.put("a"))

    ingest = drive.ingest()

    assert ingest.result == {"files": 0, "created": 0, "replayed": 0, "failed_before": 0}


def test_a_folder_that_is_not_there_fails_for_good(drive: Drive) -> None:
    ingest = drive.ingest()

    assert (ingest.status, ingest.attempt, ingest.last_error_code) == (Status.FAILED, 1, "not_found")
    assert ingest.last_error_message == f"'{TOP}': there is no such file"


def test_a_second_run_creates_nothing_and_says_so_and_how_many_had_failed(drive: Drive) -> None:
    drive.files.put("a", b"1")
    drive.files.put_unreadable("b", "not_found")
    drive.ingest()
    before = {job.id: job.version for job in drive.jobs()}

    ingest = drive.ingest()

    assert ingest.result == {"files": 2, "created": 0, "replayed": 2, "failed_before": 1}
    assert {job.id: job.version for job in drive.jobs()} == before


@pytest.mark.parametrize(
    ("content", "mtime_ns"),
    [(b"new", TUESDAY), (b"longer", MONDAY), (b"old", TUESDAY)],
    ids=["same size", "size", "time"],
)
def test_a_changed_file_is_redone_alone(drive: Drive, content: bytes, mtime_ns: int) -> None:
    drive.files.put("a", b"old")
    drive.files.put("b", b"old")
    drive.ingest()

    drive.files.put("b", content, mtime_ns=mtime_ns)
    ingest = drive.ingest()

    assert ingest.result == {"files": 2, "created": 1, "replayed": 1, "failed_before": 0}
    assert drive.ingested() == ["a", "b", "b"]
    [asset] = drive.ledger.assets(drive.jobs()[-1].id)
    assert asset.sha256 == sha256(content).hexdigest()


def test_the_key_of_a_file_job_tells_uri_size_and_time_apart() -> None:
    found = [
        FoundFile(uri, size, mtime_ns)
        for uri in (f"{TOP}/a", f"{TOP}/a1")
        for size in (1, 11, -1)
        for mtime_ns in (1, 11, -1)
    ]

    keys = {file_job(file).idempotency_key for file in found}

    assert len(keys) == len(found)
    assert keys == {file_job(file).idempotency_key for file in found}


def test_the_payload_of_a_file_job_stays_within_json(drive: Drive) -> None:
    new = file_job(FoundFile(f"{TOP}/a", 2**60, MONDAY))

    document = drive.ledger.jobs.get(INGEST_FILE).form.document(new.payload)

    assert document == {"uri": f"{TOP}/a", "size": MAX_INTEGER, "mtime_ns": str(MONDAY)}
    assert canonical(document, "payload")


def test_a_limit_takes_the_first_files_of_the_walk(drive: Drive) -> None:
    for name in "abc":
        drive.files.put(name)

    ingest = drive.ingest(limit=2)

    assert ingest.result == {"files": 2, "created": 2, "replayed": 0, "failed_before": 0}
    assert drive.ingested() == ["a", "b"]


def test_a_limit_counts_what_is_not_excluded(drive: Drive) -> None:
    for name in ("no/a", "no/b", "c", "d"):
        drive.files.put(name)

    drive.ingest(limit=1, exclude=["no"])

    assert drive.ingested() == ["c"]


def test_excluded_folders_are_left_out_at_every_depth(drive: Drive) -> None:
    for name in ("no/a", "b/no/c", "b/no/d/e", "nothing/f", "no", "%22no%22/g", "gr%C3%BCn/h"):
        drive.files.put(name)

    drive.ingest(exclude=["no", '"no"', "grün"])

    assert drive.ingested() == ["nothing/f", "no"]


@pytest.mark.parametrize("uri", [TOP, f"{TOP}/", "file:///srv/d%61ta", "file:///%73rv/data/", "file:///srv%2Fdata"])
def test_the_folder_that_was_asked_for_is_not_excluded_however_it_is_written(drive: Drive, uri: str) -> None:
    drive.files.put("no/a")
    drive.files.put("b/c")

    drive.ingest(uri, exclude=["srv", "data", "no"])

    assert drive.ingested() == ["b/c"]


@pytest.mark.parametrize(
    "fields",
    [
        {"uri": ""},
        {"uri": "file:///a\nb"},
        {"uri": 5},
        {"limit": 0},
        {"limit": "5"},
        {"exclude": "no"},
        {"exclude": [""]},
        {"exclude": ["a/b"]},
        {"exclude": [5]},
        {"excluded": []},
    ],
    ids=str,
)
def test_a_request_that_breaks_a_rule_is_refused(drive: Drive, fields: dict[str, JsonValue]) -> None:
    with pytest.raises((InvalidPayload, InvalidInput)):
        drive.ledger.create(INGEST, {"uri": TOP, **fields})


@pytest.mark.parametrize(
    "code", ["not_found", "not_permitted", "not_a_file", "link_loop", "path_too_long", "not_a_file_uri"]
)
def test_a_file_that_cannot_be_read_fails_for_good_and_alone(drive: Drive, code: str) -> None:
    drive.files.put("a", b"1")
    drive.files.put_unreadable("b", code)
    drive.files.put("c", b"1")

    ingest = drive.ingest()

    assert ingest.result == {"files": 3, "created": 3, "replayed": 0, "failed_before": 0}
    assert [job.status for job in drive.jobs()] == [Status.SUCCEEDED, Status.FAILED, Status.SUCCEEDED]
    failed = drive.jobs()[1]
    assert (failed.attempt, failed.last_error_code) == (1, code)
    assert failed.last_error_message == f"'{TOP}/b': it cannot be read"
    assert drive.ledger.assets(failed.id) == ()


def test_an_error_of_the_device_is_tried_again(drive: Drive) -> None:
    drive.files.put_unreadable("a", "unreadable")
    drive.ingest()
    [waiting] = drive.jobs()

    drive.files.put("a", b"1")
    drive.worker.pass_time(60)
    drive.worker.settle()
    [job] = drive.jobs()

    assert (waiting.status, waiting.last_error_code) == (Status.QUEUED, "unreadable")
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 2)


def test_an_error_of_the_device_that_stays_ends_the_job(drive: Drive) -> None:
    drive.files.put_unreadable("a", "unreadable")
    drive.ingest()

    for _ in range(5):
        drive.worker.pass_time(120)
        drive.worker.settle()
    [job] = drive.jobs()

    assert (job.status, job.attempt, job.last_error_code) == (Status.DEAD_LETTER, 5, "unreadable")


def test_a_uri_longer_than_an_asset_may_have_fails_alone(drive: Drive) -> None:
    drive.files.put("a" * (MAX_URI - len(TOP) - 1), b"1")
    drive.files.put("b" * (MAX_URI - len(TOP)), b"1")

    drive.ingest()

    longest, longer = drive.jobs()
    assert longest.status is Status.SUCCEEDED
    assert (longer.status, longer.attempt, longer.last_error_code) == (Status.FAILED, 1, "uri_too_long")


def test_a_file_larger_than_numbers_go_fails_alone(drive: Drive) -> None:
    drive.files.put("a", b"1", size=MAX_INTEGER)
    drive.files.put("b", b"1")

    drive.ingest()

    large, other = drive.jobs()
    assert (large.status, large.attempt, large.last_error_code) == (Status.FAILED, 1, "too_large")
    assert other.status is Status.SUCCEEDED


def test_a_file_that_changed_since_the_walk_is_recorded_as_it_is_now_and_says_so(drive: Drive) -> None:
    drive.files.put("a", b"old")
    job_id = drive.ledger.create_many([file_job(drive.files.stat(f"{TOP}/a"))])[0]

    drive.files.put("a", b"newer", mtime_ns=TUESDAY)
    drive.worker.settle()

    assert drive.ledger.job(job_id).status is Status.SUCCEEDED
    assert (drive.asset().size, drive.asset().sha256) == (5, sha256(b"newer").hexdigest())
    assert drive.asset().metadata == {"changed": True, "mtime_ns": str(TUESDAY)}


def _touch(drive: Drive) -> None:
    drive.files.put("a", b"old", mtime_ns=TUESDAY)


def _remove(drive: Drive) -> None:
    drive.files.files.clear()


def _truncate(drive: Drive) -> None:
    drive.files.put("a", b"", mtime_ns=TUESDAY)


@pytest.mark.parametrize(("change", "mtime_ns"), [(_touch, str(TUESDAY)), (_truncate, str(TUESDAY)), (_remove, None)])
def test_a_file_that_changed_while_it_was_read_says_so(
    drive: Drive, change: Callable[[Drive], None], mtime_ns: str | None
) -> None:
    drive.files.put("a", b"old")
    drive.files.while_reading = lambda _: change(drive)

    drive.ingest()

    assert drive.asset().sha256 == sha256(b"old").hexdigest()
    assert drive.asset().metadata == {"changed": True, "mtime_ns": mtime_ns}


def test_content_of_another_length_than_the_file_says_counts_as_changed(drive: Drive) -> None:
    drive.files.put("a", b"12345", size=4096)

    drive.ingest()

    assert drive.asset().size == 5
    assert drive.asset().metadata == {"changed": True, "mtime_ns": str(MONDAY)}


def test_an_image_has_its_dimensions(drive: Drive) -> None:
    drive.files.put("a", PICTURE + b"34")

    drive.ingest()

    assert drive.asset().media_type == "image/fake"
    assert drive.asset().metadata == {"width": 3, "height": 4}


def test_an_image_that_tells_no_dimensions_has_none(drive: Drive) -> None:
    drive.files.put("a", PICTURE)

    drive.ingest()

    assert drive.asset().metadata == {}


def test_the_media_type_is_told_by_the_first_block_alone(drive: Drive) -> None:
    drive.files.put("a", b"1" * 2_500)

    drive.ingest()

    assert drive.asset().media_type == "bytes/1000"
    assert drive.asset().size == 2_500


class ListeningContext(JobContext):
    """Keeps all that a job function says about its progress."""

    def __init__(self, ledger: HandLedger, run: Run) -> None:
        super().__init__(run, self._create, ledger.jobs.checked)
        self.said: list[tuple[int, str | None]] = []
        self._ledger = ledger

    def progress(self, percent: int, *, stage: str | None = None) -> None:
        super().progress(percent, stage=stage)
        self.said.append((percent, stage))

    def _create(self, new_jobs: Sequence[NewJob]) -> Sequence[Created]:
        with self._ledger.store.unit_of_work(TENANT) as uow:
            return uow.jobs.create_many(new_jobs)


def _claim(drive: Drive, job_id: UUID) -> Run:
    with drive.ledger.store.unit_of_work(TENANT) as uow:
        job = uow.jobs.claim(job_id, worker=UUID(int=99), lease=timedelta(seconds=30))
    return Run.of(job, lease_ends=0)


def _run(drive: Drive, type: str, payload: dict[str, JsonValue]) -> list[tuple[int, str | None]]:
    """Run a job function by itself and return what it said about its progress."""
    run = _claim(drive, drive.ledger.create(type, payload))
    context = ListeningContext(drive.ledger, run)
    assert isinstance(run_function(drive.ledger.jobs.get(type), run.job.payload_json, context), Succeed)
    return context.said


def test_the_walk_says_how_far_it_is_once_in_many_files(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heimdex.service_layer.drive._FILES_A_REPORT", 10)
    for number in range(25):
        drive.files.put(str(number))

    assert _run(drive, INGEST, {"uri": TOP}) == [
        (0, "walking: 10 files so far"),
        (0, "walking: 20 files so far"),
        (100, "walked: 25 files"),
    ]
    assert _run(drive, INGEST, {"uri": TOP, "limit": 12}) == [
        (83, "walking: 10 files so far"),
        (100, "walked: 12 files"),
    ]


def test_a_small_file_is_reported_as_read(drive: Drive) -> None:
    drive.files.put("a", b"1")

    said = _run(drive, INGEST_FILE, {"uri": f"{TOP}/a", "size": 1, "mtime_ns": "1"})

    assert said == [(0, "reading"), (100, "read")]


def test_a_large_file_says_how_far_it_is_once_in_many_blocks(drive: Drive) -> None:
    drive.files.block = 1
    drive.files.put("a", b"1" * 200)

    said = _run(drive, INGEST_FILE, {"uri": f"{TOP}/a", "size": 200, "mtime_ns": "1"})

    assert said == [(0, "reading"), (32, "reading"), (64, "reading"), (96, "reading"), (100, "read")]


@pytest.mark.parametrize("size", [-1, 0, 1, 199])
def test_a_file_that_grew_is_never_further_than_it_can_be(drive: Drive, size: int) -> None:
    drive.files.block = 1
    drive.files.put("a", b"1" * 200)

    said = _run(drive, INGEST_FILE, {"uri": f"{TOP}/a", "size": size, "mtime_ns": "1"})

    assert max(percent for percent, stage in said if stage == "reading") <= 99


def test_what_was_said_last_is_in_the_history(drive: Drive) -> None:
    drive.files.put("a", b"1")

    ingest = drive.ingest()
    [job] = drive.jobs()

    assert (ingest.stage, ingest.progress) == ("walked: 1 files", 100)
    assert (job.stage, job.progress) == ("read", 100)


def test_reading_stops_when_the_job_is_no_longer_held(drive: Drive) -> None:
    drive.files.block = 1
    drive.files.put("a", b"1" * 1_000)
    run = _claim(drive, drive.ledger.create_many([file_job(drive.files.stat(f"{TOP}/a"))])[0])

    def lose(_: str) -> None:
        run.held = False

    drive.files.while_reading = lose
    context = ListeningContext(drive.ledger, run)
    outcome = run_function(drive.ledger.jobs.get(INGEST_FILE), run.job.payload_json, context)

    assert isinstance(outcome, Fail)
    assert outcome.code == LeaseLost.__name__
    assert run.assets == {}


def test_a_walk_that_is_begun_again_makes_no_job_twice(drive: Drive) -> None:
    for name in "abc":
        drive.files.put(name)
    _run(drive, INGEST, {"uri": TOP, "limit": 2})

    ingest = drive.ingest()

    assert ingest.result == {"files": 3, "created": 1, "replayed": 2, "failed_before": 0}
    assert drive.ingested() == ["a", "b", "c"]
