"""chancy, at the settings that peer.toml explains."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from chancy import Chancy, Job, Queue, Worker, job

from bench import protocol
from bench.protocol import Wish

CONCURRENCY = protocol.setting("CONCURRENCY", 1_000)
FLUSH_SECONDS = protocol.setting("FLUSH_MS", 100) / 1_000

log = logging.getLogger("chancy")
log.setLevel(logging.WARNING)


@job(queue="default")
async def noop(*, number: int, text: str, at: int) -> None:
    protocol.arrived(at)


def _open() -> Chancy:
    return Chancy(protocol.database_url(), log=log)


def _job(wish: Wish) -> Job:
    made: Job = noop.job.with_kwargs(number=wish.number, text=wish.text, at=wish.at)
    return made if wish.key is None else made.with_unique_key(wish.key)


class Creator:
    def __init__(self, chancy: Chancy) -> None:
        self._chancy = chancy

    async def one(self, wish: Wish) -> None:
        await self._chancy.push(_job(wish))

    async def many(self, wishes: Sequence[Wish]) -> None:
        async for _ in self._chancy.push_many([_job(wish) for wish in wishes], batch_size=len(wishes)):
            pass


class ChancyPeer:
    batch = protocol.setting("BULK", protocol.BATCH)

    async def setup(self) -> None:
        async with _open() as chancy:
            await chancy.migrate()
            # Under the name that a worker declares for itself, so that it starts no second queue with child processes.
            await chancy.declare(
                Queue("default", concurrency=CONCURRENCY, executor=Chancy.Executor.Async, eager_polling=True)
            )

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        async with _open() as chancy:
            yield Creator(chancy)

    def work(self) -> None:
        asyncio.run(_work())


async def _work() -> None:
    async with _open() as chancy:
        worker = Worker(chancy)
        worker.send_outgoing_interval = FLUSH_SECONDS
        async with worker:
            await worker.wait_for_shutdown()


if __name__ == "__main__":
    protocol.run(ChancyPeer())
