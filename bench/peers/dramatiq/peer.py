"""dramatiq on Redis, at the settings that peer.toml explains."""

import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from bench import protocol
from bench.protocol import Wish

# Read when it is imported.
os.environ["dramatiq_queue_prefetch"] = str(protocol.setting("PREFETCH", 1_000))  # noqa: SIM112 - as dramatiq spells it

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

THREADS = protocol.setting("THREADS", 8)
QUEUE = "default"

broker = RedisBroker(url=protocol.database_url(), heartbeat_timeout=60_000)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def noop(number: int, text: str, at: int) -> None:
    protocol.arrived(at)


class Creator:
    async def one(self, wish: Wish) -> None:
        noop.send(wish.number, wish.text, wish.at)

    async def many(self, wishes: Sequence[Wish]) -> None:
        for wish in wishes:
            noop.send(wish.number, wish.text, wish.at)


class Dramatiq:
    batch = protocol.BATCH

    async def setup(self) -> None:
        """Redis has no schema."""

    async def clear(self) -> None:
        redis.Redis.from_url(protocol.database_url()).flushdb()

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        yield Creator()

    def work(self) -> None:
        stopped = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
        worker = dramatiq.Worker(broker, worker_threads=THREADS)
        worker.start()
        stopped.wait()
        worker.stop(timeout=2_000)

    @asynccontextmanager
    async def unfinished(self) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
        client = redis.Redis.from_url(protocol.database_url())

        async def ask() -> bool:
            # A message that was not acknowledged is in the hash, waiting or running.
            return bool(client.hlen(f"dramatiq:{QUEUE}.msgs"))

        yield ask


if __name__ == "__main__":
    protocol.run(Dramatiq())
