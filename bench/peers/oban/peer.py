"""oban for Python, at the settings that peer.toml explains."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvloop
from oban import Job, Oban, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from bench import protocol
from bench.protocol import Wish

LIMIT = protocol.setting("LIMIT", 500)


@worker(queue="default")
class Noop:
    async def process(self, job: Job) -> None:
        protocol.arrived(job.args["at"])


def _job(wish: Wish) -> Job:
    made: Job = Noop.new({"number": wish.number, "text": wish.text, "at": wish.at})
    return made


class Creator:
    def __init__(self, oban: Oban) -> None:
        self._oban = oban

    async def one(self, wish: Wish) -> None:
        await self._oban.enqueue(_job(wish))

    async def many(self, wishes: Sequence[Wish]) -> None:
        await self._oban.enqueue_many([_job(wish) for wish in wishes])


class ObanPeer:
    batch = protocol.setting("BULK", protocol.BATCH)

    async def setup(self) -> None:
        async with _pool() as pool:
            await install(pool)

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        async with _pool() as pool, Oban(pool=pool) as oban:
            yield Creator(oban)

    def work(self) -> None:
        uvloop.run(_work())


async def _work() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with _pool() as pool, Oban(pool=pool, queues={"default": LIMIT}):
        await stopped.wait()


@asynccontextmanager
async def _pool() -> AsyncIterator[AsyncConnectionPool]:
    pool = await Oban.create_pool(protocol.database_url())
    try:
        yield pool
    finally:
        await pool.close()


if __name__ == "__main__":
    protocol.run(ObanPeer(), loop=uvloop.run)
