"""The check of an ingest finds each kind of loss, and nothing where nothing is lost."""

from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from attrs import evolve

from heimdex.domain.asset import Asset
from heimdex.domain.job import Job
from heimdex.domain.outcomes import Cancel
from heimdex.domain.results import Ending
from heimdex.domain.transitions import Status
from heimdex.service_layer.drive import INGEST, file_job
from heimdex.service_layer.drive_check import DriveCheck, Finding, check_drive
from heimdex.service_layer.ports import FoundFile
from tests.service_layer.drive_fakes import PICTURE, TOP, TUESDAY, Drive, LossyViews
from tests.service_layer.worker_harness import TENANT

A = f"{TOP}/a"


def _walk(drive: Drive) -> list[FoundFile]:
    return list(drive.files.walk(TOP))


def _views(drive: Drive) -> LossyViews:
    with drive.ledger.store.views(TENANT) as views:
        return LossyViews.of(views)


def _check(drive: Drive, walked: list[FoundFile] | None = None) -> DriveCheck:
    with drive.ledger.store.views(TENANT) as views:
        return check_drive(views, drive.files, _walk(drive) if walked is None else walked)


def _problems(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.subject, finding.problem) for finding in findings]


@pytest.fixture
def drive() -> Drive:
    """A folder of three files of which one cannot be read, ingested."""
    drive = Drive()
    drive.files.put("a", b"12345")
    drive.files.put("b/c", PICTURE + b"12")
    drive.files.put_unreadable("b/d", "not_permitted")
    drive.ingest()
    return drive


@pytest.fixture
def views(drive: Drive) -> LossyViews:
    """What the ledger of that folder tells."""
    return _views(drive)


@pytest.fixture
def job(drive: Drive) -> Job:
    """The job of the file `a`."""
    return drive.jobs()[0]


def test_nothing_is_lost_in_a_sound_ledger(drive: Drive) -> None:
    report = _check(drive)

    assert report.sound
    assert (report.lost, report.broken, report.changed) == ([], [], 0)
    assert (report.files, report.bytes) == (3, 14)
    assert report.assets == {"bytes/5": 1, "image/fake": 1}
    assert report.errors == {"not_permitted": 1}
    assert {status: count for status, count in report.jobs.items() if count} == {Status.SUCCEEDED: 3, Status.FAILED: 1}
    assert report.read_again == 2


def test_an_empty_ledger_has_lost_every_file() -> None:
    drive = Drive()
    drive.files.put("a")

    assert _problems(_check(drive).lost) == [(A, "it has 0 jobs")]


def test_files_with_the_same_content_are_counted(drive: Drive) -> None:
    drive.files.put("e", b"12345")
    drive.files.put("f", b"12345")
    drive.ingest()

    assert _check(drive).duplicates == 2


def test_it_tells_how_many_jobs_it_has_looked_at(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heimdex.service_layer.drive_check._PAGE", 3)
    told: list[int] = []

    with drive.ledger.store.views(TENANT) as views:
        check_drive(views, drive.files, _walk(drive), told.append)

    assert told == [3, 1]


def test_a_file_that_no_job_was_made_for_is_lost(drive: Drive) -> None:
    drive.files.put("forgotten")

    assert _problems(_check(drive).lost) == [(f"{TOP}/forgotten", "it has 0 jobs")]


def test_an_unreadable_file_that_no_job_was_made_for_is_lost(drive: Drive) -> None:
    drive.files.put_unreadable("forgotten", "not_found")

    assert _problems(_check(drive).lost) == [(f"{TOP}/forgotten", "it has 0 jobs")]


def test_a_job_whose_row_is_gone_is_found_twice(drive: Drive, views: LossyViews, job: Job) -> None:
    del views.jobs[job.id]

    report = check_drive(views, drive.files, _walk(drive))

    assert _problems(report.lost) == [(A, "it has 0 jobs")]
    assert _problems(report.broken) == [(str(job.id), "it has a history and no row")]
    assert not report.sound


def test_a_job_whose_asset_is_gone_is_found_twice(drive: Drive, views: LossyViews, job: Job) -> None:
    del views.recorded[job.id]

    report = check_drive(views, drive.files, _walk(drive))

    assert _problems(report.lost) == [(A, "its job has 0 assets")]
    assert _problems(report.broken) == [(str(job.id), "it succeeded and has 0 assets")]


def test_two_jobs_for_a_file_are_found(drive: Drive) -> None:
    drive.ledger.create_many([evolve(file_job(drive.files.stat(A)), idempotency_key="another")])
    drive.worker.settle()

    assert _problems(_check(drive).lost) == [(A, "it has 2 jobs")]


def test_a_job_that_has_not_ended_is_found(drive: Drive) -> None:
    queued, running = drive.files.put("queued"), drive.files.put("running")
    job_ids = drive.ledger.create_many([file_job(drive.files.stat(uri)) for uri in (queued, running)])
    with drive.ledger.store.unit_of_work(TENANT) as uow:
        uow.jobs.claim(job_ids[1], worker=UUID(int=99), lease=timedelta(seconds=30))

    assert _problems(_check(drive).lost) == [
        (running, "its job is running"),
        (queued, "its job is queued"),
    ]


def test_a_job_that_waits_for_its_next_try_has_not_ended(drive: Drive) -> None:
    waiting = drive.files.put_unreadable("waiting", "unreadable")
    drive.ingest()

    assert _problems(_check(drive).lost) == [(waiting, "its job is queued")]


def test_a_job_that_was_canceled_without_an_error_is_found(drive: Drive) -> None:
    canceled = drive.files.put("canceled")
    [job_id] = drive.ledger.create_many([file_job(drive.files.stat(canceled))])
    with drive.ledger.store.unit_of_work(TENANT) as uow:
        job = uow.jobs.claim(job_id, worker=UUID(int=99), lease=timedelta(seconds=30))
        uow.jobs.finish([Ending(job, Cancel("nobody wants it"))])

    assert _problems(_check(drive).lost) == [(canceled, "its job is canceled and has recorded no error")]


def test_a_file_larger_than_numbers_go_is_not_lost(drive: Drive) -> None:
    drive.files.put("large", size=2**60)
    drive.ingest()

    report = _check(drive)

    assert report.sound
    assert report.errors == {"not_permitted": 1, "too_large": 1}


def test_a_job_of_another_type_counts_for_no_file(drive: Drive, views: LossyViews, job: Job) -> None:
    another = evolve(job, id=UUID(int=job.id.int + 1), type="another")
    views.jobs[another.id] = another

    assert check_drive(views, drive.files, _walk(drive)).lost == []


def _wrong_size(asset: Asset) -> Asset:
    return evolve(asset, size=4)


def _wrong_digest(asset: Asset) -> Asset:
    return evolve(asset, sha256=sha256(b"54321").hexdigest())


def _no_digest(asset: Asset) -> Asset:
    return evolve(asset, sha256="none")


def _another_file(asset: Asset) -> Asset:
    return evolve(asset, uri=f"{TOP}/b/c")


def _wrong_size_and_an_excuse(asset: Asset) -> Asset:
    return evolve(asset, size=4, metadata_json='{"changed":true,"mtime_ns":"1"}')


@pytest.mark.parametrize(
    ("spoiled", "problem"),
    [
        (_wrong_size, "its asset has 4 bytes instead of 5"),
        (_wrong_digest, "its asset has another SHA-256"),
        (_no_digest, "its asset has another SHA-256"),
        (_another_file, "its job has the asset of another file"),
        (_wrong_size_and_an_excuse, "its asset has 4 bytes instead of 5"),
    ],
)
def test_an_asset_that_is_not_its_files_is_found(
    drive: Drive, views: LossyViews, job: Job, spoiled: Callable[[Asset], Asset], problem: str
) -> None:
    views.recorded[job.id] = tuple(map(spoiled, views.recorded[job.id]))

    report = check_drive(views, drive.files, _walk(drive))

    assert _problems(report.lost) == [(A, problem)]


def test_a_second_asset_of_a_job_is_found(drive: Drive, views: LossyViews, job: Job) -> None:
    views.recorded[job.id] *= 2

    assert _problems(check_drive(views, drive.files, _walk(drive)).lost) == [(A, "its job has 2 assets")]


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("priority", 7, "row_differs: its history does not lead to its priority"),
        ("attempt", 2, "row_differs: its history does not lead to its attempt"),
        ("status", Status.QUEUED, "row_differs: its history does not lead to its status"),
        ("result_json", '"another"', "result_digest: its result is not the one that it succeeded with"),
        ("payload_json", '{"uri":"another"}', "payload_digest: its payload is not the one that it was created with"),
        ("payload_json", "no JSON", "payload_digest: its payload is not the one that it was created with"),
    ],
)
def test_a_row_that_its_history_does_not_lead_to_is_found(
    drive: Drive, views: LossyViews, job: Job, column: str, value: object, problem: str
) -> None:
    setattr(views.jobs[job.id], column, value)

    report = check_drive(views, drive.files, _walk(drive))

    assert _problems(report.broken) == [(str(job.id), problem)]


@pytest.mark.parametrize(
    ("first", "last", "rule"),
    [(1, None, "gap"), (0, -1, "row_differs"), (0, -1, "result_digest"), (0, 0, "row_without_history")],
)
def test_a_history_that_lacks_something_is_found(
    drive: Drive, views: LossyViews, job: Job, first: int, last: int | None, rule: str
) -> None:
    views.events[job.id] = views.events[job.id][first:last]

    broken = check_drive(views, drive.files, _walk(drive)).broken

    assert {finding.subject for finding in broken} == {str(job.id)}
    assert rule in {finding.problem.partition(":")[0] for finding in broken}


@pytest.mark.parametrize(
    ("detail_json", "problem"),
    [
        ("no JSON", "its detail cannot be read (JSONDecodeError)"),
        ("[]", "its detail cannot be read (TypeError)"),
        ('{"timeout_ms":' + "9" * 40 + "}", "it does not say"),
    ],
)
def test_a_history_that_cannot_be_read_is_found(
    drive: Drive, views: LossyViews, job: Job, detail_json: str, problem: str
) -> None:
    first, *others = views.events[job.id]
    views.events[job.id] = (evolve(first, detail_json=detail_json), *others)

    [finding] = check_drive(views, drive.files, _walk(drive)).broken

    assert finding.subject == str(job.id)
    assert finding.problem.startswith(f"unreadable_event: {problem}")


@pytest.mark.parametrize("payload_json", ["no JSON", "[]", "{}", '{"uri":[],"size":5,"mtime_ns":"1"}'])
def test_a_job_whose_payload_cannot_be_read_leaves_its_file_without_one(
    drive: Drive, views: LossyViews, job: Job, payload_json: str
) -> None:
    views.jobs[job.id].payload_json = payload_json

    assert _problems(check_drive(views, drive.files, _walk(drive)).lost) == [(A, "it has 0 jobs")]


def test_the_history_of_other_jobs_is_checked_too(drive: Drive, views: LossyViews) -> None:
    [ingest] = [job for job in views.jobs.values() if job.type == INGEST]
    ingest.priority = 7

    report = check_drive(views, drive.files, _walk(drive))

    assert report.lost == []
    assert [finding.subject for finding in report.broken] == [str(ingest.id)]


@pytest.mark.parametrize("page", [1, 2, 3, 500])
def test_histories_without_a_row_are_found_wherever_they_lie(
    drive: Drive, views: LossyViews, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr("heimdex.service_layer.drive_check._PAGE", page)
    some = next(iter(views.events.values()))
    rows = sorted(views.jobs)
    before_and_after = [UUID(int=row.int + offset) for row in rows for offset in (-2, -1, 1, 2)]
    orphans = [UUID(int=1), *before_and_after, UUID(int=2**128 - 1)]
    views.events |= dict.fromkeys(orphans, some)

    report = check_drive(views, drive.files, _walk(drive))

    assert report.lost == []
    assert {finding.problem for finding in report.broken} == {"it has a history and no row"}
    assert sorted(finding.subject for finding in report.broken) == [str(orphan) for orphan in orphans]


def test_histories_without_a_row_are_found_where_there_are_no_rows(drive: Drive, views: LossyViews) -> None:
    views.jobs.clear()

    assert len(check_drive(views, drive.files, _walk(drive)).broken) == 4


def _touch(drive: Drive) -> None:
    drive.files.put("a", b"54321", mtime_ns=TUESDAY)


def _grow(drive: Drive) -> None:
    drive.files.put("a", b"123456")


def _remove(drive: Drive) -> None:
    del drive.files.files[A]


def _forbid(drive: Drive) -> None:
    drive.files.put_unreadable("a", "not_permitted")


@pytest.mark.parametrize("change", [_touch, _grow, _remove, _forbid])
def test_a_file_that_changed_after_it_was_ingested_is_counted_as_changed(
    drive: Drive, change: Callable[[Drive], None]
) -> None:
    walked = _walk(drive)
    change(drive)

    report = _check(drive, walked)

    assert report.sound
    assert (report.changed, report.read_again) == (1, 1)


def test_a_file_that_can_no_longer_be_read_is_counted_as_changed(drive: Drive) -> None:
    drive.files.files[A].problem = "unreadable"

    report = _check(drive)

    assert report.sound
    assert report.changed == 1


def test_a_file_that_changes_while_it_is_read_again_is_counted_as_changed(drive: Drive) -> None:
    walked = _walk(drive)
    drive.files.files[A].content = b"54321"

    def touch(uri: str) -> None:
        if uri == A:
            _touch(drive)

    drive.files.while_reading = touch
    report = _check(drive, walked)

    assert report.sound
    assert report.changed == 1


def test_a_file_that_changed_while_it_was_ingested_is_not_lost() -> None:
    drive = Drive()
    drive.files.put("a", b"12345")
    walked = _walk(drive)
    drive.files.while_reading = lambda _: _touch(drive)
    drive.ingest()

    report = _check(drive, walked)

    assert report.sound
    assert report.changed == 1


def test_a_file_that_changed_between_two_ingests_has_one_job_for_each_state(drive: Drive) -> None:
    first = _walk(drive)
    _touch(drive)
    second = _walk(drive)
    drive.ingest()

    assert drive.ingested() == ["a", "b/c", "b/d", "a"]
    assert (_check(drive, second).sound, _check(drive, second).changed) == (True, 0)
    assert (_check(drive, first).sound, _check(drive, first).changed) == (True, 1)


def test_a_file_that_changed_between_two_ingests_and_was_not_ingested_again_is_lost(drive: Drive) -> None:
    _touch(drive)

    assert _problems(_check(drive).lost) == [(A, "it has 0 jobs")]


def test_a_file_that_changed_before_the_ingest_met_it_is_counted_as_changed(drive: Drive) -> None:
    drive.files.put("new", b"1")
    walked = _walk(drive)
    drive.files.put("new", b"2", mtime_ns=TUESDAY)
    drive.ingest()

    report = _check(drive, walked)

    assert report.sound
    assert report.changed == 1


def test_a_file_that_went_before_the_ingest_met_it_is_counted_as_changed(drive: Drive) -> None:
    drive.files.put("gone")
    walked = _walk(drive)
    del drive.files.files[f"{TOP}/gone"]
    drive.ingest()

    report = _check(drive, walked)

    assert report.sound
    assert report.changed == 1


def test_a_file_that_changed_and_that_no_job_was_made_for_is_lost(drive: Drive) -> None:
    drive.files.put("forgotten")
    walked = _walk(drive)
    drive.files.put("forgotten", mtime_ns=TUESDAY)

    assert _problems(_check(drive, walked).lost) == [(f"{TOP}/forgotten", "it has 0 jobs")]


def test_a_file_that_changed_and_whose_job_has_not_ended_is_lost(drive: Drive) -> None:
    drive.files.put("new", b"1")
    walked = _walk(drive)
    drive.files.put("new", b"2", mtime_ns=TUESDAY)
    drive.ledger.create_many([file_job(drive.files.stat(f"{TOP}/new"))])

    assert _problems(_check(drive, walked).lost) == [(f"{TOP}/new", "it has 0 jobs")]


def _many(files: int) -> Drive:
    drive = Drive()
    for number in range(files):
        drive.files.put(str(number), b"12345")
    drive.ingest()
    return drive


def test_every_file_of_a_small_folder_is_read_again() -> None:
    assert _check(_many(100)).read_again == 100


def test_one_in_twenty_files_of_a_large_folder_is_read_again() -> None:
    drive = _many(200)
    reads: list[str] = []
    drive.files.while_reading = reads.append

    report = _check(drive)

    assert report.sound
    assert 3 <= report.read_again <= 20
    assert len(reads) == report.read_again


def test_a_wrong_size_is_found_outside_the_sample_too() -> None:
    drive = _many(120)
    views = _views(drive)
    views.recorded = {job_id: tuple(map(_wrong_size, assets)) for job_id, assets in views.recorded.items()}

    assert len(check_drive(views, drive.files, _walk(drive)).lost) == 120
