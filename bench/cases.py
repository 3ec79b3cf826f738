"""The cases: what is done to a peer in one round, and what is measured of it."""

import time
from collections.abc import Callable, Mapping
from typing import TypeAlias, cast

from attrs import define, field, frozen

from bench.catalogue import Peer
from bench.figures import percentile
from bench.places import Places, PostgresPlace, RedisPlace, SqlitePlace
from bench.processes import PeerFailed, Runner, Workers
from bench.protocol import SHORTEST_PAUSE, pause_after

Place: TypeAlias = PostgresPlace | SqlitePlace | RedisPlace

SNAPSHOT_ROUNDS = 10
_LARGE = 10 * 1_024
_SMALL = 100
_MEBIBYTE = 1_024 * 1_024


@frozen(kw_only=True)
class Metric:
    name: str
    unit: str
    more_is_better: bool = True


RATE = Metric(name="rate", unit="jobs a second")


@frozen(kw_only=True)
class Case:
    """One row of the table.

    Args:
        measure: does it with so many jobs, and returns a value for each metric.
        sized_by: the metric that tells how many jobs fill the seconds of a run.
        sized_as: an earlier case that found out how many jobs a second; this one then needs no warm-up of its own.
        most_rounds: for what takes long and varies little; None is as many as asked for.
        share: of our seconds of a run that it gets; a case in parts has a part of them for each.
        peer_share: the same of a peer's seconds.
    """

    name: str
    title: str
    measure: "Callable[[Bench, Peer, int], Mapping[str, float]]"
    metrics: tuple[Metric, ...] = (RATE,)
    stores: frozenset[str] = frozenset({"postgres", "redis"})
    walled: bool = False
    sized_by: str | None = "rate"
    first_jobs: int = 2_000
    sized_as: str | None = None
    most_rounds: int | None = None
    share: float = 1.0
    peer_share: float = 1.0

    def takes(self, peer: Peer) -> bool:
        """Return whether a peer takes part."""
        wall = "BENCH_WALLED" in peer.extra
        wanted = self.name not in peer.without and (peer.only is None or self.name in peer.only)
        return peer.store in self.stores and wanted and (self.walled or not wall)


@define
class Bench:
    """What the cases work with."""

    places: Places
    runner: Runner
    pickups: int
    samples: dict[tuple[str, str], list[float]] = field(factory=dict)

    def create(self, peer: Peer, place: Place, command: str, jobs: int, *options: str) -> float:
        """Let a peer create jobs, and return how many a second."""
        answer = self.runner.ask(peer, place.url, command, str(jobs), *options)
        return cast("float", answer["jobs"]) / cast("float", answer["seconds"])

    def drain(
        self,
        peer: Peer,
        place: Place,
        jobs: int,
        workers: int,
        look: Callable[[Workers], None] = lambda _: None,
        *,
        before: int = 0,
    ) -> float:
        """Let workers finish the jobs that are there, and return how many a second.

        The clock runs from the first line of the first job function until the database shows no job unfinished.

        Args:
            look: called between two looks at the database, and once when all is finished.
            before: how many other jobs have been finished in this place.
        """
        with self.runner.workers(peer, place.url, workers) as running:
            finished_at = self._finished_at(peer, place, jobs, running, look, before=before)
            begun_at = running.first_start()
            look(running)
        if begun_at is None:
            raise PeerFailed(f"{peer.name}: all {jobs} jobs are finished and none has begun")
        return jobs / ((finished_at - begun_at) / 1e9)

    def _finished_at(
        self, peer: Peer, place: Place, jobs: int, running: Workers, look: Callable[[Workers], None], *, before: int
    ) -> int:
        deadline = time.monotonic() + self.runner.longest
        while time.monotonic() < deadline:
            asked_at = time.monotonic_ns()
            unfinished = place.unfinished(before + jobs)
            if unfinished is None:
                return cast("int", self.runner.ask(peer, place.url, "watch")["finished_at"])
            if not unfinished:
                return asked_at
            _pause(asked_at, lambda: running.begun() >= jobs)
            running.check()
            look(running)
        raise PeerFailed(
            f"{peer.name}: {jobs} jobs not finished after {self.runner.longest:.0f} s: {self.runner.log_tail()}"
        )


def _pause(asked_at: int, all_begun: Callable[[], bool]) -> None:
    """Wait until it is worth asking again: seldom while jobs are still to begin, and soon when the last one has."""
    seldom, soon = (time.monotonic() + pause_after(asked_at, times) for times in (10, 1))
    while (now := time.monotonic()) < seldom and not (now >= soon and all_begun()):
        time.sleep(SHORTEST_PAUSE)


def _create_one(bench: Bench, peer: Peer, jobs: int) -> dict[str, float]:
    with bench.places.fresh(peer, bench.runner) as place:
        return {"rate": bench.create(peer, place, "create-one", jobs, "--keys")}


def _create_bulk(bench: Bench, peer: Peer, jobs: int) -> dict[str, float]:
    with bench.places.fresh(peer, bench.runner) as place:
        return {"rate": bench.create(peer, place, "create-bulk", jobs, "--keys")}


def _drain(workers: int) -> Callable[[Bench, Peer, int], dict[str, float]]:
    def measure(bench: Bench, peer: Peer, jobs: int) -> dict[str, float]:
        with bench.places.fresh(peer, bench.runner) as place:
            bench.create(peer, place, "create-bulk", jobs)
            place.settle()
            return {"rate": bench.drain(peer, place, jobs, workers)}

    return measure


def _large_payloads(bench: Bench, peer: Peer, jobs: int) -> dict[str, float]:
    with bench.places.fresh(peer, bench.runner) as place:
        created = bench.create(peer, place, "create-bulk", jobs, "--size", str(_LARGE))
        place.settle()
        drained = bench.drain(peer, place, jobs, 1)
        # Both together: what one job costs from one end to the other.
        return {"created": created, "drained": drained, "rate": 1 / (1 / created + 1 / drained)}


def _memory(bench: Bench, peer: Peer, jobs: int) -> dict[str, float]:
    seen: list[int] = []
    with bench.places.fresh(peer, bench.runner) as place:
        bench.create(peer, place, "create-bulk", jobs)
        place.settle()
        if place.unfinished(jobs) is None:  # nobody looks in between
            with bench.runner.workers(peer, place.url, 1) as running:
                bench.runner.ask(peer, place.url, "watch")
                return {"memory": running.memory() / _MEBIBYTE, "rate": 1.0}
        rate = bench.drain(peer, place, jobs, 1, lambda running: seen.append(running.memory()))
    return {"memory": max(seen) / _MEBIBYTE, "rate": rate}


def _pickup(bench: Bench, peer: Peer, _: int) -> dict[str, float]:
    answers = bench.runner.folder / "answers"
    answers.unlink(missing_ok=True)
    variables = {"BENCH_ANSWERS": str(answers)}
    with (
        bench.places.fresh(peer, bench.runner) as place,
        bench.runner.workers(peer, place.url, 1, **variables) as running,
    ):
        answer = bench.runner.ask(peer, place.url, "pickup", str(bench.pickups), **variables)
        running.check()
    samples = cast("list[float]", answer["milliseconds"])
    bench.samples.setdefault(("pickup", peer.name), []).extend(samples)
    return {"p50": percentile(samples, 50), "p99": percentile(samples, 99)}


def _held_snapshot(bench: Bench, peer: Peer, jobs: int) -> dict[str, float]:
    with bench.places.fresh(peer, bench.runner) as place:
        assert isinstance(place, PostgresPlace)
        place.hold_snapshot()
        rates = []
        for number in range(SNAPSHOT_ROUNDS):
            bench.create(peer, place, "create-bulk", jobs, "--start", str(number * jobs))
            place.analyze()
            rates.append(bench.drain(peer, place, jobs, 1, before=number * jobs))
    bench.samples.setdefault(("held-snapshot", peer.name), []).extend(rates)
    return {"first": rates[0], "last": rates[-1], "kept": rates[-1] / rates[0]}


_POSTGRES, _SQLITE = frozenset({"postgres"}), frozenset({"sqlite"})
_MILLISECONDS = "milliseconds"

CASES = (
    Case(
        name="create-one",
        title="create one at a time, a key on every second job",
        measure=_create_one,
        walled=True,
        first_jobs=200,
    ),
    Case(name="create-bulk", title="bulk create, half with keys", measure=_create_bulk, first_jobs=5_000),
    Case(name="drain-1", title="drain, one worker process", measure=_drain(1)),
    Case(
        name="drain-2",
        title="drain, two worker processes",
        measure=_drain(2),
        stores=_POSTGRES,
        sized_as="drain-1",
    ),
    Case(
        name="pickup",
        title="pickup on an idle system, from before the create call to the function's first line",
        measure=_pickup,
        metrics=(
            Metric(name="p50", unit=_MILLISECONDS, more_is_better=False),
            Metric(name="p99", unit=_MILLISECONDS, more_is_better=False),
        ),
        sized_by=None,
    ),
    Case(
        name="held-snapshot",
        title=f"{SNAPSHOT_ROUNDS} rounds of create and drain under one held snapshot",
        measure=_held_snapshot,
        metrics=(
            Metric(name="last", unit="jobs a second, last round"),
            Metric(name="first", unit="jobs a second, first round"),
            Metric(name="kept", unit="last by first"),
        ),
        stores=_POSTGRES,
        sized_by="first",
        sized_as="drain-1",
        first_jobs=1_000,
        most_rounds=3,
        share=0.2,
        peer_share=0.3,
    ),
    Case(
        name="large-payloads",
        title="payloads of 10 KiB, bulk create and drain",
        measure=_large_payloads,
        metrics=(
            RATE,
            Metric(name="created", unit="jobs a second, created"),
            Metric(name="drained", unit="jobs a second, drained"),
        ),
        stores=_POSTGRES,
        first_jobs=500,
        most_rounds=5,
        share=0.5,
    ),
    Case(
        name="memory",
        title="memory of the process tree of a draining worker",
        measure=_memory,
        metrics=(Metric(name="memory", unit="MiB, proportional set size", more_is_better=False),),
        sized_as="drain-1",
        most_rounds=3,
        share=0.3,
        peer_share=0.5,
    ),
    Case(
        name="sqlite-create-one",
        title="SQLite: create one at a time",
        measure=_create_one,
        stores=_SQLITE,
        first_jobs=100,
        most_rounds=5,
        share=0.5,
    ),
    Case(
        name="sqlite-create-bulk",
        title="SQLite: bulk create",
        measure=_create_bulk,
        stores=_SQLITE,
        first_jobs=200,
        most_rounds=5,
        share=0.5,
    ),
    Case(
        name="sqlite-drain",
        title="SQLite: drain, one process",
        measure=_drain(1),
        stores=_SQLITE,
        first_jobs=200,
        most_rounds=5,
        share=0.5,
    ),
)
