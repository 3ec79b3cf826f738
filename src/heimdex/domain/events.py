"""What is decided, and what has happened: a Decision becomes a JobEvent when a store stamps it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from attrs import define, field, frozen, setters

from heimdex.domain.json_text import JsonValue, decode_object, trusted
from heimdex.domain.rules import to_text
from heimdex.domain.scope import Scope
from heimdex.domain.transitions import Status, Trigger, next_status

NOTHING: Mapping[str, JsonValue] = MappingProxyType({})
NO_LENGTHS: Mapping[str, timedelta] = MappingProxyType({})


@frozen
class Decision:
    """One move of one job, before the store has given it a number and a time.

    `detail` names columns as the event will carry them. `lengths` are times that are not known yet: each is added to
    the event's time and joins the detail under its name.
    """

    trigger: Trigger
    prev_status: Status | None
    next_status: Status
    detail: Mapping[str, JsonValue] = NOTHING
    lengths: Mapping[str, timedelta] = NO_LENGTHS
    reason: str | None = None

    def detail_at(self, ts: datetime) -> dict[str, JsonValue]:
        """Return the detail of the event that happens at `ts`."""
        if not self.lengths:
            # A dict in any case: no other mapping, such as NOTHING, can be written as JSON.
            return dict(self.detail)
        return {**self.detail, **{name: to_text(ts + length) for name, length in self.lengths.items()}}


def decided(
    job_id: UUID | None,
    status: Status | None,
    trigger: Trigger,
    detail: Mapping[str, JsonValue] = NOTHING,
    *,
    lengths: Mapping[str, timedelta] = NO_LENGTHS,
    reason: str | None = None,
) -> Decision:
    """Return the decision that `trigger` leads to from `status`.

    Raises:
        IllegalTransition: it leads nowhere.
    """
    return Decision(trigger, status, next_status(job_id, status, trigger), detail, lengths, reason)


@define(slots=False, eq=False, on_setattr=setters.frozen)
class JobEvent:
    """One line of a job's history. `seq` counts from 1 without gaps; `ts` is the database's time."""

    job_id: UUID
    seq: int
    org_id: UUID
    ts: datetime
    prev_status: Status | None
    next_status: Status
    trigger: Trigger
    actor: str
    source: str | None
    reason: str | None
    detail_json: str = field(repr=False)

    @property
    def detail(self) -> dict[str, JsonValue]:
        return decode_object(self.detail_json)


def stamp(decision: Decision, *, job_id: UUID, org_id: UUID, seq: int, ts: datetime, scope: Scope) -> JobEvent:
    """Turn a decision into the event with this number at this time."""
    event = JobEvent.__new__(JobEvent)
    # Past __init__, which takes ten times as long where the class is mapped: every value is checked already.
    event.__dict__ = dict(  # noqa: C408 - names as they are declared
        job_id=job_id,
        seq=seq,
        org_id=org_id,
        ts=ts,
        prev_status=decision.prev_status,
        next_status=decision.next_status,
        trigger=decision.trigger,
        actor=scope.actor,
        source=scope.source,
        reason=decision.reason,
        detail_json=trusted(decision.detail_at(ts)),
    )
    return event
