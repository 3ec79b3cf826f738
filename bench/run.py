"""Measure Heimdex beside its peers, in turns, on one machine: `make bench`, or python -m bench.run --help."""

import argparse
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import psycopg2
from attrs import define, field, frozen
from rich.console import Console

from bench.cases import CASES, RATE, Bench, Case
from bench.catalogue import ROOT, CannotInstall, Peer, catalogue, install, varied
from bench.figures import order_of
from bench.pictures import draw
from bench.places import Places, open_places
from bench.processes import PeerFailed, Runner
from bench.report import page, print_case, write_markdown
from bench.results import Failure, Measured, Outcome, read_json, write_json

RESULTS = ROOT / "bench" / "results"
SELDOM = 3
"""Who is far behind runs in one round of so many."""
# What a peer does to its own database may fail there, too.
_FAILURES = (PeerFailed, psycopg2.Error, sqlite3.Error)
_LEAST_JOBS = 20
_SECOND_LOOK_SECONDS = 0.7


@frozen(kw_only=True)
class Effort:
    """How long a run takes: about `seconds` for us, half of them for the floor, `peer_seconds` for each peer.

    Args:
        sized: whether a run is tried first, to find how many jobs fill it; else every peer gets the same few.
    """

    rounds: int
    seconds: float
    peer_seconds: float
    pickups: int
    most_jobs: int
    sized: bool = True

    def seconds_of(self, peer: Peer, case: Case) -> float:
        if peer.is_ours:
            return case.share * self.seconds
        return case.share * self.seconds / 2 if peer.is_floor else case.peer_share * self.peer_seconds


FULL = Effort(rounds=7, seconds=10, peer_seconds=2, pickups=50, most_jobs=1_000_000)
QUICK = Effort(rounds=1, seconds=0.3, peer_seconds=0.3, pickups=20, most_jobs=1_000, sized=False)


@define
class Run:
    """The cases, one after the other, and what is known on the way: `rates` are those of the trials before a case."""

    bench: Bench
    effort: Effort
    outcome: Outcome
    rates: dict[tuple[str, str], float] = field(factory=dict)

    def measure(self, case: Case, peers: Sequence[Peer]) -> None:
        """Measure a case in turns. What was known of it is forgotten, and a peer that fails is left out."""
        self.outcome.forget(case.name)
        began = time.monotonic()
        sizes: dict[str, int] = {}
        for peer in peers:
            try:
                sizes[peer.name] = self._size(case, peer)
            except _FAILURES as error:
                self._failed(case, peer, error)
        running = {peer.name: peer for peer in peers if peer.name in sizes}
        seldom = self._seldom(case, list(running.values()))
        rounds = min(self.effort.rounds, case.most_rounds or self.effort.rounds)
        for number in range(rounds):
            for name in order_of(list(running), number) if running else []:
                if name not in running or (number % SELDOM and name in seldom):
                    continue
                try:
                    self._one(case, running[name], number, sizes[name])
                except _FAILURES as error:
                    self._failed(case, running.pop(name), error)
                    self.outcome.forget(case.name, name)
        self.outcome.seconds[case.name] = time.monotonic() - began
        self.outcome.samples.update({f"{name}, {peer}": found for (name, peer), found in self.bench.samples.items()})
        self.bench.samples.clear()

    def _one(self, case: Case, peer: Peer, number: int, jobs: int) -> None:
        began = time.monotonic()
        values = case.measure(self.bench, peer, jobs)
        self.outcome.measured.extend(
            Measured(
                case=case.name, peer=peer.name, round=number, metric=metric.name, value=values[metric.name], jobs=jobs
            )
            for metric in case.metrics
        )
        found = ", ".join(f"{metric.name} {values[metric.name]:,.2f}" for metric in case.metrics)
        took = time.monotonic() - began
        _say(f"{case.name} {number + 1} {peer.name}: {found} ({jobs:,} jobs, {took:.1f} s)")

    def _size(self, case: Case, peer: Peer) -> int:
        """Return how many jobs fill a run of this peer. What is tried for it is the warm-up: it is not counted."""
        if case.sized_by is None:
            return self.effort.pickups  # which warm up by themselves
        jobs = min(case.first_jobs, self.effort.most_jobs)
        if not self.effort.sized:
            return jobs
        rate = None if case.sized_as is None else self._known_rate(case.sized_as, peer)
        if rate is None:
            values = case.measure(self.bench, peer, jobs)
            self.bench.samples.clear()  # nothing else is in there before the rounds of a case
            rate = values[case.sized_by]
            # With few jobs the start of a worker is most of it.
            if case.sized_as is None and jobs / rate < _SECOND_LOOK_SECONDS < self.effort.seconds_of(peer, case):
                jobs = min(int(rate * _SECOND_LOOK_SECONDS), self.effort.most_jobs)
                rate = case.measure(self.bench, peer, jobs)[case.sized_by]
        self.rates[case.name, peer.name] = rate
        return max(_LEAST_JOBS, min(int(rate * self.effort.seconds_of(peer, case)), self.effort.most_jobs))

    def _known_rate(self, case: str, peer: Peer) -> float | None:
        """Return the rate of an earlier case: of its trial or, where --resume has it, of its rounds."""
        found = self.outcome.values(case, peer.name, RATE.name)
        return self.rates.get((case, peer.name)) or (median(found) if found else None)

    def _seldom(self, case: Case, peers: Sequence[Peer]) -> set[str]:
        """Return who runs in every third round only: who cannot be the best peer whose jobs are where ours are."""
        rates = {peer.name: self.rates.get((case.name, peer.name), 0.0) for peer in peers}
        best = max((rates[peer.name] for peer in peers if _is_rival(peer)), default=0.0)
        return {
            peer.name
            for peer in peers
            if not (peer.is_ours or peer.is_floor) and (peer.store == "redis" or rates[peer.name] < best / 2)
        }

    def _failed(self, case: Case, peer: Peer, error: Exception) -> None:
        _say(f"{case.name} {peer.name}: failed: {_last_line(error)}")
        self.outcome.failures.append(Failure(case=case.name, peer=peer.name, why=str(error)))


def main() -> int:
    asked = _arguments()
    # Python ends at once on SIGTERM otherwise, and leaves workers and databases behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    peers = catalogue()
    if asked.page is not None:
        asked.page.write_text(page(peers, read_json(asked.results)), encoding="utf-8")
        return 0
    effort = _effort(asked)
    chosen = [peer for peer in peers if not asked.peer or peer.name in asked.peer or peer.folder in asked.peer]
    chosen = varied(chosen, asked.vary or ())
    with (
        tempfile.TemporaryDirectory() as folder,
        open_places(asked.postgres, with_redis=any(peer.store == "redis" for peer in chosen)) as places,
    ):
        outcome = _outcome(asked, _machine(places, effort), chosen)
        run = Run(Bench(places, Runner(Path(folder), asked.longest), effort.pickups), effort, outcome)
        usable = _installed(chosen, places, outcome)
        # A case that was named is measured anew; one that was not, only if nothing is known of it.
        for case in [
            case for case in CASES if case.name in (asked.case or ()) or not (asked.case or outcome.peers(case.name))
        ]:
            run.measure(case, [peer for peer in usable if case.takes(peer)])
            write_json(outcome, asked.results)
            print_case(outcome, case, Console())
    _write(outcome, asked.results)
    return 1 if outcome.failures else 0


def _effort(asked: argparse.Namespace) -> Effort:
    standard = QUICK if asked.quick else FULL
    return Effort(
        rounds=asked.rounds or standard.rounds,
        seconds=asked.seconds or standard.seconds,
        peer_seconds=asked.peer_seconds or standard.peer_seconds,
        pickups=asked.pickups or standard.pickups,
        most_jobs=asked.jobs or standard.most_jobs,
        sized=standard.sized,
    )


def _outcome(asked: argparse.Namespace, machine: Mapping[str, str], peers: Sequence[Peer]) -> Outcome:
    """Return what to add to: nothing yet or, with --resume, what is in the folder and was made in the same way."""
    stores = {peer.name: peer.store for peer in peers}
    earlier = read_json(asked.results) if asked.resume else None
    if earlier is None:
        return Outcome(machine=machine, stores=stores)
    if different := sorted(
        name for name in {*machine, *earlier.machine} if machine.get(name) != earlier.machine.get(name)
    ):
        sys.exit(f"{asked.results} was made otherwise: {', '.join(different)}")
    earlier.stores.update(stores)
    earlier.failures[:] = [one for one in earlier.failures if one.case != "install"]
    return earlier


def _write(outcome: Outcome, folder: Path) -> None:
    write_markdown(outcome, folder)
    try:
        draw(outcome, folder)
    except (CannotInstall, subprocess.SubprocessError) as error:
        _say(f"no pictures: {error}")
    took = ", ".join(f"{case} {seconds:.0f} s" for case, seconds in outcome.seconds.items())
    _say(f"written to {folder}; {sum(outcome.seconds.values()) / 60:.0f} minutes: {took}")


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def _is_rival(peer: Peer) -> bool:
    return not (peer.is_ours or peer.is_floor) and peer.store != "redis"


def _installed(peers: Sequence[Peer], places: Places, outcome: Outcome) -> list[Peer]:
    usable = []
    for peer in peers:
        try:
            if peer.store == "redis" and places.redis_url is None:
                raise CannotInstall("the program redis-server is not installed")  # noqa: TRY301 - as pip's refusal
            install(peer)
            usable.append(peer)
        except CannotInstall as error:
            _say(f"{peer.name}: left out: {error}")
            outcome.failures.append(Failure(case="install", peer=peer.name, why=str(error)))
    return usable


def _machine(places: Places, effort: Effort) -> dict[str, str]:
    connection = psycopg2.connect(places.postgres_url)
    with connection, connection.cursor() as cursor:
        said = {}
        for name in ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"):
            cursor.execute(f"SHOW {name}")
            said[f"PostgreSQL {name}"] = str((cursor.fetchone() or [""])[0])
    connection.close()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, {platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **said,
        "rounds": str(effort.rounds),
        "seconds of a run": f"{effort.seconds:g} for heimdex, half for the floor, {effort.peer_seconds:g} for a peer",
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="only this; repeat it")
    parser.add_argument("--peer", action="append", metavar="NAME", help="only this, by name or folder; repeat it")
    parser.add_argument(
        "--vary", action="append", metavar="FOLDER:NAME=1,2", help="a peer also with other settings; repeat it"
    )
    parser.add_argument("--quick", action="store_true", help="one short round of everything: whether it works")
    parser.add_argument("--rounds", type=int, metavar="N")
    parser.add_argument("--seconds", type=float, help="of a run of heimdex and of the floor")
    parser.add_argument("--peer-seconds", type=float, help="of a run of a peer")
    parser.add_argument("--pickups", type=int, metavar="N", help="jobs in a round of the case pickup")
    parser.add_argument("--jobs", type=int, metavar="N", help="at most so many in a run")
    parser.add_argument("--longest", type=float, default=180, help="seconds after which a run has failed")
    parser.add_argument("--postgres", metavar="URL", help="a server to make databases on; none: one from a wheel")
    parser.add_argument(
        "--resume", action="store_true", help="keep what is in the folder of --results, and do the cases that are not"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="only write the page that says what each peer records"
    )
    return parser.parse_args()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
