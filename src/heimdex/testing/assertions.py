"""What a test expects of a ledger. Each failure shows what is there instead."""

from collections.abc import Mapping, Sequence
from typing import overload
from uuid import UUID

from attrs import frozen

from heimdex.bootstrap import Application
from heimdex.domain.errors import InvalidInput
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Job
from heimdex.domain.job_filter import JobFilter
from heimdex.domain.json_text import canonical
from heimdex.domain.new_job import NewJob, specify
from heimdex.domain.rules import check_whole
from heimdex.domain.transitions import Trigger
from heimdex.domain.verification import Finding
from heimdex.service_layer.verifying import verify
from heimdex.testing.ledger import bounded, history_of, job_of, jobs_of, lines_of, scope_of, shortened

_MOST = 1_000_000
_SHOWN_EVENTS = 30


@overload
def assert_created(
    app: Application,
    type: str,
    *,
    org_id: UUID | None = None,
    payload: object = None,
    payload_includes: Mapping[str, object] | None = None,
) -> Job: ...


@overload
def assert_created(
    app: Application,
    type: str,
    *,
    count: int,
    org_id: UUID | None = None,
    payload: object = None,
    payload_includes: Mapping[str, object] | None = None,
) -> list[Job]: ...


def assert_created(
    app: Application,
    type: str,
    *,
    count: int | None = None,
    org_id: UUID | None = None,
    payload: object = None,
    payload_includes: Mapping[str, object] | None = None,
) -> Job | list[Job]:
    """Expect that exactly one job of a type was created, or `count` of them, and return it or them as they are now.

    Every job of the ledger counts, whatever became of it. What else a test expects it can ask of the returned job.

    Args:
        count: None expects one and returns it; a number expects so many and returns a list, oldest first.
        org_id: None is any organisation.
        payload: the whole payload, as it could be given to `create`: defaults of the payload's class are filled in.
            None is any.
        payload_includes: some members of the payload, each with its whole value.
    """
    __tracebackhide__ = True
    wanted = _Wanted(
        type,
        org_id,
        None if payload is None else _payload_json(app, type, payload),
        None if payload_includes is None else _members(payload_includes),
    )
    expected = 1 if count is None else check_whole("count", count, 0, _MOST)
    found = [job for job in jobs_of(app, JobFilter(type=type), org_id=org_id) if wanted.accepts(job)]
    if len(found) != expected:
        raise AssertionError(f"expected {expected} of {wanted}; found {len(found)}\n{_created(app, first=type)}")
    return found[0] if count is None else found


def assert_nothing_created(app: Application, *, org_id: UUID | None = None) -> None:
    """Expect that no job was created, in an organisation or, where `org_id` is None, in any."""
    __tracebackhide__ = True
    found = jobs_of(app, JobFilter(), org_id=org_id)
    if found:
        raise AssertionError("\n  ".join([f"expected no jobs; created ({len(found)}):", *lines_of(found)]))


def assert_history(app: Application, job_id: UUID, triggers: Sequence[str]) -> tuple[JobEvent, ...]:
    """Expect that exactly these moves, such as ["create", "claim", "succeed"], made a job's history, and return it.

    Raises:
        InvalidInput: there is no such trigger.
    """
    __tracebackhide__ = True
    expected = [_trigger(trigger) for trigger in triggers]
    events = history_of(app, job_id)
    found = [event.trigger for event in events]
    if not found:
        raise AssertionError(f"no job has the id {job_id}")
    if found != expected:
        job = job_of(app, job_id)
        lines = [f"job {job_id} ({job.type}, {job.status}) has another history", f"expected: {_listed(expected)}"]
        lines.append(f"found:    {_listed(found)}")
        if job.last_error_code is not None:
            lines.append(f"its last error: {job.last_error_code}: {shortened(job.last_error_message or '')}")
        raise AssertionError("\n  ".join(lines))
    return events


def assert_ledger(app: Application, *, org_id: UUID | None = None) -> None:
    """Expect that every history is one that Heimdex can have written and leads to its row, as `heimdex verify` says.

    Args:
        org_id: None is every organisation.
    """
    __tracebackhide__ = True
    with app.views(scope_of(org_id)) as views:
        report = verify(views, limit=_MOST)
    if not report.sound:
        lines = [f"{finding.rule}: job {finding.job_id}{_at(finding)}: {finding.text}" for finding in report.findings]
        raise AssertionError("\n  ".join([f"the ledger is not sound ({len(lines)} findings):", *bounded(lines)]))


def _at(finding: Finding) -> str:
    return "" if finding.seq is None else f", event {finding.seq}"


@frozen
class _Wanted:
    """Which jobs are expected; None is any. Payloads are canonical texts: to Python, 1 is also 1.0 and True."""

    type: str
    org_id: UUID | None
    payload_json: str | None
    members: Mapping[str, str] | None

    def accepts(self, job: Job) -> bool:
        if self.payload_json is not None and job.payload_json != self.payload_json:
            return False
        if self.members is None:
            return True
        payload = job.payload
        return isinstance(payload, dict) and self.members.items() <= _members(payload).items()

    def __str__(self) -> str:
        words = [self.type]
        if self.org_id is not None:
            words.append(f"in organisation {self.org_id}")
        if self.payload_json is not None:
            words.append(f"with the payload {shortened(self.payload_json)}")
        if self.members is not None:
            members = ", ".join(f"{name}: {value}" for name, value in self.members.items())
            words.append(f"with a payload that includes {shortened(members)}")
        return " ".join(words)


def _payload_json(app: Application, type: str, payload: object) -> str:
    return (specify if app.jobs is None else app.jobs.specify)(NewJob(type, payload)).payload_json


def _members(document: Mapping[str, object]) -> dict[str, str]:
    return {name: canonical(value, name) for name, value in document.items()}


def _created(app: Application, *, first: str) -> str:
    jobs = sorted(jobs_of(app, JobFilter()), key=lambda job: job.type != first)
    return "\n  ".join([f"created ({len(jobs)}):", *lines_of(jobs)])


def _trigger(value: str) -> Trigger:
    try:
        return Trigger(value)
    except ValueError:
        raise InvalidInput("triggers", value, f"give some of {', '.join(Trigger)}") from None


def _listed(triggers: Sequence[Trigger]) -> str:
    return ", ".join(bounded(triggers, _SHOWN_EVENTS))
