"""awa (awa-pg), at the settings that peer.toml explains."""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import awa as awa_pg

from bench import protocol
from bench.protocol import Wish

WORKERS = protocol.setting("WORKERS", 1_024)
CONNECTIONS = protocol.setting("CONNECTIONS", 20)
POLL_MILLISECONDS = protocol.setting("POLL_MS", 50)
UNIQUE = {"by_args": True}


@dataclass
class Noop:
    number: int
    text: str
    at: int


def _args(wish: Wish) -> Noop:
    return Noop(wish.number, wish.text, wish.at)


class Creator:
    def __init__(self, client: "awa_pg.AsyncClient") -> None:
        self._client = client

    async def one(self, wish: Wish) -> None:
        if wish.key is None:
            await self._client.insert(_args(wish), queue="bench")
        else:
            await self._client.insert(_args(wish), queue="bench", unique_opts=UNIQUE)

    async def many(self, wishes: Sequence[Wish]) -> None:
        # A copy has one rule of uniqueness for all its jobs.
        plain, keyed = ([_args(wish) for wish in wishes if (wish.key is None) is plain] for plain in (True, False))
        await self._client.enqueue_many_copy(plain, queue="bench")
        await self._client.enqueue_many_copy(keyed, queue="bench", unique_opts=UNIQUE)


class Awa:
    batch = protocol.setting("BULK", 10_000)

    async def setup(self) -> None:
        async with _client() as client:
            await client.migrate()
            await client.install_queue_storage(schema="awa", reset=True)

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        async with _client() as client:
            yield Creator(client)

    def work(self) -> None:
        asyncio.run(_work())


async def _work() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with _client() as client:

        @client.task(Noop, queue="bench")
        async def noop(job: "awa_pg.Job[Noop]") -> None:
            protocol.arrived(job.args.at)

        await client.start([("bench", WORKERS)], poll_interval_ms=POLL_MILLISECONDS)
        await stopped.wait()
        await client.shutdown(timeout_ms=2_000)


@asynccontextmanager
async def _client() -> "AsyncIterator[awa_pg.AsyncClient]":
    # Its URL parser wants the user behind, where the host is the folder of a socket.
    url = re.sub(r"//([^@/]+)@/(.*)", r"///\2&user=\1", protocol.database_url())
    client = awa_pg.AsyncClient(url, max_connections=CONNECTIONS)
    try:
        yield client
    finally:
        await client.close()


if __name__ == "__main__":
    protocol.run(Awa())
