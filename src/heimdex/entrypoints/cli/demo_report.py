"""What `heimdex demo` says about what it showed."""

from collections import Counter
from collections.abc import Iterable

from attrs import asdict

from heimdex.domain.job import Job
from heimdex.entrypoints.cli import output, tables
from heimdex.entrypoints.cli.demonstration import Shown, Work
from heimdex.entrypoints.cli.ingesting import outcome
from heimdex.service_layer.drive_check import DriveCheck

_FINDINGS = 10
_MEDIA_TYPES = 10


def as_document(shown: Shown) -> dict[str, object]:
    """Return the report as one JSON object; `lost` and `broken` are numbers, `findings` names the first few."""
    check, work = shown.check, shown.work
    return {
        "database_url": shown.database_url,
        "org_id": shown.org_id,
        "paths": shown.paths,
        "files": check.files,
        "bytes": check.bytes,
        "created": None if work is None else work.created,
        "replayed": None if work is None else work.replayed,
        "left_before": None if work is None else work.left,
        "ran": None if work is None else work.ran,
        "ingests": None if work is None else [outcome(job) for job in work.ingests],
        "assets": dict(check.assets.most_common()),
        "duplicates": check.duplicates,
        "errors": dict(check.errors.most_common()),
        "changed": check.changed,
        "read_again": check.read_again,
        "jobs": check.jobs,
        "jobs_per_second": None if work is None else round(work.ran / work.seconds, 1),
        "lost": len(check.lost),
        "broken": len(check.broken),
        "findings": [asdict(finding) for finding in (*check.lost, *check.broken)[:_FINDINGS]],
        "seconds": round(shown.seconds, 2),
    }


def print_report(shown: Shown) -> None:
    tables.print_pairs(_pairs(shown))
    _print_assets(shown.check.assets)
    findings = (*shown.check.lost, *shown.check.broken)
    if findings:
        output.print_line("")
        tables.print_table(["what is wrong", "with"], [(f.problem, f.subject) for f in findings[:_FINDINGS]])
    if len(findings) > _FINDINGS:
        output.print_line(f"and {len(findings) - _FINDINGS:,} more")


def _print_assets(assets: Counter[str]) -> None:
    rows = assets.most_common(_MEDIA_TYPES)
    others = assets.total() - sum(count for _, count in rows)
    if others:
        rows.append(("others", others))
    if rows:
        output.print_line("")
        tables.print_table(["assets", "media type"], [(f"{count:,}", name) for name, count in rows], right=["assets"])


def _pairs(shown: Shown) -> dict[str, str]:
    check, work = shown.check, shown.work
    pairs = {
        "database": shown.database_url if shown.kept else f"{shown.database_url} (gone)",
        "organisation": str(shown.org_id),
        "files": f"{check.files:,} with {check.bytes:,} bytes" if check.files else "no files",
        "duplicates": f"{check.duplicates:,} have the content of another file",
    }
    if work is not None:
        pairs |= _done(check, work)
    pairs["jobs"] = _counts(check.jobs.items())
    if check.errors:
        pairs["errors"] = _counts(check.errors.items())
    if check.changed:
        pairs["changed"] = f"{check.changed:,} are no longer as they were walked; their content was not compared"
    pairs["checked"] = f"each history and the size of each asset; the content of {check.read_again:,} files"
    pairs["lost"] = f"{len(check.lost):,}"
    pairs["broken"] = f"{len(check.broken):,}"
    pairs["seconds"] = f"{shown.seconds:.1f}"
    return pairs


def _done(check: DriveCheck, work: Work) -> dict[str, str]:
    pairs = {"created": f"{work.created:,}", "replayed": _replayed(check, work)}
    if work.left:
        pairs["left before"] = f"{work.left:,} jobs still had to run"
    if work.failed:
        pairs["ingest"] = "\n".join(map(_failure, work.failed))
    pairs["speed"] = f"{work.ran / work.seconds:,.1f} jobs a second: {work.ran:,} ran in {work.seconds:.1f} s"
    return pairs


def _replayed(check: DriveCheck, work: Work) -> str:
    if check.files and work.replayed == check.files and not work.created and not work.left:
        return "all: they were ingested before, and nothing has changed"
    return f"{work.replayed:,}"


def _failure(job: Job) -> str:
    said = [f"{job.id} is {job.status}", job.last_error_code, job.last_error_message]
    return ": ".join(part for part in said if part is not None)


def _counts(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts if count)
