"""celery on Redis, at the settings that peer.toml explains."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import redis
from celery import Celery

from bench import protocol
from bench.protocol import Wish

app = Celery("bench", broker=protocol.database_url())
app.conf.update(
    task_ignore_result=True,
    worker_prefetch_multiplier=protocol.setting("PREFETCH", 128),
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="noop")
def noop(number: int, text: str, at: int) -> None:
    protocol.arrived(at)


class Creator:
    def __init__(self, producer: object) -> None:
        self._producer = producer

    async def one(self, wish: Wish) -> None:
        noop.apply_async((wish.number, wish.text, wish.at), producer=self._producer)

    async def many(self, wishes: Sequence[Wish]) -> None:
        for wish in wishes:
            noop.apply_async((wish.number, wish.text, wish.at), producer=self._producer)


class CeleryPeer:
    batch = protocol.BATCH

    async def setup(self) -> None:
        """Redis has no schema."""

    async def clear(self) -> None:
        redis.Redis.from_url(protocol.database_url()).flushdb()

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        with app.producer_pool.acquire(block=True) as producer:
            yield Creator(producer)

    def work(self) -> None:
        app.worker_main(
            ["worker", "--pool=solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"]
        )

    @asynccontextmanager
    async def unfinished(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        client = redis.Redis.from_url(protocol.database_url())

        async def ask() -> bool:
            return bool(client.llen("celery") or client.hlen("unacked"))

        yield ask


if __name__ == "__main__":
    protocol.run(CeleryPeer())
