"""What rolling restarts came to: figures, and the promises that were broken."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from statistics import median

from attrs import frozen

from heimdex import Status, Trigger
from tests.trials.account import Account, violation
from tests.trials.processes import described
from tests.trials.second_signal import StoppedTwice


@frozen(kw_only=True)
class Restart:
    """One worker's end. `signaled_at` is the database's time just before the signal."""

    worker: str
    signaled_at: datetime
    seconds: float
    exit_code: int | None
    left_running: int
    last_words: str


def figures(
    account: Account, restarts: Sequence[Restart], twice: Sequence[StoppedTwice], settings: Mapping[str, str]
) -> dict[str, object]:
    returned = {(start.job_id, start.lease_seq) for start in account.starts if start.stopped_at is not None}
    heard = {(event.job_id, event.detail["lease_seq"]) for event in account.events(Trigger.SUCCEED)}
    ends = [restart.seconds for restart in restarts] or [0.0]
    return {
        "settings": described(settings),
        "stopped_workers": len(restarts),
        "of_these_with_jobs_in_hand": len(_busy(account, restarts)),
        "jobs": len(account.created),
        "succeeded": sum(job.status is Status.SUCCEEDED for job in account.jobs.values()),
        "lost": len(account.created) - len(account.jobs),
        "starts": len(account.starts),
        "released": len(account.events(Trigger.RELEASE)),
        "returned_after_the_grace": len(returned - heard),
        "leases_expired": len(account.events(Trigger.EXPIRE)),
        "left_running": sum(restart.left_running for restart in restarts),
        "half_stopped_within_s": round(median(ends), 3),
        "longest_stop_s": round(max(ends), 3),
        "latest_claim_after_the_signal_ms": round(1_000 * max(_claims_after(account, restarts).values(), default=0), 1),
        "second_signals": len(twice),
        "longest_stop_after_a_second_signal_s": round(max((one.seconds for one in twice), default=0), 3),
    }


def violations(
    account: Account,
    restarts: Sequence[Restart],
    twice: Sequence[StoppedTwice],
    longest_stop: float,
    latest_claim: float,
    longest_second_stop: float,
) -> Iterator[str]:
    jobs = account.jobs.values()
    expired = [event.job_id for event in account.events(Trigger.EXPIRE)]
    broken = {
        "did not succeed": [job.id for job in jobs if job.status is not Status.SUCCEEDED],
        "succeeded in another attempt than the first": [
            job.id for job in jobs if job.status is Status.SUCCEEDED and job.attempt != 1
        ],
        "count a crash": [job.id for job in jobs if job.crashes],
        "were left until their lease expired": expired,
    }
    yield from (line for what, ids in broken.items() if (line := violation(what, ids)))
    for restart in restarts:
        if restart.exit_code != 0:
            yield f"{restart.worker} exited with {restart.exit_code}:\n{restart.last_words}"
        if restart.left_running:
            yield f"{restart.worker} left {restart.left_running} jobs running"
        if restart.seconds > longest_stop:
            yield f"{restart.worker} took {restart.seconds:.2f} s to stop"
    for worker, seconds in _claims_after(account, restarts).items():
        if seconds > latest_claim:
            yield f"{worker} claimed {1_000 * seconds:.0f} ms after the signal"
    for one in twice:
        if not (one.waited and one.released and one.exit_code == 0 and one.seconds <= longest_second_stop):
            yield f"a second signal did not end the grace as it should: {one}"
    if not _busy(account, restarts):
        yield "nothing was shown: no worker had a job in hand when it was stopped"


def _claims_after(account: Account, restarts: Sequence[Restart]) -> dict[str, float]:
    """Return the seconds from a worker's signal to its last claim, of the workers that claimed after it."""
    signaled_at = {restart.worker: restart.signaled_at for restart in restarts}
    found: dict[str, float] = {}
    for event in account.events(Trigger.CLAIM):
        at = signaled_at.get(event.actor)
        if at is not None and event.ts > at:
            found[event.actor] = max(found.get(event.actor, 0.0), (event.ts - at).total_seconds())
    return found


def _busy(account: Account, restarts: Sequence[Restart]) -> set[str]:
    """Return the workers that ended or gave back a job after their signal."""
    signaled_at = {restart.worker: restart.signaled_at for restart in restarts}
    ends = account.events(Trigger.SUCCEED, Trigger.RELEASE)
    return {event.actor for event in ends if event.actor in signaled_at and event.ts > signaled_at[event.actor]}
