"""pgqueuer, at the settings that peer.toml explains."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from bench import protocol
from bench.protocol import Wish

MANAGERS = protocol.setting("MANAGERS", 2)
BATCH_SIZE = protocol.setting("BATCH_SIZE", 500)


def _payload(wish: Wish) -> bytes:
    return json.dumps({"number": wish.number, "text": wish.text, "at": wish.at}).encode()


class Creator:
    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def one(self, wish: Wish) -> None:
        await self._queries.enqueue("noop", _payload(wish), dedupe_key=wish.key)

    async def many(self, wishes: Sequence[Wish]) -> None:
        await self._queries.enqueue(
            ["noop"] * len(wishes),
            [_payload(wish) for wish in wishes],
            [0] * len(wishes),
            dedupe_key=[wish.key for wish in wishes],
        )


class PgQueuerPeer:
    batch = protocol.setting("BULK", protocol.BATCH)

    async def setup(self) -> None:
        async with _queries() as queries:
            await queries.install()
            await queries.optimize_autovacuum()

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        async with _queries() as queries:
            yield Creator(queries)

    def work(self) -> None:
        uvloop.run(_work())


async def _work() -> None:
    managers = [PgQueuer(AsyncpgDriver(await asyncpg.connect(protocol.database_url()))) for _ in range(MANAGERS)]
    loop = asyncio.get_running_loop()
    for manager in managers:
        manager.entrypoint("noop")(_noop)
    loop.add_signal_handler(signal.SIGTERM, lambda: [manager.shutdown.set() for manager in managers])
    await asyncio.gather(*(manager.run(batch_size=BATCH_SIZE) for manager in managers))


async def _noop(job: Job) -> None:
    protocol.arrived(json.loads(job.payload or b"{}")["at"])


@asynccontextmanager
async def _queries() -> AsyncIterator[Queries]:
    connection = await asyncpg.connect(protocol.database_url())
    try:
        yield Queries(AsyncpgDriver(connection))
    finally:
        await connection.close()


if __name__ == "__main__":
    protocol.run(PgQueuerPeer(), loop=uvloop.run)
