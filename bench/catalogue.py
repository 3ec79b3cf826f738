"""The peers: what each `peer.toml` says, and the environment that each runs in."""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from attrs import evolve, field, frozen

ROOT = Path(__file__).parents[1]
PEERS = ROOT / "bench" / "peers"
ENVIRONMENTS = ROOT / "build" / "bench"
STORES = frozenset({"postgres", "redis", "sqlite"})
_INSTALL_SECONDS = 600


@frozen
class Setting:
    what: str
    source: str


@frozen(kw_only=True)
class Peer:
    """One job system as it is measured.

    Args:
        folder: below `bench/peers`.
        requirements: what pip installs; empty for what runs in the harness's own environment.
        python: the oldest that it runs on, where that is newer than ours.
        unfinished: a query that answers whether any job is not finished; None where the peer's own `watch` is asked.
            `{jobs}` in it is how many were created.
        without: cases that it cannot take part in.
        only: the cases that it takes part in; None is all.
        tried: which other settings were tried, and what came of it.
        extra: variables of its own.
    """

    name: str
    folder: str
    store: str
    records: str
    lacks: str
    keys: str
    settings: tuple[Setting, ...]
    requirements: tuple[str, ...] = ()
    python: str | None = None
    unfinished: str | None = None
    without: frozenset[str] = frozenset()
    only: frozenset[str] | None = None
    tried: str | None = None
    is_floor: bool = False
    is_ours: bool = False
    extra: dict[str, str] = field(factory=dict)

    @property
    def script(self) -> Path:
        return PEERS / self.folder / "peer.py"

    @property
    def interpreter(self) -> Path:
        return ENVIRONMENTS / self.folder / "bin" / "python" if self.requirements else Path(sys.executable)


class CannotInstall(Exception):
    """A peer cannot be installed here; the text says why."""


def read_peer(folder: str, text: str) -> Peer:
    """Read a `peer.toml`.

    Raises:
        ValueError: it lacks something, has something unknown, or names a store that there is not.
    """
    said = tomllib.loads(text)
    said.pop("unfinished_sqlite", None)
    environment = said.pop("environment", None)
    known = {"name", "store", "records", "lacks", "keys", "settings"}
    if missing := known - said.keys():
        raise ValueError(f"{folder}/peer.toml lacks {', '.join(sorted(missing))}")
    if unknown := said.keys() - known - {"requirements", "python", "unfinished", "without", "is_floor", "tried"}:
        raise ValueError(f"{folder}/peer.toml has {', '.join(sorted(unknown))}, which nobody reads")
    if said["store"] not in STORES:
        raise ValueError(f"{folder}/peer.toml: the store {said['store']} is none of {', '.join(sorted(STORES))}")
    if (environment == "ours") == bool(said.get("requirements")):
        raise ValueError(f"{folder}/peer.toml: either requirements, or environment = 'ours'")
    return Peer(
        name=said["name"],
        folder=folder,
        store=said["store"],
        records=said["records"],
        lacks=said["lacks"],
        keys=said["keys"],
        settings=tuple(Setting(one["what"], one["source"]) for one in said["settings"]),
        requirements=tuple(said.get("requirements", ())),
        python=said.get("python"),
        unfinished=said.get("unfinished"),
        without=frozenset(said.get("without", ())),
        is_floor=said.get("is_floor", False),
        tried=said.get("tried"),
        is_ours=folder == "heimdex",
    )


def catalogue() -> list[Peer]:
    """Return every peer, ours first: also with row-level security on, and on SQLite. Then the floor, twice."""
    texts = {path.parent.name: path.read_text(encoding="utf-8") for path in sorted(PEERS.glob("*/peer.toml"))}
    peers = [read_peer(folder, text) for folder, text in texts.items()]
    ours = next(peer for peer in peers if peer.is_ours)
    walled = evolve(ours, name="heimdex, walled", extra={"BENCH_WALLED": "1"})
    on_sqlite = evolve(
        ours, name="heimdex, SQLite", store="sqlite", unfinished=tomllib.loads(texts["heimdex"])["unfinished_sqlite"]
    )
    floor = next(peer for peer in peers if peer.is_floor)
    wider = evolve(
        floor, name="floor, 2 connections", extra={"BENCH_SET_CONNECTIONS": "2"}, only=frozenset({"drain-1"})
    )
    return [ours, walled, on_sqlite, floor, wider, *(peer for peer in peers if not (peer.is_ours or peer.is_floor))]


def varied(peers: Sequence[Peer], wanted: Sequence[str]) -> list[Peer]:
    """Return peers beside which each stands once more for every value of a setting: `FOLDER:NAME=1,2,4`.

    Raises:
        ValueError: what is wanted has another form, or names no peer.
    """
    found = list(peers)
    for one in wanted:
        folder, _, assignment = one.partition(":")
        name, _, values = assignment.partition("=")
        of = [peer for peer in peers if peer.folder == folder and peer.store != "sqlite"]
        if not (of and name and values):
            raise ValueError(f"{one}: give FOLDER:NAME=1,2,4 with the folder of a chosen peer")
        found += [
            evolve(peer, name=f"{peer.name}, {name}={value}", extra={**peer.extra, f"BENCH_SET_{name}": value})
            for peer in of
            for value in values.split(",")
        ]
    return found


def install(peer: Peer) -> None:
    """Make the peer's environment, unless one with the same requirements is there.

    Raises:
        CannotInstall: no Python that is new enough, or pip does not find what is asked for.
    """
    if peer.requirements:
        make_environment(ENVIRONMENTS / peer.folder, peer.requirements, peer.python)


def make_environment(folder: Path, requirements: Sequence[str], oldest_python: str | None = None) -> Path:
    """Make an environment with these requirements, unless it is there; return its interpreter.

    Raises:
        CannotInstall: as `install`.
    """
    interpreter, mark = folder / "bin" / "python", folder / "installed"
    wanted = "\n".join([oldest_python or "", *requirements])
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return interpreter
    _run([_python(oldest_python), "-m", "venv", "--clear", folder])
    _run([interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
    mark.write_text(wanted, encoding="utf-8")
    return interpreter


def _python(oldest: str | None) -> Path:
    """Return a Python of at least this version: ours, one on the PATH, or one that pyenv keeps."""
    if oldest is None or sys.version_info >= tuple(int(part) for part in oldest.split(".")):
        return Path(sys.executable)
    major, _, minor = oldest.partition(".")
    for newer in range(int(minor), int(minor) + 4):
        if found := shutil.which(f"python{major}.{newer}"):
            usable = subprocess.run([found, "--version"], capture_output=True, check=False)  # noqa: S603 - a Python of this machine
            if usable.returncode == 0:  # pyenv puts programs on the PATH that only say that they are not chosen
                return Path(found)
        kept = sorted((Path.home() / ".pyenv" / "versions").glob(f"{major}.{newer}.*/bin/python"))
        if kept:
            return kept[-1]
    raise CannotInstall(f"it needs Python {oldest} or newer")


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run(  # noqa: S603 - venv and pip, with the requirements of this folder
        command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
    )
    if done.returncode:
        raise CannotInstall(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}")
