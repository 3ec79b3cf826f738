"""huey on SQLite, at the settings that peer.toml explains."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from logging import WARNING, getLogger

from huey import SqliteHuey

from bench import protocol
from bench.protocol import Wish

huey = SqliteHuey(
    filename=protocol.database_url().removeprefix("sqlite:///"),
    fsync=True,
    journal_mode="wal",
    cache_mb=64,
    results=False,
    utc=True,
)
getLogger("huey").setLevel(WARNING)


@huey.task(name="noop")
def noop(number: int, text: str, at: int) -> None:
    protocol.arrived(at)


class Creator:
    async def one(self, wish: Wish) -> None:
        noop(wish.number, wish.text, wish.at)

    async def many(self, wishes: Sequence[Wish]) -> None:
        for wish in wishes:
            noop(wish.number, wish.text, wish.at)


class Huey:
    batch = protocol.BATCH

    async def setup(self) -> None:
        """The storage makes its tables when it is opened, at import."""

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        yield Creator()

    def work(self) -> None:
        consumer = huey.create_consumer(workers=1, periodic=False, initial_delay=0.001, max_delay=0.01)
        consumer.run()


if __name__ == "__main__":
    protocol.run(Huey())
