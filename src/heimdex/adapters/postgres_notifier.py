"""Tells the processes that work on a PostgreSQL database of work, after the commits of this one."""

import time
from collections.abc import Callable, Collection
from threading import Event, Lock, Thread

import psycopg2

from heimdex.adapters.postgres_channel import OF_ANY_QUEUE, Channel, Complaint, payload_of

# After a notification for one commit, and after one for several: whoever finds work looks again by itself.
_PAUSE_SECONDS, _BUSY_PAUSE_SECONDS = 0.02, 0.05
# Who does little but create, where commits take long, would lose a part of them to notifications: where commits are
# more than this share of the time, a pause is so many times as long as one, and no longer than a quarter of a second.
_BUSY_SHARE, _COMMITS_IN_A_PAUSE, _LONGEST_PAUSE_SECONDS = 0.2, 12, 0.25
# How much of what was known of that share counts after one commit more: one slow commit is none of many.
_MEMORY = 0.9
# How long `close` waits for what is pending.
_CLOSE_SECONDS = 1.0
_FIRST_REST_SECONDS, _LONGEST_REST_SECONDS = 0.1, 30.0
# So many names are kept while they cannot be sent.
_MOST_QUEUES = 1_000


class Notifier:
    """Tells other processes: at once after a rest, else after a pause and for all in one.

    After a rest the caller's own thread sends, which is sooner than another one would run and wakes none. It waits for
    nothing: a thread connects, sends what came in a pause and what could not be sent.
    """

    def __init__(self, connect: Callable[[], Channel]) -> None:
        self.backend: int | None = None
        self._connect = connect
        self._lock = Lock()
        self._thread: Thread | None = None
        # The thread's, but for the time when it is at rest: then that of who has the lock.
        self._channel: Channel | None = None
        self._free_at = 0.0
        self._at_rest = False
        self._pending: set[str] = set()
        self._commits = 0
        self._told_at = time.monotonic()
        self._seconds = self._committing = 0.0
        self._shortest_pause = 0.0
        self._something = Event()
        self._closing = Event()
        self._rest = _FIRST_REST_SECONDS
        self._complain = Complaint("workers in other processes are not woken and find work when they poll: %s")

    def tell(self, queues: Collection[str], commit_seconds: float = 0.0) -> None:
        """Leave word; never waits for the database."""
        with self._lock:
            now = time.monotonic()
            self._seconds = _MEMORY * self._seconds + now - self._told_at
            self._committing = _MEMORY * self._committing + commit_seconds
            is_busy = self._committing > _BUSY_SHARE * self._seconds
            self._shortest_pause = min(_COMMITS_IN_A_PAUSE * commit_seconds, _LONGEST_PAUSE_SECONDS) if is_busy else 0.0
            self._told_at = now
            self._commits += 1
            self._add(queues)
            if self._at_rest and self._has_sent():
                return
            if self._thread is None:
                self._thread = Thread(target=self._run, name="heimdex-notify", daemon=True)
                self._thread.start()
        self._something.set()

    def close(self) -> None:
        """Send what is pending, if it takes no longer than a moment."""
        self._closing.set()
        self._something.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _add(self, queues: Collection[str]) -> None:
        self._pending.update(queues)
        if len(self._pending) > _MOST_QUEUES:
            self._pending = {OF_ANY_QUEUE}

    def _has_sent(self) -> bool:
        """Send what is pending, if that can be done without waiting; the answer is looked at before the next time."""
        now = time.monotonic()
        if self._channel is None or now < self._free_at:
            return False
        try:
            if not self._channel.is_settled():
                return False
            self._channel.notify(payload_of(frozenset(self._pending)))
        except psycopg2.Error:
            # The server has ended it while it rested: the thread sees to that.
            return False
        self._pending = set()
        self._commits = 0
        self._free_at = now + max(_PAUSE_SECONDS, self._shortest_pause)
        return True

    # In the thread

    def _run(self) -> None:
        while not self._closing.is_set():
            self._something.wait()
            with self._lock:
                self._at_rest = False
                self._something.clear()
            self._closing.wait(max(self._free_at - time.monotonic(), 0.0))
            self._send_pending()
            with self._lock:
                self._at_rest = not self._pending
                if self._pending:
                    self._something.set()
        with self._lock:
            self._at_rest = False
        self._send_pending()
        self._hang_up()

    def _send_pending(self) -> None:
        with self._lock:
            queues, self._pending = self._pending, set()
            commits, self._commits = self._commits, 0
        if not queues:
            return
        try:
            self._send(payload_of(frozenset(queues)))
        except Exception as error:  # noqa: BLE001 - whatever it is, creators go on and workers poll
            self._hang_up()
            self._complain(error)
            with self._lock:
                self._add(queues)
            pause, self._rest = self._rest, min(2 * self._rest, _LONGEST_REST_SECONDS)
        else:
            pause = max(_PAUSE_SECONDS if commits == 1 else _BUSY_PAUSE_SECONDS, self._shortest_pause)
            self._rest = _FIRST_REST_SECONDS
        self._free_at = time.monotonic() + pause

    def _send(self, payload: str) -> None:
        if self._channel is not None:
            try:
                self._channel.settle()
                self._channel.notify(payload)
                self._channel.settle()
            except psycopg2.Error:
                self._hang_up()
            else:
                return
        self._channel = self._connect()
        self.backend = self._channel.backend
        self._channel.notify(payload)
        self._channel.settle()

    def _hang_up(self) -> None:
        if self._channel is not None:
            self._channel.close()
        self._channel = None
