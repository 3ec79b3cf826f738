"""What job functions write down past the database: a line when a run starts, and one when it stops."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from uuid import UUID

from attrs import evolve, frozen

from heimdex import Job, JobContext

FILE = "TRIAL_STARTS"
"""The variable of the environment that says where."""


@frozen
class Start:
    """One start of a job function. Times are monotonic, which all processes of a machine share."""

    job_id: UUID
    lease_seq: int
    attempt: int
    pid: int
    at: float
    stopped_at: float | None = None


@contextmanager
def noted(ctx: JobContext) -> Iterator[None]:
    """Write down that a function starts and, when it comes so far, that it is about to return."""
    job = ctx.job
    _write("start", job)
    yield
    _write("stop", job)


def read(path: Path) -> list[Start]:
    """Return every start so far, in the order in which they were written."""
    found: list[Start] = []
    places: dict[tuple[UUID, int, int], int] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        what, job_id, lease_seq, attempt, pid, at = line.split()
        key = UUID(job_id), int(lease_seq), int(pid)
        if what == "start":
            places[key] = len(found)
            found.append(Start(key[0], key[1], int(attempt), key[2], float(at)))
        else:
            place = places[key]
            found[place] = evolve(found[place], stopped_at=float(at))
    return found


def _write(what: str, job: Job) -> None:
    line = f"{what} {job.id} {job.lease_seq} {job.attempt} {os.getpid()} {monotonic()}\n"
    # One write at the end of the file: lines of many processes do not mix, and what is written outlives the writer.
    file = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)
