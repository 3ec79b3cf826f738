"""A worker in a long grace is told a second time to stop."""

import signal
from time import monotonic, sleep

from attrs import frozen

from heimdex import NewJob, Trigger
from tests.trials.command import Watch
from tests.trials.job_functions import GATED
from tests.trials.ledger import Ledger
from tests.trials.processes import Processes
from tests.trials.starts import read

QUEUE = "gated"
# Far longer than a trial waits.
_GRACE_SECONDS = "600"
_BETWEEN_SECONDS = 0.3


@frozen(kw_only=True)
class StoppedTwice:
    """Whether the first signal left it running, how long after the second it was gone, and what became of its job."""

    worker: str
    waited: bool
    seconds: float
    exit_code: int | None
    released: bool
    last_words: str


def stop_twice(name: str, ledger: Ledger, processes: Processes, watch: Watch) -> StoppedTwice:
    """Stop a worker that runs a job which does not end. Afterwards it may: the next worker of the queue ends it."""
    gate = ledger.folder / f"{name}.gate"
    [job_id] = ledger.create([NewJob(GATED, {"gate": str(gate)}, queue=QUEUE)])
    worker = processes.start_worker(name, "--queue", QUEUE, GRACE_SECONDS=_GRACE_SECONDS)
    starts = ledger.folder / "starts"
    watch.wait_until(lambda: any(start.job_id == job_id for start in read(starts)), f"{name} to start its job")
    worker.send(signal.SIGTERM)
    sleep(_BETWEEN_SECONDS)
    waited = not worker.ended
    began = monotonic()
    worker.send(signal.SIGTERM)
    watch.wait_until(lambda: worker.ended, f"{name} to stop", pause=0.005)
    seconds = monotonic() - began
    triggers = [event.trigger for event in ledger.history(job_id)]
    gate.touch()
    return StoppedTwice(
        worker=name,
        waited=waited,
        seconds=seconds,
        exit_code=worker.exit_code,
        released=triggers == [Trigger.CREATE, Trigger.CLAIM, Trigger.RELEASE],
        last_words=worker.last_words,
    )
