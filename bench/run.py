"""Measure Heimdex beside its peers, in turns, on one machine: `make bench`, or python -m bench.run --help."""

import argparse
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg2
from attrs import frozen

from bench.cases import CASES, Bench, Case
from bench.catalogue import ROOT, CannotInstall, Peer, catalogue, install, varied
from bench.figures import order_of
from bench.places import Places, open_places
from bench.processes import PeerFailed, Runner
from bench.report import Measured, Outcome, page, write

RESULTS = ROOT / "bench" / "results"
_LEAST_JOBS = 20
_SECOND_LOOK_SECONDS = 0.7


@frozen(kw_only=True)
class Effort:
    """How long a run takes: about `seconds` for us and the floor, `peer_seconds` for each peer.

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
        return case.share * (self.seconds if peer.is_ours or peer.is_floor else self.peer_seconds)


FULL = Effort(rounds=7, seconds=12, peer_seconds=3, pickups=100, most_jobs=1_000_000)
QUICK = Effort(rounds=1, seconds=0.3, peer_seconds=0.3, pickups=20, most_jobs=1_000, sized=False)


def main() -> int:
    asked = _arguments()
    # Python ends at once on SIGTERM otherwise, and leaves workers and databases behind.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    peers = catalogue()
    if asked.page is not None:
        asked.page.write_text(page(peers), encoding="utf-8")
        return 0
    standard = QUICK if asked.quick else FULL
    effort = Effort(
        rounds=asked.rounds or standard.rounds,
        seconds=asked.seconds or standard.seconds,
        peer_seconds=asked.peer_seconds or standard.peer_seconds,
        pickups=asked.pickups or standard.pickups,
        most_jobs=asked.jobs or standard.most_jobs,
        sized=standard.sized,
    )
    chosen = [peer for peer in peers if not asked.peer or peer.name in asked.peer or peer.folder in asked.peer]
    chosen = varied(chosen, asked.vary or ())
    cases = [case for case in CASES if not asked.case or case.name in asked.case]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_places(asked.postgres, with_redis=any(peer.store == "redis" for peer in chosen)) as places,
    ):
        outcome = Outcome(machine=_machine(places, effort), stores={peer.name: peer.store for peer in chosen})
        bench = Bench(places, Runner(Path(folder), asked.longest), effort.pickups)
        usable = _installed(chosen, places, outcome)
        for case in cases:
            _run_case(bench, case, [peer for peer in usable if case.takes(peer)], effort, outcome)
            outcome.samples.update({f"{name}, {peer}": found for (name, peer), found in bench.samples.items()})
            bench.samples.clear()
            write(outcome, asked.results)
    _say(f"written to {asked.results}")
    return 1 if outcome.failures else 0


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
            outcome.failures.append(("install", peer.name, str(error)))
    return usable


def _run_case(bench: Bench, case: Case, peers: Sequence[Peer], effort: Effort, outcome: Outcome) -> None:
    sizes = {}
    for peer in peers:
        try:
            sizes[peer.name] = _size(bench, case, peer, effort)
        except PeerFailed as error:
            _failed(case, peer, error, outcome)
    running = {peer.name: peer for peer in peers if peer.name in sizes}
    rounds = min(effort.rounds, case.most_rounds or effort.rounds)
    for number in range(rounds):
        for name in order_of(list(running), number) if running else []:
            if name not in running:
                continue
            try:
                values = case.measure(bench, running[name], sizes[name])
            except PeerFailed as error:
                # Without this round its ratios would be of other rounds than ours.
                _failed(case, running.pop(name), error, outcome)
                outcome.measured[:] = [one for one in outcome.measured if (one.case, one.peer) != (case.name, name)]
                continue
            for metric in case.metrics:
                value = values[metric.name]
                outcome.measured.append(
                    Measured(case=case.name, peer=name, round=number, metric=metric.name, value=value, jobs=sizes[name])
                )
            said = ", ".join(f"{metric.name} {values[metric.name]:,.2f}" for metric in case.metrics)
            _say(f"{case.name} {number + 1}/{rounds} {name}: {said} ({sizes[name]:,} jobs)")


def _size(bench: Bench, case: Case, peer: Peer, effort: Effort) -> int:
    """Return how many jobs fill a run of this peer. What is tried for it is the warm-up: it is not counted."""
    jobs = effort.pickups if case.sized_by is None else min(case.first_jobs, effort.most_jobs)
    if not effort.sized:
        return jobs
    values = case.measure(bench, peer, jobs)
    bench.samples.clear()  # nothing else is in there before the rounds of a case
    if case.sized_by is None:
        return jobs
    # With few jobs the start of a worker is most of it.
    rate = _rate(case, values)
    if jobs / rate < _SECOND_LOOK_SECONDS < effort.seconds_of(peer, case):
        jobs = min(int(rate * _SECOND_LOOK_SECONDS), effort.most_jobs)
        rate = _rate(case, case.measure(bench, peer, jobs))
    return max(_LEAST_JOBS, min(int(rate * effort.seconds_of(peer, case)), effort.most_jobs))


def _rate(case: Case, values: Mapping[str, float]) -> float:
    return values[case.sized_by or "rate"]


def _failed(case: Case, peer: Peer, error: PeerFailed, outcome: Outcome) -> None:
    _say(f"{case.name} {peer.name}: failed: {str(error).strip().splitlines()[-1]}")
    outcome.failures.append((case.name, peer.name, str(error)))


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
        "seconds of a run": f"{effort.seconds:g} for heimdex and the floor, {effort.peer_seconds:g} for a peer",
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
