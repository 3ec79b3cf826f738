"""The state machine. This table decides every move of a job's status, and nothing else does."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from heimdex.domain.errors import IllegalTransition


class Status(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    DEAD_LETTER = "dead_letter"


class Trigger(StrEnum):
    CREATE = "create"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    EXPIRE = "expire"
    RETRY = "retry"
    BURY = "bury"
    SNOOZE = "snooze"
    RELEASE = "release"
    CANCEL = "cancel"
    REQUEST_CANCEL = "request_cancel"
    RETRY_BY_HAND = "retry_by_hand"
    PROGRESS = "progress"
    LOG = "log"


TRANSITIONS: Mapping[Status | None, Mapping[Trigger, Status]] = MappingProxyType(
    {
        None: {Trigger.CREATE: Status.QUEUED},
        Status.QUEUED: {Trigger.CLAIM: Status.RUNNING, Trigger.CANCEL: Status.CANCELED},
        Status.RUNNING: {
            Trigger.SUCCEED: Status.SUCCEEDED,
            Trigger.FAIL: Status.FAILED,
            Trigger.EXPIRE: Status.FAILED,
            Trigger.SNOOZE: Status.QUEUED,
            Trigger.RELEASE: Status.QUEUED,
            Trigger.CANCEL: Status.CANCELED,
            Trigger.REQUEST_CANCEL: Status.RUNNING,
            Trigger.PROGRESS: Status.RUNNING,
            Trigger.LOG: Status.RUNNING,
        },
        # A job passes through FAILED inside one transaction, or rests there.
        Status.FAILED: {
            Trigger.RETRY: Status.QUEUED,
            Trigger.BURY: Status.DEAD_LETTER,
            Trigger.RETRY_BY_HAND: Status.QUEUED,
        },
        Status.DEAD_LETTER: {Trigger.RETRY_BY_HAND: Status.QUEUED},
        Status.CANCELED: {Trigger.RETRY_BY_HAND: Status.QUEUED},
        Status.SUCCEEDED: {},
    }
)

# Where a cancel or a retry by hand is possible. A running job is asked to cancel.
CANCELABLE = frozenset(
    status for status in Status if TRANSITIONS[status].keys() & {Trigger.CANCEL, Trigger.REQUEST_CANCEL}
)
RETRIABLE = frozenset(status for status in Status if Trigger.RETRY_BY_HAND in TRANSITIONS[status])
END_STATUSES = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.DEAD_LETTER})


def next_status(job_id: UUID | None, status: Status | None, trigger: Trigger) -> Status:
    """Return where `trigger` leads from `status`.

    Raises:
        IllegalTransition: nowhere.
    """
    moves = TRANSITIONS[status]
    if trigger not in moves:
        raise IllegalTransition(job_id, status, trigger, tuple(moves))
    return moves[trigger]
