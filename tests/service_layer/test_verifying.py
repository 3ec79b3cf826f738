"""A verification counts everything and keeps the first few findings."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

from attrs import evolve

from heimdex.adapters.memory_store import MemoryStore
from heimdex.adapters.memory_views import MemoryViews
from heimdex.domain.scope import System
from heimdex.service_layer.ports import Recorded
from heimdex.service_layer.verifying import UNREADABLE_ROW, Verification, verify
from tests.domain.life import JOB, ORG, Life, running
from tests.stores import HandClock

SYSTEM = System(actor="a", reason="a test")


class Broken(MemoryViews):
    """Views of a ledger that is what a test makes it."""

    def __init__(self, *recorded: Recorded) -> None:
        super().__init__(MemoryStore(HandClock(datetime(2026, 1, 1, tzinfo=UTC))), SYSTEM)
        self._recorded = recorded

    def ledger(self, *, after: UUID | None = None) -> Iterator[Recorded]:
        return iter(self._recorded)


def of(life: Life) -> Recorded:
    return Recorded(JOB, life.job, life.events)


def verified(*recorded: Recorded, limit: int = 9) -> Verification:
    return verify(Broken(*recorded), limit=limit)


def test_findings_are_counted_by_rule_and_the_first_are_kept() -> None:
    bad = running()
    bad.job.priority = 9
    broken = Recorded(JOB, bad.job, [bad.events[0], evolve(bad.events[1], seq=3)])

    report = verified(of(running()), of(bad), broken, of(bad), limit=2)

    assert not report.sound
    assert (report.jobs, report.events, report.broken) == (4, 8, 3)
    assert report.rules == {"row_differs": 2, "gap": 1}
    assert [finding.rule for finding in report.findings] == ["row_differs", "gap"]
    assert report.organisations == {ORG}


def test_a_row_that_cannot_be_read_is_a_finding_beside_the_others() -> None:
    report = verified(Recorded(JOB, None, (), "it cannot be read"), of(running()))

    assert (report.jobs, report.broken, report.rules) == (1, 1, {UNREADABLE_ROW: 1})
    assert report.findings[0].job_id == JOB
