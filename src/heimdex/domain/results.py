"""What the verbs of a repository hand back, and what a worker hands in."""

from collections.abc import Sequence
from uuid import UUID

from attrs import define, field, frozen

from heimdex.domain.asset import NewAsset
from heimdex.domain.events import JobEvent
from heimdex.domain.job import Hold, Job
from heimdex.domain.json_text import canonical_object
from heimdex.domain.new_job import NewJob
from heimdex.domain.outcomes import Outcome, Progress


@frozen
class Created:
    """A job, and whether the idempotency key had already made it before (`replayed`)."""

    job: Job
    replayed: bool


@frozen
class CreatedBatch:
    """A batch of jobs that is committed. `first` is the place of its first job among all that were given, from 0."""

    first: int
    jobs: Sequence[Created]


@frozen
class JobWithEvents:
    """A job and its history in the order of `seq`."""

    job: Job
    events: tuple[JobEvent, ...]


@frozen
class Effects:
    """What a run wants written if and only if its success is accepted."""

    assets: tuple[NewAsset, ...] = ()
    children: tuple[NewJob, ...] = ()


NO_EFFECTS = Effects()


@frozen
class Ending:
    """The end of one run: the job as its holder knows it, the outcome, and a progress not yet written."""

    job: Job
    outcome: Outcome
    progress: Progress | None = None
    effects: Effects = NO_EFFECTS


def _detail_json(text: str) -> str:
    return canonical_object(text, "detail")


@frozen
class Note:
    """A line that a run adds to its job's history; the detail as JSON text of an object, which becomes canonical."""

    detail_json: str = field(repr=False, converter=_detail_json)


@frozen
class Report:
    """What a run that goes on has to say."""

    hold: Hold
    entry: Progress | Note


@frozen
class Refusal:
    """A write by somebody who no longer held the job. Nothing of it was applied; it is recorded."""

    job_id: UUID
    lease_seq: int
    trigger: str


@frozen
class Written:
    """The answer to a batch of holders' writes, each part in the order of job ids: accepted jobs, refused writes."""

    jobs: Sequence[Job]
    refusals: tuple[Refusal, ...]


@frozen
class OneByOne:
    """The answer where rows were tried one by one: the jobs that could be written, and those that were passed over."""

    jobs: tuple[Job, ...]
    passed_over: tuple[UUID, ...]


@define(eq=False)
class Draft:
    """What a command was about to commit, kept by whoever sent it.

    When the outcome of the commit is unknown, one of these jobs tells: all of them were kept, or none. `unknown` is
    whether an earlier try of the command ended so.
    """

    jobs: Sequence[Job] = ()
    unknown: bool = False
