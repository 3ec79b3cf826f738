"""procrastinate, at the settings that peer.toml explains."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from procrastinate import App, PsycopgConnector

from bench import protocol
from bench.protocol import Wish

CONCURRENCY = protocol.setting("CONCURRENCY", 30)
CONNECTIONS = protocol.setting("CONNECTIONS", 20)
WORKERS = protocol.setting("WORKERS", 4)
DELETE = protocol.setting("DELETE", 0)
DELETED = ("never", "always")

app = App(connector=PsycopgConnector(conninfo=protocol.database_url(), min_size=4, max_size=CONNECTIONS))


@app.task(name="noop")
async def noop(number: int, text: str, at: int) -> None:
    protocol.arrived(at)


class Creator:
    async def one(self, wish: Wish) -> None:
        task = noop if wish.key is None else noop.configure(queueing_lock=wish.key)
        await task.defer_async(number=wish.number, text=wish.text, at=wish.at)

    async def many(self, wishes: Sequence[Wish]) -> None:
        # `Task.batch_defer` gives all its jobs one queueing lock; this is what it calls, with a lock for each.
        template = noop.configure()
        jobs = [
            template.make_new_job(number=wish.number, text=wish.text, at=wish.at).evolve(queueing_lock=wish.key)
            for wish in wishes
        ]
        await app.job_manager.batch_defer_jobs_async(jobs)


class Procrastinate:
    batch = protocol.setting("BULK", protocol.BATCH)

    async def setup(self) -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def creator(self) -> AsyncIterator[Creator]:
        async with app.open_async():
            yield Creator()

    def work(self) -> None:
        asyncio.run(_work())


async def _work() -> None:
    async with app.open_async():
        workers = [asyncio.create_task(_one_worker()) for _ in range(WORKERS)]
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: [worker.cancel() for worker in workers])
        await asyncio.gather(*workers, return_exceptions=True)


async def _one_worker() -> None:
    # Without its signal handlers: each worker would take them from the one before.
    await app.run_worker_async(concurrency=CONCURRENCY, delete_jobs=DELETED[DELETE], install_signal_handlers=False)


if __name__ == "__main__":
    protocol.run(Procrastinate())
