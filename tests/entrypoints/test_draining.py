"""Working until nothing is left, where that does not come to pass."""

from collections.abc import Iterator
from datetime import timedelta
from threading import Event
from uuid import UUID

import pytest

from heimdex import JobContext, JobRegistry, Tenant, WorkerHung
from heimdex.bootstrap import bootstrap
from heimdex.config import load
from heimdex.entrypoints.cli.draining import Draining
from heimdex.entrypoints.cli.errors import REFUSED, exit_code
from heimdex.entrypoints.cli.ingesting import drain

SCOPE = Tenant(UUID(int=1), actor="user@example.com")


@pytest.fixture
def released() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


def test_a_worker_whose_slots_all_hang_ends_with_an_error_of_its_own(released: Event) -> None:
    jobs = JobRegistry()

    @jobs.register("hang", timeout=timedelta(milliseconds=1), max_attempts=1)
    def hang(payload: dict, ctx: JobContext) -> None:  # type: ignore[type-arg]  # any document
        released.wait(20)

    settings = load({"HEIMDEX_DATABASE_URL": "memory://", "HEIMDEX_GRACE_SECONDS": "0"})
    with bootstrap(settings, jobs=jobs) as application:
        with application.unit_of_work(SCOPE) as uow:
            uow.jobs.create("hang")
        worker = application.worker(name="host:7", concurrency=1)

        with pytest.raises(WorkerHung, match="host:7 ended") as caught:
            drain(Draining(application, worker, SCOPE, lambda _: False))

    assert exit_code(caught.value) == REFUSED
