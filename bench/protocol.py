"""What a peer's script and the harness say to each other: a command, and one JSON line as its answer.

Runs in every peer's own environment, so it imports the standard library alone.
"""

import argparse
import asyncio
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from mmap import mmap
from pathlib import Path
from random import Random
from typing import Any, Protocol

BATCH = 1_000
"""Jobs in one call of a bulk create, unless the peer's documentation names another number."""

_WARM_UP = 20
_ANSWER_SECONDS = 10.0
_QUIET_SECONDS = (0.02, 0.06)


@dataclass(frozen=True, slots=True)
class Wish:
    """A job to create. `at` is when its create call began, for pickup alone; `key` is None for every second job."""

    number: int
    text: str
    key: str | None
    at: int = 0


class Creator(Protocol):
    async def one(self, wish: Wish) -> None: ...

    async def many(self, wishes: Sequence[Wish]) -> None: ...


class Peer(Protocol):
    """One job system. `batch` is how many jobs it gets in one call of `Creator.many`."""

    batch: int

    async def setup(self) -> None:
        """Make the schema in the database that the environment names."""

    async def clear(self) -> None:
        """Remove every job; only asked where the harness cannot bring a fresh database."""

    def creator(self) -> AbstractAsyncContextManager[Creator]:
        """Connect; the clock does not run yet."""

    def work(self) -> None:
        """Run jobs until SIGTERM, in this process."""

    def unfinished(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[bool]]]:
        """Give a question: is any job not finished? Only asked where the harness has no query for it."""


def database_url() -> str:
    return os.environ["BENCH_DATABASE_URL"]


def setting(name: str, default: int) -> int:
    """Return a number that this peer is set by; `--vary` of the harness gives another."""
    return int(os.environ.get(f"BENCH_SET_{name}", default))


STARTS = struct.Struct("=QQ")
"""What a worker process writes of its job functions: when the first one began, and how many have."""

SHORTEST_PAUSE = 0.02


def _arrival() -> Callable[[int], None]:
    """Return what a job function calls first, with the `at` of its wish."""
    if answers := os.environ.get("BENCH_ANSWERS"):
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        return lambda at: _tell(sender, answers, at)
    if mark := os.environ.get("BENCH_STARTS"):
        return _Starts(Path(mark))
    return lambda _: None


def _tell(sender: socket.socket, answers: str, at: int) -> None:
    now = time.monotonic_ns()
    sender.sendto(f"{at} {now}".encode(), answers)


class _Starts:
    """Writes down when the first job function of this process began and how many have begun since: two numbers."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark
        self._numbers = count(1)
        self._written: memoryview | None = None

    def __call__(self, _: int) -> None:
        written = self._written or self._open()
        number = next(self._numbers)
        if number == 1:
            written[0] = time.monotonic_ns()
        written[1] = number

    def _open(self) -> memoryview:
        # With the first job: a process that runs none must not write here.
        self._mark.write_bytes(bytes(STARTS.size))
        with self._mark.open("r+b") as file:
            self._written = memoryview(mmap(file.fileno(), STARTS.size)).cast("Q")
        return self._written


arrived = _arrival()


def wishes(count: int, *, size: int, keys: bool, start: int = 0) -> list[Wish]:
    """Return what to create: texts of `size` characters; with `keys`, every second one has a key of its own."""
    text = "x" * size
    return [
        Wish(number, text, f"key-{number}" if keys and number % 2 else None) for number in range(start, start + count)
    ]


def run(peer: Peer, *, loop: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run) -> None:
    """Carry out the command of this process's arguments, and print its answer.

    Args:
        loop: runs a coroutine, as `asyncio.run` does; for peers whose documentation names another event loop.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("setup", "clear", "worker", "watch"):
        commands.add_parser(name)
    for name in ("create-one", "create-bulk", "pickup"):
        command = commands.add_parser(name)
        command.add_argument("jobs", type=int)
        command.add_argument("--size", type=int, default=100, help="characters in a payload")
        command.add_argument("--keys", action="store_true", help="an idempotency key on every second job")
        command.add_argument("--start", type=int, default=0, help="number of the first job")
    asked = parser.parse_args()
    if asked.command == "worker":
        peer.work()
        return
    answer = loop(_answer(peer, asked))
    sys.stdout.write(json.dumps(answer) + "\n")


async def _answer(peer: Peer, asked: argparse.Namespace) -> dict[str, object]:
    match asked.command:
        case "setup":
            await peer.setup()
        case "clear":
            await peer.clear()
        case "watch":
            return await _watch(peer)
        case "create-one":
            return await _create_one(peer, _asked_wishes(asked))
        case "create-bulk":
            return await _create_bulk(peer, _asked_wishes(asked))
        case "pickup":
            return {"milliseconds": await _pickup(peer, asked.jobs)}
    return {}


def _asked_wishes(asked: argparse.Namespace) -> list[Wish]:
    return wishes(asked.jobs, size=asked.size, keys=asked.keys, start=asked.start)


async def _create_one(peer: Peer, wanted: list[Wish]) -> dict[str, object]:
    async with peer.creator() as creator:
        for wish in wishes(_WARM_UP, size=len(wanted[0].text), keys=False):
            await creator.one(wish)
        began = time.perf_counter()
        for wish in wanted:
            await creator.one(wish)
        return {"jobs": len(wanted), "seconds": time.perf_counter() - began}


async def _create_bulk(peer: Peer, wanted: list[Wish]) -> dict[str, object]:
    async with peer.creator() as creator:
        began = time.perf_counter()
        rest = iter(wanted)
        while batch := list(islice(rest, peer.batch)):
            await creator.many(batch)
        return {"jobs": len(wanted), "seconds": time.perf_counter() - began}


async def _watch(peer: Peer) -> dict[str, object]:
    async with peer.unfinished() as unfinished:
        while True:
            asked_at = time.monotonic_ns()
            if not await unfinished():
                return {"finished_at": asked_at}
            await asyncio.sleep(pause_after(asked_at))


def pause_after(asked_at: int, times: float = 10) -> float:
    """Return how long to wait before asking again: at least 20 ms, and so many times what the question took."""
    return max(SHORTEST_PAUSE, times * (time.monotonic_ns() - asked_at) / 1e9)


async def _pickup(peer: Peer, count: int) -> list[float]:
    """Create jobs one by one on an idle system; return how long each took to the first line of its function."""
    chance = Random(0)  # noqa: S311 - only so that polls are met at every phase
    with _answers() as receiver:
        async with peer.creator() as creator:
            found = []
            for number in range(-_WARM_UP, count):
                await asyncio.sleep(chance.uniform(*_QUIET_SECONDS))
                at = time.monotonic_ns()
                await creator.one(Wish(number, "x" * 100, None, at))
                created, started = await asyncio.to_thread(_receive, receiver)
                if created == at and number >= 0:
                    found.append((started - at) / 1e6)
            return found


def _receive(receiver: socket.socket) -> tuple[int, int]:
    created, started = receiver.recv(64).split()
    return int(created), int(started)


@contextmanager
def _answers() -> Iterator[socket.socket]:
    path = os.environ["BENCH_ANSWERS"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        receiver.settimeout(_ANSWER_SECONDS)
        yield receiver
