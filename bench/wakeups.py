"""What wake-ups cost creators: commits a second of many writers on PostgreSQL, with wake-ups on and off, in turns.

python -m bench.wakeups                 8 processes; --help names the options

Each writer is a process that creates one job in each commit. One more process listens in both cases. It runs no jobs:
what a worker does with a wake-up is its own cost.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path
from uuid import UUID

import psycopg2
from attrs import evolve, frozen

from heimdex import Tenant
from heimdex.adapters.sql_store import SqlStore
from heimdex.adapters.wakeups import LocalWakeups
from heimdex.bootstrap import Application, bootstrap, embedded_postgres
from heimdex.config import Settings

TENANT = Tenant(UUID(int=1), actor="bench")
_SPAWN = multiprocessing.get_context("spawn")
_START_SECONDS = 60.0


@frozen(kw_only=True)
class Turn:
    """One run of all writers: commits a second, notifications a second, seconds of processor time a commit."""

    wakeups: bool
    commits: float
    notifications: float
    seconds: float


class Writer:
    """A process that creates one job in each commit when it is asked to, with wake-ups or without."""

    def __init__(self, url: str) -> None:
        self._pipe, other = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(url, other), daemon=True)
        self._process.start()

    def wait_until_ready(self) -> None:
        assert self._pipe.poll(_START_SECONDS)
        self._pipe.recv()

    def start(self, wakeups: bool, seconds: float) -> None:  # noqa: FBT001 - what is measured
        self._pipe.send((wakeups, seconds))

    def result(self) -> tuple[int, float]:
        """Return how many commits there were, and the seconds of processor time that they took here."""
        count, used = self._pipe.recv()
        return int(count), float(used)

    def end(self) -> None:
        self._pipe.send(None)
        self._process.join()


def _serve(url: str, pipe: "Connection[object, tuple[bool, float] | None]") -> None:
    settings = Settings(database_url=url)
    with bootstrap(settings) as telling, _without_wakeups(bootstrap(settings)) as silent:
        for app in (telling, silent):
            _create(app)
        pipe.send(None)
        while (asked := pipe.recv()) is not None:
            wakeups, seconds = asked
            app = telling if wakeups else silent
            began, end, count = time.process_time(), time.monotonic() + seconds, 0
            while time.monotonic() < end:
                _create(app)
                count += 1
            pipe.send((count, time.process_time() - began))


def _turn(writers: Sequence[Writer], url: str, seconds: float, *, wakeups: bool) -> Turn:
    with _counted_notifications(url) as heard:
        for writer in writers:
            writer.start(wakeups, seconds)
        found = [writer.result() for writer in writers]
    commits = sum(count for count, _ in found)
    return Turn(
        wakeups=wakeups,
        commits=commits / seconds,
        notifications=len(heard) / seconds,
        seconds=sum(used for _, used in found) / commits,
    )


def _without_wakeups(app: Application) -> Application:
    """Return the same application with units of work that wake nobody but this process."""
    store = app.store
    assert isinstance(store, SqlStore)
    local = LocalWakeups()
    vars(store)["_wakeups"] = local
    return evolve(app, wakeups=local)


def _create(app: Application) -> None:
    with app.unit_of_work(TENANT) as uow:
        uow.jobs.create("noop", {"text": "x" * 100})


def _listen(url: str, ready: Event, done: Event) -> None:
    with bootstrap(Settings(database_url=url)) as app:
        unsubscribe = app.wakeups.subscribe(ready.set)
        done.wait()
        unsubscribe()


@contextmanager
def listener(url: str) -> Iterator[None]:
    """Keep a process that listens, as a worker does."""
    ready, done = _SPAWN.Event(), _SPAWN.Event()
    process = _SPAWN.Process(target=_listen, args=(url, ready, done), daemon=True)
    process.start()
    ready.wait(_START_SECONDS)
    yield
    done.set()
    process.join()


@contextmanager
def _counted_notifications(url: str) -> Iterator[list[object]]:
    """Give a list that holds, after the block, the notifications that were sent within it."""
    heard: list[object] = []
    connection = psycopg2.connect(url.replace("+psycopg2", ""))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("LISTEN heimdex_public")
        yield heard
        cursor.execute("SELECT 1")
    heard += connection.notifies
    connection.close()


def measure(writers: Sequence[Writer], url: str, rounds: int, seconds: float) -> Iterator[tuple[Turn, Turn]]:
    """Yield a turn with wake-ups and one without, of each round; which comes first takes turns."""
    for number in range(rounds):
        first = _turn(writers, url, seconds, wakeups=number % 2 == 0)
        second = _turn(writers, url, seconds, wakeups=number % 2 != 0)
        yield (first, second) if first.wakeups else (second, first)


def report(pairs: Sequence[tuple[Turn, Turn]], said: dict[str, object]) -> dict[str, object]:
    """Return what was measured, fit for JSON: medians, and the median of the rounds' ratios with its extremes."""
    ratios = sorted(on.commits / off.commits for on, off in pairs)
    return said | {
        "ratio": statistics.median(ratios),
        "ratio of the worst and the best round": [ratios[0], ratios[-1]],
        "on": _medians([on for on, _ in pairs]),
        "off": _medians([off for _, off in pairs]),
    }


def _medians(turns: Sequence[Turn]) -> dict[str, float]:
    return {
        "commits a second": statistics.median(turn.commits for turn in turns),
        "notifications a second": statistics.median(turn.notifications for turn in turns),
        "processor microseconds a commit": statistics.median(turn.seconds for turn in turns) * 1e6,
    }


@contextmanager
def _writers(url: str, number: int) -> Iterator[Sequence[Writer]]:
    writers = [Writer(url) for _ in range(number)]
    for writer in writers:
        writer.wait_until_ready()
    yield writers
    for writer in writers:
        writer.end()


@contextmanager
def _database(asked: str | None) -> Iterator[str]:
    if asked is not None:
        yield asked
        return
    with embedded_postgres() as (url, _):
        yield url


def main() -> int:
    asked = _arguments()
    said = {"writers": asked.writers, "seconds": asked.seconds, "rounds": asked.rounds}
    with _database(asked.postgres) as url:
        with bootstrap(Settings(database_url=url)) as app:
            app.schema.upgrade()
        pairs = []
        _say("commits a second: on, off, ratio; notifications a second")
        with listener(url), _writers(url, asked.writers) as writers:
            for on, off in measure(writers, url, asked.rounds, asked.seconds):
                pairs.append((on, off))
                ratio = on.commits / off.commits
                _say(f"{on.commits:10,.0f} {off.commits:10,.0f} {ratio:10.3f} {on.notifications:10,.0f}")
    found = report(pairs, said | {"processors": os.cpu_count()})
    _say(json.dumps(found, indent=2))
    if asked.json is not None:
        asked.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.wakeups", description=__doc__)
    parser.add_argument("--writers", type=int, default=8, help="processes")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2, help="of each turn")
    parser.add_argument("--postgres", metavar="URL", help="an empty database; none: a server from a wheel")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
