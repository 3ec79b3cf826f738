"""Async callers: commands run beside the event loop."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from heimdex.adapters.async_bus import AsyncBus
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.commands import CreateJobs
from heimdex.domain.errors import IdempotencyConflict, InvalidInput
from heimdex.domain.job_filter import JobFilter
from heimdex.service_layer.message_bus import MessageBus
from heimdex.service_layer.retry import once
from tests.contract.steps import ORG, OURS, SYSTEM, TYPE


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'heimdex.db'}"
    with bootstrap(Settings(database_url=url)) as app:
        app.schema.upgrade()
        yield app


def test_many_are_created_at_once_and_each_key_once(app: Application) -> None:
    async def main() -> list[bool]:
        wanted = [app.aio.create(OURS, TYPE, {"n": n % 5}, idempotency_key=f"k-{n % 5}") for n in range(20)]
        return [created.replayed for created in await asyncio.gather(*wanted)]

    replayed = asyncio.run(main())

    assert replayed.count(False) == 5
    with app.views(OURS) as views:
        assert len(views.page(JobFilter()).jobs) == 5


def test_every_argument_reaches_the_job(app: Application) -> None:
    async def main() -> None:
        parent = (await app.aio.create(OURS, TYPE)).job
        child = await app.aio.create(
            SYSTEM, TYPE, org_id=ORG, queue="slow", priority=3, requested_by="r", parent_id=parent.id
        )
        job = child.job
        assert (job.org_id, job.queue, job.priority, job.requested_by, job.parent_id) == (
            ORG,
            "slow",
            3,
            "r",
            parent.id,
        )

    asyncio.run(main())


def test_errors_come_back_as_they_are(app: Application) -> None:
    async def main() -> None:
        with pytest.raises(InvalidInput):
            await app.aio.create(OURS, TYPE, priority=10**6)
        await app.aio.create(OURS, TYPE, {"n": 1}, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            await app.aio.create(OURS, TYPE, {"n": 2}, idempotency_key="k")

    asyncio.run(main())


def test_a_command_runs_beside_the_loop() -> None:
    began, go_on = threading.Event(), threading.Event()

    def wait(_: object) -> str:
        began.set()
        return "went on" if go_on.wait(10) else "waited in vain"

    async def main() -> str:
        commands = AsyncBus(MessageBus({CreateJobs: wait}, ids=uuid4, retry=once))
        waiting = asyncio.create_task(commands.handle(CreateJobs(scope=OURS, new_jobs=[])))
        await asyncio.to_thread(began.wait, 10)
        go_on.set()
        return str(await waiting)

    assert asyncio.run(main()) == "went on"
