"""Wake-ups between processes on PostgreSQL. Two applications stand for two processes, except where one is forked."""

import json
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from textwrap import dedent
from threading import Thread, current_thread
from time import monotonic, sleep

import psycopg2
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from heimdex.adapters.database import EngineSettings
from heimdex.adapters.postgres_channel import Channel, payload_of, queues_of
from heimdex.adapters.postgres_notifier import (
    _BUSY_PAUSE_SECONDS,
    _LONGEST_PAUSE_SECONDS,
    _MOST_QUEUES,
    _PAUSE_SECONDS,
    Notifier,
)
from heimdex.adapters.sql_store import open_wakeups
from heimdex.bootstrap import Application, bootstrap
from heimdex.config import Settings
from heimdex.domain.outcomes import Release
from heimdex.domain.results import Ending
from heimdex.domain.scope import Tenant
from tests.adapters.renewing_steps import LEASE, ORG, SYSTEM, WORKER, wait_until
from tests.sql_stores import admin_connection

OURS = Tenant(ORG, actor="user@example.com")
# As long as something that must not happen is waited for.
A_WHILE = 0.3


@contextmanager
def application(url: str, name: str) -> Iterator[Application]:
    with bootstrap(Settings(database_url=url, application_name=name)) as app:
        yield app


@pytest.fixture
def writer(bare_postgres_url: str) -> Iterator[Application]:
    with application(bare_postgres_url, "writer") as app:
        yield app


@pytest.fixture
def reader(bare_postgres_url: str) -> Iterator[Application]:
    with application(bare_postgres_url, "reader") as app:
        yield app


class Ear:
    """What one subscription hears, from when listening has begun: the first one hears that."""

    def __init__(self, app: Application, *queues: str) -> None:
        self.count = 0
        is_first = not vars(app.wakeups)["_subscriptions"]
        self.unsubscribe = app.wakeups.subscribe(self._hear, queues or None)
        if is_first:
            self.wait()

    def _hear(self) -> None:
        self.count += 1

    def wait(self) -> None:
        """Wait for a wake-up, and begin to count anew."""
        wait_until(lambda: self.count)
        self.count = 0


@pytest.fixture
def ear(reader: Application) -> Iterator[Ear]:
    ear = Ear(reader)
    yield ear
    ear.unsubscribe()


class Wire:
    """A connection that hears every notification."""

    def __init__(self, url: str) -> None:
        self._connection = admin_connection(url)
        with self._connection.cursor() as cursor:
            cursor.execute("LISTEN heimdex_public")

    def heard(self) -> "list[psycopg2.extensions.Notify]":
        """Return what has come so far."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return list(self._connection.notifies)

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def wire(bare_postgres_url: str) -> Iterator[Wire]:
    wire = Wire(bare_postgres_url)
    yield wire
    wire.close()


def create(app: Application, queue: str = "default") -> None:
    with app.unit_of_work(OURS) as uow:
        uow.jobs.create("t", queue=queue)


def backends(url: str, name: str, last_statement: str) -> list[int]:
    """Return the connections of an application whose last statement was this one."""
    connection = admin_connection(url)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = %s AND datname = current_database() AND query LIKE %s",
            (name, last_statement),
        )
        found = [pid for (pid,) in cursor.fetchall()]
    connection.close()
    return found


def end(url: str, pids: list[int]) -> None:
    connection = admin_connection(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid, 5000) FROM unnest(%s) AS pid", (pids,))
    connection.close()


LISTENS, NOTIFIED = "LISTEN%", "NOTIFY%"


# What is told


def test_a_commit_wakes_who_listens_elsewhere(writer: Application, ear: Ear) -> None:
    create(writer)
    ear.wait()


def test_what_was_rolled_back_is_told_to_nobody(writer: Application, ear: Ear, wire: Wire) -> None:
    with writer.unit_of_work(OURS) as uow:
        uow.jobs.create("t", queue="undone")
        uow.rollback()
    create(writer, "done")
    ear.wait()

    assert [one.payload for one in wire.heard()] == ['["done"]']


def test_a_job_that_is_given_back_is_told(writer: Application, ear: Ear) -> None:
    create(writer)
    ear.wait()
    with writer.unit_of_work(SYSTEM) as uow:
        [job] = uow.jobs.claim_due(worker=WORKER, types=["t"], lease=LEASE, limit=1)
    with writer.unit_of_work(SYSTEM) as uow:
        uow.jobs.finish([Ending(job, Release("the worker stops"))])
    ear.wait()


def test_a_joined_transaction_is_told_with_its_commit(
    bare_postgres_url: str, writer: Application, ear: Ear, wire: Wire
) -> None:
    engine = create_engine(bare_postgres_url)
    with Session(engine) as session:
        with writer.join(session, OURS) as uow:
            uow.jobs.create("t", queue="joined")
        create(writer, "before")
        ear.wait()
        session.commit()
    ear.wait()
    engine.dispose()

    assert [one.payload for one in wire.heard()] == ['["before"]', '["joined"]']


def test_who_writes_wakes_its_own_listeners_once(reader: Application, writer: Application, ear: Ear) -> None:
    create(reader)
    create(writer)
    wait_until(lambda: ear.count >= 2)
    sleep(A_WHILE)

    assert ear.count == 2


def test_who_serves_other_queues_is_not_woken(reader: Application, writer: Application) -> None:
    mail = Ear(reader, "mail")
    video = Ear(reader, "video", "audio")
    create(writer, "audio")
    video.wait()
    mail.unsubscribe()
    video.unsubscribe()

    assert mail.count == 0


@pytest.mark.parametrize("payload", ["", "mail", "[1", "7"])
def test_a_notification_by_hand_wakes_for_every_queue(
    bare_postgres_url: str, reader: Application, payload: str
) -> None:
    mail = Ear(reader, "mail")
    connection = admin_connection(bare_postgres_url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('heimdex_public', %s)", (payload,))
    connection.close()
    mail.wait()
    mail.unsubscribe()


def test_names_of_queues_arrive_as_they_were_sent() -> None:
    names = frozenset({"mail", "a,b", 'the "best"', "Bücher", "本"})

    assert queues_of([payload_of(names), payload_of(frozenset({"other"}))]) == {*names, "other"}


def test_a_name_with_quotes_arrives_over_the_wire(writer: Application, ear: Ear, wire: Wire) -> None:
    name = """'Bücher' \\ "und" %s mehr"""
    create(writer, name)
    ear.wait()

    assert queues_of([one.payload for one in wire.heard()]) == {name}


def test_too_many_names_are_any() -> None:
    payload = payload_of(frozenset(f"queue {number}" for number in range(200)))

    assert (payload, queues_of([payload])) == ("", None)


def test_a_schema_of_its_own_has_a_channel_of_its_own(bare_postgres_url: str) -> None:
    admin = admin_connection(bare_postgres_url)
    with admin.cursor() as cursor:
        cursor.execute("CREATE SCHEMA apart; CREATE TABLE apart.job (); CREATE ROLE elsewhere SUPERUSER LOGIN")
        cursor.execute("ALTER ROLE elsewhere SET search_path = apart; LISTEN heimdex_apart")
    url = make_url(bare_postgres_url).set(username="elsewhere").render_as_string(hide_password=False)
    wakeups = open_wakeups(url, EngineSettings())
    wakeups.wake(["mail"])
    wakeups.close()
    with admin.cursor() as cursor:
        cursor.execute("DROP SCHEMA apart CASCADE; DROP ROLE elsewhere")
    admin.close()

    assert [one.payload for one in admin.notifies] == ['["mail"]']


# How often, and who is held up


def test_a_burst_is_told_in_few_notifications(writer: Application, wire: Wire) -> None:
    create(writer)
    wait_until(wire.heard)
    began = monotonic()
    for _ in range(1_000):
        writer.wakeups.wake(["mail"])
    # Where the machine is busy a thousand calls take their time.
    pauses = (monotonic() - began) / _PAUSE_SECONDS
    writer.wakeups.close()

    assert 1 <= len(wire.heard()) - 1 <= 3 + pauses


def test_a_burst_of_creations_is_told_in_few_notifications(writer: Application, wire: Wire) -> None:
    began = monotonic()
    for _ in range(200):
        create(writer)
    pauses = (monotonic() - began) / _PAUSE_SECONDS
    writer.wakeups.close()

    assert 1 <= len(wire.heard()) <= 3 + pauses


def told_and_waked(writer: Application, wire: Wire, *, commit_seconds: float, every: float) -> tuple[int, int]:
    """Wake for a second, and return how often others were told and how often it was said."""
    create(writer)
    wait_until(wire.heard)
    sleep(_LONGEST_PAUSE_SECONDS)
    before, waked = len(wire.heard()), 0
    end = monotonic() + 1
    while monotonic() < end:
        writer.wakeups.wake(["mail"], commit_seconds=commit_seconds)
        waked += 1
        sleep(every)
    writer.wakeups.close()
    return len(wire.heard()) - before, waked


def test_who_does_little_but_commit_tells_less_often(writer: Application, wire: Wire) -> None:
    told, _ = told_and_waked(writer, wire, commit_seconds=30.0, every=_PAUSE_SECONDS)

    assert 2 <= told <= 1 / _LONGEST_PAUSE_SECONDS + 2


def test_who_commits_slowly_and_seldom_tells_each_time(writer: Application, wire: Wire) -> None:
    told, waked = told_and_waked(writer, wire, commit_seconds=0.02, every=0.15)

    assert told == waked


def test_after_a_rest_who_writes_sends_and_no_other_thread_is_waited_for(writer: Application) -> None:
    senders: list[Thread] = []

    class Watched(Channel):
        def notify(self, payload: str) -> None:
            senders.append(current_thread())
            super().notify(payload)

    [arguments] = vars(writer.wakeups)["_connect"].args
    notifier = Notifier(partial(Watched, arguments))
    notifier.tell(["first"])
    wait_until(lambda: senders)
    sleep(_BUSY_PAUSE_SECONDS + A_WHILE)
    notifier.tell(["second"])
    notifier.tell(["third"])
    notifier.close()
    of_us = [sender is current_thread() for sender in senders]

    assert of_us == [False, True, False]


def test_closing_sends_what_is_pending(bare_postgres_url: str, wire: Wire) -> None:
    with application(bare_postgres_url, "short") as app:
        for queue in ("one", "two", "three"):
            create(app, queue)
    heard = queues_of([one.payload for one in wire.heard()])

    assert heard == {"one", "two", "three"}


def test_a_server_that_does_not_answer_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql+psycopg2://postgres@127.0.0.1:{server.getsockname()[1]}/nowhere"
        wakeups = open_wakeups(url, EngineSettings())
        began = monotonic()
        for _ in range(1_000):
            wakeups.wake(["mail"])
        waked = monotonic()
        wakeups.close()
        closed = monotonic()

    assert waked - began < 1
    assert closed - waked < 2


def test_a_server_that_is_not_there_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    wakeups = open_wakeups(f"postgresql+psycopg2://postgres@127.0.0.1:{port}/nowhere", EngineSettings())
    with caplog.at_level(logging.WARNING, logger="heimdex.wakeups"):
        unsubscribe = wakeups.subscribe(lambda: None)
        wakeups.wake(["mail"])
        # By then each has tried more than once.
        sleep(4 * A_WHILE)
        unsubscribe()
        wakeups.close()
    # A notifier of an earlier test, whose server is gone, may complain meanwhile of that one.
    complaints = [record.getMessage().partition(":") for record in caplog.records]
    told = sorted(what for what, _, why in complaints if "refused" in why)

    assert told == [
        "wake-ups of other processes are not heard, looking again; polling goes on",
        "workers in other processes are not woken and find work when they poll",
    ]


def test_names_that_cannot_be_sent_are_bounded() -> None:
    wakeups = open_wakeups("postgresql+psycopg2://postgres@127.0.0.1:1/nowhere", EngineSettings())
    for number in range(_MOST_QUEUES + 1):
        wakeups.wake([f"queue {number}"])
    pending = len(vars(wakeups)["_notifier"]._pending)
    wakeups.close()

    assert pending < _MOST_QUEUES


# Connections


def test_who_only_reads_has_no_connection_for_wake_ups(bare_postgres_url: str, writer: Application) -> None:
    with writer.views(OURS) as views:
        views.statistics()

    assert backends(bare_postgres_url, "writer", LISTENS) == []
    assert backends(bare_postgres_url, "writer", NOTIFIED) == []


def test_who_unsubscribes_last_ends_the_listening(bare_postgres_url: str, reader: Application) -> None:
    first, second = Ear(reader), Ear(reader)
    assert len(backends(bare_postgres_url, "reader", LISTENS)) == 1
    first.unsubscribe()
    assert len(backends(bare_postgres_url, "reader", LISTENS)) == 1
    second.unsubscribe()

    wait_until(lambda: not backends(bare_postgres_url, "reader", LISTENS))


def test_a_lost_listener_connects_again_and_wakes_for_what_it_missed(
    bare_postgres_url: str, writer: Application, ear: Ear
) -> None:
    [before] = backends(bare_postgres_url, "reader", LISTENS)
    end(bare_postgres_url, [before])
    ear.wait()
    [after] = backends(bare_postgres_url, "reader", LISTENS)
    create(writer)
    ear.wait()

    assert before != after


def test_a_lost_notifier_connects_again(bare_postgres_url: str, writer: Application, ear: Ear) -> None:
    create(writer)
    ear.wait()
    wait_until(lambda: backends(bare_postgres_url, "writer", NOTIFIED))
    end(bare_postgres_url, backends(bare_postgres_url, "writer", NOTIFIED))
    create(writer)
    ear.wait()


def test_nobody_waits_for_the_disk_that_keeps_a_notification(writer: Application, ear: Ear) -> None:
    create(writer)
    ear.wait()
    channel = vars(writer.wakeups)["_notifier"]._channel
    channel.settle()
    channel._cursor.execute("SHOW synchronous_commit")
    channel.settle()

    assert channel._cursor.fetchone() == ("off",)


_FORKING = dedent("""
    import json, os, sys, time
    from threading import Event
    from heimdex.adapters.database import EngineSettings
    from heimdex.adapters.sql_store import open_wakeups

    wakeups = open_wakeups(sys.argv[1], EngineSettings())
    heard = Event()
    unsubscribe = wakeups.subscribe(heard.set)
    heard.wait(30)
    wakeups.wake(["before"])
    fork = os.fork()
    if fork == 0:
        wakeups.wake(["child"])
        ours = wakeups.subscribe(heard.set)
        wakeups.close()
        os._exit(0)
    _, status = os.waitpid(fork, 0)
    wakeups.wake(["parent"])
    heard.clear()
    print("waiting", flush=True)
    sys.stdin.readline()
    found = heard.wait(30)
    unsubscribe()
    wakeups.close()
    print(json.dumps([status, found]), flush=True)
""")


def test_a_forked_child_has_connections_of_its_own_and_leaves_its_parents_alone(
    bare_postgres_url: str, writer: Application, wire: Wire
) -> None:
    command = [sys.executable, "-c", _FORKING, bare_postgres_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "waiting\n"
            create(writer, "elsewhere")
            answer, _ = process.communicate("\n", timeout=60)
        finally:
            process.kill()
    heard = {one.payload: one.pid for one in wire.heard()}

    assert json.loads(answer) == [0, True]
    assert set(heard) == {f'["{name}"]' for name in ("before", "child", "parent", "elsewhere")}
    assert heard['["before"]'] == heard['["parent"]'] != heard['["child"]']
