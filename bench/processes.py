"""The peers' processes: commands that answer, workers that are started and ended, and what a process tree occupies."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import frozen

from bench.catalogue import ROOT, Peer
from bench.protocol import STARTS

_STOP_SECONDS = 15.0


class PeerFailed(Exception):
    """A peer's command ended with an error, or not in time; the text ends with what it wrote."""


@frozen
class Runner:
    """Runs the peers' scripts. No command takes longer than `longest` seconds."""

    folder: Path
    longest: float

    def ask(self, peer: Peer, url: str, *arguments: str, **variables: str) -> dict[str, object]:
        """Run one command of a peer, and return its answer."""
        command = [str(peer.interpreter), str(peer.script), *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - our scripts
                command,
                capture_output=True,
                text=True,
                timeout=self.longest,
                check=False,
                env=_environment(peer, url, variables),
            )
        except subprocess.TimeoutExpired:
            raise PeerFailed(f"{peer.name} {' '.join(arguments)}: not done after {self.longest:.0f} s") from None
        if done.returncode:
            raise PeerFailed(f"{peer.name} {' '.join(arguments)}: {done.stderr.strip()[-2_000:]}")
        return parse_answer(done.stdout)

    @contextmanager
    def workers(self, peer: Peer, url: str, count: int, **variables: str) -> "Iterator[Workers]":
        """Run worker processes for as long as the block lasts."""
        marks = [self.folder / f"starts-{number}" for number in range(count)]
        running: list[subprocess.Popen[bytes]] = []
        with (self.folder / "worker.log").open("wb") as log:
            try:
                for mark in marks:
                    mark.unlink(missing_ok=True)
                    environment = _environment(peer, url, {"BENCH_STARTS": str(mark), **variables})
                    command = [str(peer.interpreter), str(peer.script), "worker"]
                    running.append(
                        subprocess.Popen(  # noqa: S603 - our scripts
                            command, stdout=log, stderr=log, env=environment, start_new_session=True
                        )
                    )
                workers = Workers(peer, self, marks, running)
                workers.check()
                yield workers
            finally:
                for process in running:
                    _end(process)

    def log_tail(self) -> str:
        """Return the end of what the last workers wrote."""
        return (self.folder / "worker.log").read_text(encoding="utf-8", errors="replace")[-2_000:]


@frozen
class Workers:
    """Worker processes that run, and the files in which each writes when its first job began, and how many have."""

    peer: Peer
    _runner: Runner
    _marks: list[Path]
    _processes: list[subprocess.Popen[bytes]]

    def check(self) -> None:
        """Look whether all of them still run.

        Raises:
            PeerFailed: one has ended by itself.
        """
        if ended := [process.returncode for process in self._processes if process.poll() is not None]:
            raise PeerFailed(f"{self.peer.name} worker: ended by itself with {ended}: {self._runner.log_tail()}")

    def first_start(self) -> int | None:
        """Return when the first job function began, in nanoseconds of the monotonic clock; None before that."""
        return min((first for first, _ in self._starts() if first), default=None)

    def begun(self) -> int:
        """Return how many job functions have begun. Threads that write at once may leave it a little low."""
        return sum(begun for _, begun in self._starts())

    def _starts(self) -> list[tuple[int, int]]:
        written = [mark.read_bytes() for mark in self._marks if mark.exists()]
        return [STARTS.unpack(numbers) for numbers in written if len(numbers) == STARTS.size]

    def memory(self) -> int:
        """Return what they and all processes below them occupy, in bytes."""
        return sum(tree_memory(process.pid) for process in self._processes)


def parse_answer(output: str) -> dict[str, object]:
    """Return the last line that is a JSON object; a peer's own library may have written before it.

    Raises:
        PeerFailed: there is none.
    """
    for line in reversed(output.splitlines()):
        if line.startswith("{"):
            answer = json.loads(line)
            if isinstance(answer, dict):
                return answer
    raise PeerFailed(f"no answer in {output[-500:]!r}")


def tree_memory(root: int) -> int:
    """Return the proportional set size, in bytes, of a process and all below it; 0 where the machine does not tell."""
    return sum(_pss(process) for process in _tree(root))


def _pss(process: int) -> int:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it has ended
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1_024 if found else 0


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything; the parent is the second field after it.
            parent = int(stat.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, rest = [], [root]
    while rest:
        process = rest.pop()
        found.append(process)
        rest.extend(children.get(process, ()))
    return found


def _environment(peer: Peer, url: str, variables: Mapping[str, str]) -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")]) if not peer.requirements else str(ROOT)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONPATH": path, "BENCH_DATABASE_URL": url, **peer.extra, **variables}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a worker to stop, then end what is left of the session that it leads."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            sys.stderr.write(f"process {process.pid} did not stop\n")
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # only ours: the worker leads its own session
    process.wait()
