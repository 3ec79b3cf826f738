"""Where the jobs are kept: a PostgreSQL, a Redis and a folder for SQLite, brought up once and fresh for each run."""

import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import psycopg2
from attrs import define, field
from psycopg2 import sql
from psycopg2.extensions import connection as Connection  # noqa: N812 - a class that the driver names in lower case
from psycopg2.extensions import parse_dsn

from bench.catalogue import Peer
from bench.processes import Runner
from heimdex.bootstrap import embedded_postgres

_START_SECONDS = 10.0


class Place(Protocol):
    """Keeps the jobs of one peer for one run."""

    url: str

    def settle(self) -> None:
        """Leave the jobs as a server finds them that has been up for a while: statistics gathered, nothing to write."""

    def unfinished(self, jobs: int) -> bool | None:
        """Return whether a job is not finished; None where only the peer itself can tell."""

    def hold_snapshot(self) -> None:
        """Open a transaction that sees the jobs as they are now, until the place is left."""


@define
class PostgresPlace:
    """A database of its own, copied from the one in which the peer was set up."""

    url: str
    question: str
    _connection: Connection
    _reader: Connection | None = None

    def settle(self) -> None:
        self._execute("VACUUM (ANALYZE)")
        self._execute("CHECKPOINT")

    def unfinished(self, jobs: int) -> bool | None:
        return bool(self._execute(self.question.format(jobs=jobs)))

    def hold_snapshot(self) -> None:
        self._reader = psycopg2.connect(self.url)
        self._reader.set_session(isolation_level="REPEATABLE READ")
        self._reader.cursor().execute("SELECT count(*) FROM pg_class")

    def analyze(self) -> None:
        self._execute("ANALYZE")

    def close(self) -> None:
        for connection in filter(None, (self._reader, self._connection)):
            connection.close()

    def _execute(self, statement: str) -> object:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return None if cursor.description is None else cursor.fetchone()[0]  # type: ignore[index]  # one row


@define
class SqlitePlace:
    url: str
    question: str
    _file: Path

    def settle(self) -> None:
        with closing(sqlite3.connect(self._file)) as connection:
            connection.execute("ANALYZE")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def unfinished(self, jobs: int) -> bool | None:
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=5)) as connection:
            return bool(connection.execute(self.question.format(jobs=jobs)).fetchone()[0])

    def hold_snapshot(self) -> None:
        raise NotImplementedError("only PostgreSQL keeps dead rows for a reader")


@define
class RedisPlace:
    url: str

    def settle(self) -> None:
        """Nothing is on disk and nothing is planned."""

    def unfinished(self, jobs: int) -> bool | None:  # noqa: ARG002 - the peer counts
        return None

    def hold_snapshot(self) -> None:
        raise NotImplementedError("only PostgreSQL keeps dead rows for a reader")


@define
class Places:
    """The servers of one run of the harness. `redis_url` is None where no Redis can be started."""

    postgres_url: str
    redis_url: str | None
    folder: Path
    _prepared: set[str] = field(factory=set)

    @contextmanager
    def fresh(self, peer: Peer, runner: Runner) -> Iterator[PostgresPlace | SqlitePlace | RedisPlace]:
        """Give an empty place for one run of one peer."""
        match peer.store:
            case "postgres":
                with self._fresh_postgres(peer, runner) as place:
                    yield place
            case "sqlite":
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    file = Path(folder) / "jobs.db"
                    shutil.copyfile(self._sqlite_template(peer, runner), file)
                    yield SqlitePlace(f"sqlite:///{file}", peer.unfinished or "", file)
            case _:
                assert self.redis_url is not None
                runner.ask(peer, self.redis_url, "clear")
                yield RedisPlace(self.redis_url)

    def _sqlite_template(self, peer: Peer, runner: Runner) -> Path:
        template = self.folder / f"{peer.folder}-template.db"
        if not template.exists():
            runner.ask(peer, f"sqlite:///{template}", "setup")
            with closing(sqlite3.connect(template)) as connection:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return template

    @contextmanager
    def _fresh_postgres(self, peer: Peer, runner: Runner) -> Iterator[PostgresPlace]:
        name = "bench_" + "".join(letter if letter.isalnum() else "_" for letter in peer.name)
        template, database = f"{name}_template", name
        if template not in self._prepared:
            self._recreate(template, "template0")
            runner.ask(peer, self._address(template), "setup")
            self._prepared.add(template)
        self._recreate(database, template)
        connection = _autocommitting(self._address(database))
        place = PostgresPlace(self._address(database), peer.unfinished or "", connection)
        try:
            yield place
        finally:
            place.close()
            self._drop(database)

    def drop_templates(self) -> None:
        for template in self._prepared:
            self._drop(template)

    def _address(self, database: str) -> str:
        return address(self.postgres_url, database)

    def _recreate(self, database: str, template: str) -> None:
        self._drop(database)
        self._run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(database), sql.Identifier(template)))

    def _drop(self, database: str) -> None:
        self._run(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def _run(self, statement: sql.Composed) -> None:
        with closing(_autocommitting(self.postgres_url)) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


def address(server: str, database: str) -> str:
    """Return the URL of a database of a server in the one form that every peer's driver reads.

    `postgresql://user@host:port/database`, or with the socket's folder as `?host=` behind an empty host.
    """
    parts = parse_dsn(server.replace("+psycopg2", "", 1))
    user, port = parts.get("user", "postgres"), parts.get("port", "5432")
    secret = f":{parts['password']}" if "password" in parts else ""
    host = parts.get("host", "127.0.0.1")
    if host.startswith("/"):
        return f"postgresql://{user}{secret}@/{database}?host={host}&port={port}"
    return f"postgresql://{user}{secret}@{host}:{port}/{database}"


@contextmanager
def open_places(postgres_url: str | None, *, with_redis: bool) -> Iterator[Places]:
    """Bring up what is not given. The embedded PostgreSQL has its own defaults: fsync and synchronous_commit are on."""
    with tempfile.TemporaryDirectory() as folder, _redis(with_redis) as redis_url:
        if postgres_url is None:
            with embedded_postgres() as (url, _):
                yield Places(address(url, "postgres"), redis_url, Path(folder))
            return
        places = Places(address(postgres_url, parse_dsn(postgres_url)["dbname"]), redis_url, Path(folder))
        try:
            yield places
        finally:
            places.drop_templates()


@contextmanager
def _redis(wanted: bool) -> Iterator[str | None]:  # noqa: FBT001 - private, one caller
    """Start a Redis of our own, which keeps nothing; None where the program is not installed."""
    program = shutil.which("redis-server") if wanted else None
    if program is None:
        yield None
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - Redis, on loopback
        try:
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(_START_SECONDS)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError("Redis does not answer")


def _autocommitting(url: str) -> Connection:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    return connection
