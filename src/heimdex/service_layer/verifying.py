"""Whether a whole ledger is sound, found out by reading it."""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

from attrs import Factory, define

from heimdex.domain.verification import Finding, check
from heimdex.service_layer.ports import Recorded, Views

UNREADABLE_ROW = "unreadable_row"
_TOLD_EVERY = 500


@define
class Verification:
    """What a verification read and found. All findings are counted by their rules; the first few are kept.

    `pruned` are histories that outlived their row, `broken` jobs with a finding.
    """

    jobs: int = 0
    pruned: int = 0
    events: int = 0
    broken: int = 0
    organisations: set[UUID] = Factory(set)
    rules: Counter[str] = Factory(Counter)
    findings: list[Finding] = Factory(list)

    @property
    def sound(self) -> bool:
        return not self.rules


def verify(views: Views, *, limit: int, tell: Callable[[int], None] = lambda _: None) -> Verification:
    """Read a scope's ledger once, job by job, and check each.

    A job that moves meanwhile is no finding: each is seen as it was at one moment.

    Args:
        limit: how many findings are kept.
        tell: called with the number of rows looked at since it was called last.
    """
    report = Verification()
    told = 0
    for recorded in views.ledger():
        _take(report, recorded, limit)
        if report.jobs - told >= _TOLD_EVERY:
            tell(report.jobs - told)
            told = report.jobs
    tell(report.jobs - told)
    return report


def _take(report: Verification, recorded: Recorded, limit: int) -> None:
    job, events = recorded.job, recorded.events
    if job is not None:
        report.jobs += 1
        report.organisations.add(job.org_id)
    elif events:
        report.pruned += 1
        report.organisations.add(events[0].org_id)
    report.events += len(events)
    found = check(job, events)
    if recorded.unreadable is not None:
        found.append(Finding(UNREADABLE_ROW, recorded.job_id, None, None, recorded.unreadable))
    report.broken += bool(found)
    for finding in found:
        report.rules[finding.rule] += 1
        if len(report.findings) < limit:
            report.findings.append(finding)
